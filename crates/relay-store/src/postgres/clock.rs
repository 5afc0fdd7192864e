//! The database's clock, in SQL. Relays on one store agree on times by it, though their own clocks may differ.

use jiff::Timestamp;

/// The clock that decides what is due and when leases end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseClock {
    /// The database's clock. The clocks of relays need not agree.
    Database,
    /// The clock of the caller, for tests in which time stands still.
    Caller,
}

impl LeaseClock {
    /// Returns the time to judge claims by, for [`claim_now`], or `None` for the database's clock.
    pub(super) fn now(self, now: Timestamp) -> Option<i64> {
        match self {
            Self::Database => None,
            Self::Caller => Some(now.as_millisecond()),
        }
    }
}

/// SQL for the time to judge claims by, in milliseconds: the parameter's, from [`LeaseClock::now`], or else the time
/// at which the transaction began.
macro_rules! claim_now {
    ($given:literal) => {
        concat!(
            "coalesce(",
            $given,
            "::bigint, floor(extract(epoch FROM now()) * 1000)::bigint)"
        )
    };
}
pub(super) use claim_now;

/// SQL for the present time, in milliseconds. It goes on during a transaction.
macro_rules! millis_now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
pub(super) use millis_now;

/// SQL for the present time, in microseconds. It goes on during a transaction.
macro_rules! micros_now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}
pub(super) use micros_now;
