//! Limits the request rate of each client.

use std::num::NonZeroU32;

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use relay_domain::ClientId;

use crate::web::{problem::Problem, problem_code::ProblemCode};

/// Counts the requests of each client. It keeps one number for each client in memory, so each relay applies the
/// limit on its own.
#[derive(Debug)]
pub struct ClientLimits {
    limiter: DefaultKeyedRateLimiter<ClientId>,
    per_second: NonZeroU32,
}

impl ClientLimits {
    /// Allows each client `per_second` requests a second, and bursts of the same size.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::keyed(Quota::per_second(per_second)),
            per_second,
        }
    }

    /// Counts a request. Over the limit, returns a problem with a `Retry-After` header.
    pub fn check(&self, client: ClientId) -> Result<(), Problem> {
        self.limiter.check_key(&client).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let detail = format!("At most {} requests a second.", self.per_second);
            Problem::new(ProblemCode::TooManyRequests, detail).retry_after(seconds.max(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_burst_is_free_and_clients_do_not_share() {
        let limits = ClientLimits::new(3);
        for _ in 0..3 {
            assert!(limits.check(ClientId(1)).is_ok());
        }
        let problem = limits.check(ClientId(1)).unwrap_err();
        assert_eq!(problem.code(), ProblemCode::TooManyRequests);
        assert!(limits.check(ClientId(2)).is_ok());
    }
}
