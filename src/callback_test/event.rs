//! The body of a test event.

use jiff::Timestamp;
use serde::Serialize;

/// The type of a test event.
pub const TEST_EVENT: &str = "relay.test";

/// What a test event says to a developer who finds it in a log.
const MESSAGE: &str = "This is a test of the callback. No job or person is meant.";

/// The type of a test event, as the body has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub enum TestEventType {
    /// The only type.
    #[serde(rename = "relay.test")]
    Test,
}

/// The body of a `relay.test` event. It is signed as all events are, and means no job and no person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = TestEventBody)]
pub struct TestEventBody {
    /// Always `relay.test`.
    #[serde(rename = "type")]
    pub event_type: TestEventType,
    /// When the test was made.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// An explanation of the event, for a developer who finds it in a log.
    pub message: String,
}

impl TestEventBody {
    /// Creates the body of a test that is made now.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            event_type: TestEventType::Test,
            timestamp: now,
            message: MESSAGE.to_owned(),
        }
    }

    /// Returns the exact bytes to sign and post.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // a struct of texts and a time always has a JSON form
        serde_json::to_vec(self).unwrap_or_default()
    }
}
