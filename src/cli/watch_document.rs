//! A watch as a running relay returns it, with only the fields that commands need. Words of a newer relay are kept as
//! they are.

use jiff::Timestamp;
use relay_domain::{SubscriptionId, WatchId, WatchState};
use serde::{Deserialize, Serialize};

use crate::cli::NAME;

/// The maximum number of characters that are shown of a reason.
const MAX_REASON: usize = 200;

/// Parses the id of a watch on the command line. The error says where to find one.
pub(super) fn watch_id(text: &str) -> Result<WatchId, String> {
    text.parse().map_err(|_| {
        if text.starts_with(SubscriptionId::PREFIX) {
            return format!(
                "this is a subscription, and the command is about watches; `{NAME} list` shows those, and \
                 `GET /subscriptions/{{id}}` and `GET /deliveries` show what became of a subscription's notices"
            );
        }
        format!(
            "a watch has an id of `{}` and 26 letters and digits; `{NAME} list` shows them, `{NAME} list --job JOB_ID` \
             those of one job",
            WatchId::PREFIX
        )
    })
}

/// A watch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WatchDocument {
    pub(super) id: String,
    pub(super) job_id: String,
    pub(super) callback_url: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) operation: Option<String>,
    #[serde(default)]
    pub(super) until: Option<String>,
    #[serde(default)]
    pub(super) created_at: Timestamp,
    #[serde(default)]
    pub(super) updated_at: Timestamp,
    #[serde(default)]
    pub(super) next_poll_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) steps: Vec<StepDocument>,
    #[serde(default)]
    pub(super) context: JobOwner,
    #[serde(default)]
    pub(super) events: Vec<EventDocument>,
}

/// Whose job it is, by Basiq's ids. Empty until the relay has seen the job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobOwner {
    pub(super) user_id: Option<String>,
    pub(super) connection_id: Option<String>,
}

/// A step of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepDocument {
    pub(super) title: String,
    pub(super) status: String,
}

/// An event and its deliveries.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventDocument {
    pub(super) id: String,
    pub(super) sequence: u32,
    pub(super) status: String,
    pub(super) action: String,
    pub(super) error_code: Option<String>,
    pub(super) failed_step: Option<String>,
    #[serde(rename = "final")]
    pub(super) is_final: bool,
    pub(super) user_message: String,
    pub(super) timestamp: Timestamp,
    #[serde(default, skip_serializing)]
    pub(super) deliveries: Vec<DeliveryDocument>,
}

/// The delivery of an event.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeliveryDocument {
    pub(super) state: String,
    pub(super) next_attempt_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) attempts: Vec<AttemptDocument>,
}

/// One attempt: a `POST` of the event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AttemptDocument {
    pub(super) number: u32,
    pub(super) started_at: Timestamp,
    pub(super) duration_ms: u64,
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
    #[serde(default, skip_serializing)]
    pub(super) error_detail: Option<String>,
    /// The beginning of the response body.
    #[serde(default, skip_serializing)]
    pub(super) response: Option<String>,
}

impl AttemptDocument {
    /// Returns why the attempt failed, as far as the receiver or the connection tells: the first line of the response,
    /// or the exact failure.
    pub(super) fn reason(&self) -> Option<String> {
        self.error.as_ref()?;
        let response = self.response.as_deref().unwrap_or_default();
        let line = response
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty());
        let reason = self.error_detail.as_deref().or(line)?;
        Some(reason.chars().take(MAX_REASON).collect())
    }
}

impl WatchDocument {
    /// Returns the newest event.
    pub(super) fn last_event(&self) -> Option<&EventDocument> {
        self.events.iter().max_by_key(|event| event.sequence)
    }

    /// Returns the event that asks the person for an answer, while it is awaited.
    pub(super) fn open_question(&self) -> Option<&EventDocument> {
        let is_awaited = WatchState::from_word(&self.state) == Some(WatchState::AwaitingUser);
        self.last_event()
            .filter(|event| is_awaited && event.action == "answer-mfa")
    }
}

impl EventDocument {
    /// Returns the state of its latest delivery.
    pub(super) fn delivery_state(&self) -> Option<&str> {
        let delivery = self.deliveries.last();
        delivery.map(|delivery| delivery.state.as_str())
    }
}

impl StepDocument {
    /// Returns whether the step succeeded or was skipped.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "success" | "skipped")
    }
}
