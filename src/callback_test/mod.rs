//! Tests a callback: posts a signed `relay.test` event now, and says what happened and what to do about it.
//!
//! The event is not stored. A test takes the same way as a delivery: address guard, proxy, and the limits of its host.

mod advice;
mod event;

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use relay_domain::{AttemptError, CallbackUrl, Client, ClientId, EventId, clock::Clock};
use relay_store::DeliverySigner;
use tracing::info;

pub use self::event::{TEST_EVENT, TestEventBody, TestEventType};
use crate::{
    config::DeliveryConfig,
    delivery::{DeliveryError, MessageResult, PresentedAuth, SignedMessage, SingleSender},
};

/// The number of tests that one client may make in a minute. All of them may come at once.
const TESTS_A_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// Tests callbacks for clients. It counts the tests of each client in memory, so each relay limits them on its own.
#[derive(Clone)]
pub struct CallbackTester {
    sender: SingleSender,
    clock: Clock,
    limiter: Arc<DefaultKeyedRateLimiter<ClientId>>,
}

/// The outcome of a test of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// The HTTP status of the callback, if it responded.
    pub status: Option<u16>,
    /// Why the test failed; none after a 2xx.
    pub error: Option<CallbackTestError>,
    /// How long the test took.
    pub duration: Duration,
    /// The address that responded, or else the first one that was tried.
    pub address: Option<IpAddr>,
    /// What to do, in one sentence.
    pub advice: &'static str,
}

/// Why a test failed. A delivery to the callback would have failed for the same reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackTestError {
    /// The attempt failed.
    Attempt(AttemptError),
    /// As many attempts to the host are in flight as may be, so nothing was sent.
    Busy,
}

impl CallbackTestError {
    /// Returns the word for the error in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempt(error) => error.as_str(),
            Self::Busy => "busy",
        }
    }
}

/// A test that the client's limit admits, and that is not made yet.
#[must_use]
pub struct AdmittedTest<'a> {
    tester: &'a CallbackTester,
    client: &'a Client,
}

/// A client has made too many tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTests {
    /// The number of tests that a client may make in a minute.
    pub per_minute: u32,
    /// Seconds after which the next test may be made.
    pub retry_after: u64,
}

impl CallbackTester {
    /// Creates a tester that posts by `sender`.
    #[must_use]
    pub fn new(sender: SingleSender, clock: Clock) -> Self {
        Self {
            sender,
            clock,
            limiter: Arc::new(RateLimiter::keyed(Quota::per_minute(TESTS_A_MINUTE))),
        }
    }

    /// Creates a tester with limits of its own, beside no delivery worker.
    pub fn alone(config: &DeliveryConfig, clock: Clock) -> Result<Self, DeliveryError> {
        Ok(Self::new(SingleSender::alone(config)?, clock))
    }

    /// Counts a test of the client. Fails if the client has made too many.
    pub fn admit<'a>(&'a self, client: &'a Client) -> Result<AdmittedTest<'a>, TooManyTests> {
        self.limiter.check_key(&client.id).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            TooManyTests {
                per_minute: TESTS_A_MINUTE.get(),
                retry_after: wait.as_secs() + 1,
            }
        })?;
        Ok(AdmittedTest {
            tester: self,
            client,
        })
    }
}

impl AdmittedTest<'_> {
    /// Posts a test event, signed with the client's secrets.
    pub async fn post(self, url: &CallbackUrl) -> TestOutcome {
        let Self { tester, client } = self;
        let now = tester.clock.now();
        let signer = DeliverySigner::Relay {
            secret: client.signing_secret.clone(),
            previous: client.previous_secret.clone(),
        };
        let message = SignedMessage {
            url,
            id: EventId::new(now).to_string(),
            body: &TestEventBody::new(now).to_json(),
            signer: &signer,
            auth: Some(PresentedAuth {
                client: client.name.as_str(),
                auth: &client.callback_auth,
            }),
            trace: None,
        };
        let outcome = outcome(tester.sender.send(&message, now).await);
        info!(
            event.id = message.id,
            client.name = client.name.as_str(),
            callback.host = url.host(),
            http.status = outcome.status,
            error = outcome.error.map(CallbackTestError::as_str),
            duration = ?outcome.duration,
            "a callback was tested"
        );
        outcome
    }
}

/// Returns the outcome of a message; none means that it was not sent.
fn outcome(sent: Option<MessageResult>) -> TestOutcome {
    let Some(result) = sent else {
        return TestOutcome {
            status: None,
            error: Some(CallbackTestError::Busy),
            duration: Duration::ZERO,
            address: None,
            advice: advice::BUSY,
        };
    };
    TestOutcome {
        status: result.status,
        error: result.error.map(CallbackTestError::Attempt),
        duration: result.duration,
        address: result.address,
        advice: match result.error {
            Some(AttemptError::Internal) if result.certificate_failed => advice::UNREADABLE_AUTH,
            _ if result.certificate_failed => advice::CERTIFICATE_REFUSED,
            error => advice::advice(result.status, error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_not_sent_is_busy_and_any_other_keeps_its_result() {
        let busy = outcome(None);
        assert_eq!(busy.error.map(CallbackTestError::as_str), Some("busy"));
        assert_eq!((busy.status, busy.address), (None, None));
        let sent = outcome(Some(MessageResult {
            status: Some(401),
            error: Some(AttemptError::Refused),
            detail: None,
            certificate_failed: false,
            duration: Duration::from_millis(7),
            address: Some([192, 0, 2, 7].into()),
        }));
        assert_eq!(
            sent.error,
            Some(CallbackTestError::Attempt(AttemptError::Refused))
        );
        assert_eq!(sent.status, Some(401));
        assert_eq!(
            sent.advice,
            advice::advice(Some(401), Some(AttemptError::Refused))
        );
    }
}
