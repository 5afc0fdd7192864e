//! The statements of deliveries and of the upkeep, with values that occur in the tables that `fill.sql` fills.

use super::statements::{PlannedStatement, statements};
use crate::postgres::{attempts, deliveries, outbox, upkeep};

/// Returns the statements of deliveries and of the upkeep.
pub(super) fn of_deliveries() -> Vec<PlannedStatement> {
    statements! {
        256 of outbox::DUE("'{}', 1800000000000, 8, 256, '{}'");
        256 of outbox::LEASE("ids(995001, 256), 1800000000000, id(1), 30000");
        1 of outbox::PUT_OFF("ids(995001, 1), 1800000000000");
        50 of outbox::NEXT_DUE("'{}'");
        100 of attempts::JOBS("ids(995000, 100)");
        100 of attempts::TRIED("ids(995000, 100)");
        300 of attempts::RECORD("ids(995000, 100), texts('dead', 100), texts('[]', 100), \
            numbers(1800000000000, 100), ids(995000, 50), ids(995000, 50), \
            ids(995050, 50), ids(995050, 50), bytes(id(7), 50), numbers(1800000000000, 50), \
            numbers(2, 50)");
        100 of attempts::RECORD("ids(900001, 100), texts('delivered', 100), texts('[]', 100), \
            numbers(1800000000000, 100), '{}', '{}', '{}', '{}', '{}', '{}', '{}'");
        1 of attempts::END_WATCH("id(700001), 1800000000000");
        1 of deliveries::LOCK_WATCH("id(930000), NULL, NULL");
        1 of deliveries::LOCK_WATCH("NULL, id(930000), 7");
        1 of deliveries::LATEST("id(930000), id(930000)");
        1 of deliveries::TRY_SOONER("id(995001), id(995001), 1800000000000");
        1 of deliveries::REQUEUE("id(930001), 1800000000000");
        5 of deliveries::LOCK_DEAD("1799900000000, 7");
        5 of deliveries::REQUEUE_DEAD("1799900000000, 7, 1800000000000");
        400 of deliveries::LOCK_DEAD("1799900000000, NULL");
        400 of deliveries::LOCK_DEAD_SUBSCRIPTIONS("1799900000000, NULL");
        400 of deliveries::REQUEUE_DEAD("1799900000000, NULL, 1800000000000");
        100 of deliveries::SENDABLE("ids(700000, 100)");
        100 of deliveries::LOCK_CHOSEN("ids(700000, 100)");
        100 of deliveries::LOCK_CHOSEN_SUBSCRIPTIONS("ids(700000, 100)");
        100 of deliveries::REQUEUE_CHOSEN("ids(700000, 100), 1800000000000");
        200 of upkeep::PURGE("1798000000000, id(300000), 200");
        200 of upkeep::LOCK_JOBS("jobs(1, 200)");
        200 of upkeep::PURGE_JOBS("jobs(1, 200)");
        1 of upkeep::PURGE_HOSTS("1798000000000");
        100 of upkeep::PURGE_FAILURES("1797409300000");
        24000 of upkeep::COUNTS("1800000000000");
        24000 of upkeep::DEAD("");
        32000 of upkeep::STATES("");
        1 of upkeep::PING("7");
    }
}
