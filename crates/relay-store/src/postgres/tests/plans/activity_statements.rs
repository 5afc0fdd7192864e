//! The statements about what the relays did over time, with values that occur in the tables that `fill.sql` fills.

use super::statements::{PlannedStatement, statements};
use crate::postgres::activity;

/// Returns the statements that store, list and delete counts.
pub(super) fn of_activity() -> Vec<PlannedStatement> {
    statements! {
        3 of activity::RECORD("texts('minute', 3), ARRAY[1799999940000, 1799999880000, 1800000000000], \
            bytes(id(9), 3), texts('{}', 3)");
        720 of activity::LIST("'minute', 1799978400000");
        340 of activity::LIST("'host', 1799395200000");
        200 of activity::PURGE("1799400000000, 200");
    }
}
