//! The statements of subscriptions, with values that occur in the tables that `fill.sql` fills.

use super::statements::{PlannedStatement, statements};
use crate::postgres::{
    attempts, deliveries, discovery, hints, notices, subscription_ends, subscriptions, upkeep,
    watches,
};

/// Returns the statements of subscriptions, lists of jobs, notices and messages.
pub(super) fn of_subscriptions() -> Vec<PlannedStatement> {
    statements! {
        1 of subscriptions::ONE("id(50000), NULL");
        1 of subscriptions::ACTIVE("'user-50000'");
        1 of subscriptions::SAME("'user-50000', 1, 'https://host1.example/hooks', NULL");
        1 of subscriptions::IS_REVOKED("1");
        1000 of subscriptions::COUNT("1, 100000");
        1 of subscriptions::ADD("id(3000000), 1, 'user-1', NULL, 'https://host1.example/other', 'host1.example', \
            15, 63, 'en', '{}', 1800000000000");
        1 of subscriptions::MAKE_DUE("'user-50000', 1800000000000");
        1 of subscription_ends::LOCK_LIST("id(50000)");
        2 of subscription_ends::END("ARRAY[id(50000), id(50001)], 1800000000000");
        1 of subscription_ends::REST_LISTS("ARRAY['user-50000']");
        2 of subscription_ends::OPEN_WATCHES("id(50000)");
        2 of subscription_ends::HOLD_WATCHES("ARRAY[id(50000), id(50001)], id(50000)");
        4 of subscription_ends::FORGET_JOBS("id(50000), ARRAY['job-1', 'job-2']");
        1 of subscription_ends::LIST_SOON("id(50000), 1800000000000");
        2 of watches::CANCEL_EVENTS("ARRAY[id(50000)], 1800000000000");
        1000 of subscription_ends::ACTIVE_OF_CLIENT("1");
        1 of notices::COUNT_NOTICE("id(50000)");
        1 of notices::ADD_NOTICE("id(3000000), id(50000), 1, 1800000000000, '{}'");
        100 of discovery::LEASE("1800000000000, 100, id(1), 30000");
        1 of discovery::NEXT_DUE("");
        3 of discovery::CLIENTS("ARRAY['user-50000', 'user-50001', 'user-50002']");
        1 of discovery::HOLD("ARRAY['user-50000'], ARRAY[id(7)]");
        20 of discovery::HISTORY("id(50000), jobs(930000, 20), 1, 'https://host1.example/hooks'");
        20 of discovery::SEE("bytes(id(50000), 20), jobs(930000, 20), numbers(1800000000000, 20)");
        1 of discovery::LISTED("'user-50000', 1800000000000, 1800000000000");
        1 of discovery::NOT_LISTED("'user-50000', 1800000000000, 1800000000000, NULL");
        2 of discovery::PUT_OFF("ARRAY['user-50000', 'user-50001'], 1800000000000");
        1 of hints::DUE_LIST("'user-50000', 1800000000000, 10000");
        1 of hints::LOCK_LIST("'user-50000'");
        1 of hints::USER_OF_CONNECTION("'connection-470000'");
        1 of hints::ADD_MESSAGE("id(3000000), 1800000000000, '{}', 'https://a.example/', 'a.example', '{}', ''");
        1 of attempts::LOCK_SUBSCRIPTIONS("ARRAY[id(50000)]");
        1 of attempts::QUEUE_NEXT("ARRAY[id(50000)], numbers(1800000000000, 1)");
        1 of attempts::FORGET_MESSAGES("ARRAY[id(4000007)]");
        1 of deliveries::FROM_BASIQ("id(4000007), NULL");
        200 of upkeep::PURGE_SUBSCRIPTIONS("1798000000000, 200");
        200 of upkeep::PURGE_FROM_BASIQ("1798000000000, 200");
        1 of upkeep::PURGE_ERASURES("1798000000000");
        200 of upkeep::PURGE_SEEN("1798000000000, 200");
    }
}
