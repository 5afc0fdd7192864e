//! The statements that follow a clock that was set back, with values that occur in the tables that `fill.sql` fills.

use super::statements::{PlannedStatement, statements};
use crate::postgres::clock_step;

/// Returns the statements of a step by an hour. `fill.sql` ends at the time that the clock shows after it.
pub(super) fn of_clock_steps() -> Vec<PlannedStatement> {
    statements! {
        1 of clock_step::NOTE("1800000000000, 1000, 15000, 2000");
        1 of clock_step::PROLONG("1800000000000, 1800000000000, 15000");
        1 of clock_step::END("1800000000000, 1800000000000");
        1 of clock_step::UPSTREAM("1800003600000000, 1800000000000000");
        1 of clock_step::RELAYS("1800003600000, 1800000000000");
        1 of clock_step::TOKENS("1800003600000, 1800000000000");
        14 of clock_step::HOSTS("1800003600000, 1800000000000");
        3 of clock_step::OUTAGES("1800003600000, 1800000000000");
        1 of clock_step::ERASURES("1800003600000, 1800000000000");
        2000 of clock_step::OUTBOX("1800003600000, 1800000000000, '', 2000");
        2000 of clock_step::JOBS("1800003600000, 1800000000000, 'job-0930000', 2000");
        2000 of clock_step::LISTS("1800003600000, 1800000000000, 'user-5', 2000");
        2000 of clock_step::MEMORIES("jobs(930000, 2000)");
        2000 of clock_step::KEEP_MEMORIES("jobs(930000, 2000), texts('{}', 2000)");
    }
}
