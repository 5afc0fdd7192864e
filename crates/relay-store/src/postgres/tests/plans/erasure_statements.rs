//! The statements of erasures, with values that occur in the tables that `fill.sql` fills. The searches through texts
//! are not among them: an operator starts them, and they read all notices and all waiting messages.

use super::statements::{PlannedStatement, statements};
use crate::postgres::erasure;

/// Returns the statements of erasures.
pub(super) fn of_erasures() -> Vec<PlannedStatement> {
    statements! {
        2 of erasure::REMEMBER("ARRAY['\\x01'::bytea, '\\x02'::bytea], 1800000000000");
        1 of erasure::ANY("");
        2 of erasure::ERASED("ARRAY['\\x01'::bytea, '\\x02'::bytea]");
        4 of erasure::CONNECTIONS("ARRAY['user-50000']");
        2 of erasure::USERS("ARRAY['user-50000'], ARRAY['connection-100000']");
        1 of erasure::LOCK_LISTS("ARRAY['user-50000']");
        2 of erasure::SUBSCRIPTIONS("ARRAY['user-50000'], ARRAY['connection-100000']");
        8 of erasure::JOBS("ARRAY['user-50000'], ARRAY['connection-100000'], ARRAY[id(50000)]");
        20 of erasure::LOCK_WATCHES("jobs(930000, 20), 1900000000000");
        20 of erasure::DELETE_EVENTS("ARRAY[id(700000), id(700001)]");
        2 of erasure::DELETE_WATCHES("ARRAY[id(700000), id(700001)]");
        2 of erasure::WATCHED("ARRAY['job-0930000', 'job-0930001']");
        1 of erasure::DELETE_SUBSCRIPTIONS("ARRAY[id(50000)]");
        2 of erasure::DELETE_NOTICES("ARRAY[id(4000007)], ARRAY[id(50000)]");
        1 of erasure::DELETE_MESSAGES("ARRAY[id(4000007)]");
        6 of erasure::FORGET_CONNECTIONS("ARRAY['connection-100000'], ARRAY[100000]::bigint[]");
    }
}
