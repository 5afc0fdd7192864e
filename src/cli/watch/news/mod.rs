//! Finds the changes between two reads of a watch, and how it ended. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use relay_domain::{Status, WatchState};
use serde::{Deserialize, Serialize};

/// A watch as the relay returns it, with only the fields needed here. Words of a newer relay are kept as they are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WatchDocument {
    pub(super) id: String,
    pub(super) job_id: String,
    pub(super) callback_url: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) next_poll_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) steps: Vec<StepDocument>,
    #[serde(default)]
    pub(super) events: Vec<EventDocument>,
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
}

/// A change of the watch.
#[derive(Debug, Clone, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(super) enum WatchNews {
    /// A step is new or has changed.
    Step(StepDocument),
    /// A new event.
    Event(EventDocument),
    /// A new attempt to deliver an event.
    Attempt {
        event_id: String,
        sequence: u32,
        #[serde(flatten)]
        attempt: AttemptDocument,
        /// The time of the next attempt, if this is the latest attempt and it failed.
        next_attempt_at: Option<Timestamp>,
    },
    /// A delivery ended, but the callback did not accept the event.
    Undelivered {
        event_id: String,
        sequence: u32,
        state: String,
    },
}

/// The parts of a watch that were already reported.
#[derive(Debug, Default)]
pub(super) struct SeenSoFar {
    steps: Vec<StepDocument>,
    events: HashMap<String, SeenEvent>,
}

#[derive(Debug, Default)]
struct SeenEvent {
    attempts: usize,
    undelivered: Option<String>,
}

impl SeenSoFar {
    /// Returns the changes, in the order in which they happened as far as it is known.
    pub(super) fn take(&mut self, watch: &WatchDocument) -> Vec<WatchNews> {
        let steps = watch.steps.iter().enumerate();
        let mut news: Vec<WatchNews> = steps
            .filter(|(place, step)| self.steps.get(*place) != Some(step))
            .map(|(_, step)| WatchNews::Step(step.clone()))
            .collect();
        self.steps.clone_from(&watch.steps);
        for event in &watch.events {
            if !self.events.contains_key(&event.id) {
                news.push(WatchNews::Event(event.clone()));
            }
            let seen = self.events.entry(event.id.clone()).or_default();
            for delivery in &event.deliveries {
                seen.take(event, delivery, &mut news);
            }
        }
        news
    }
}

impl SeenEvent {
    fn take(
        &mut self,
        event: &EventDocument,
        delivery: &DeliveryDocument,
        news: &mut Vec<WatchNews>,
    ) {
        let latest = delivery.attempts.last().map(|attempt| attempt.number);
        for attempt in delivery.attempts.iter().skip(self.attempts) {
            let is_latest = latest == Some(attempt.number);
            news.push(WatchNews::Attempt {
                event_id: event.id.clone(),
                sequence: event.sequence,
                attempt: attempt.clone(),
                next_attempt_at: delivery.next_attempt_at.filter(|_| is_latest),
            });
        }
        self.attempts = self.attempts.max(delivery.attempts.len());
        let is_undelivered = !matches!(delivery.state.as_str(), "pending" | "delivered");
        let undelivered = is_undelivered.then(|| delivery.state.clone());
        if undelivered != self.undelivered {
            news.extend(undelivered.clone().map(|state| WatchNews::Undelivered {
                event_id: event.id.clone(),
                sequence: event.sequence,
                state,
            }));
            self.undelivered = undelivered;
        }
    }
}

/// How a watch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WatchEnding {
    /// `settled` or `cancelled`.
    pub(super) state: WatchState,
    /// The outcome of the job; `None` for a cancelled watch.
    pub(super) status: Option<Status>,
    /// The reason and the step, if the job failed.
    pub(super) error_code: Option<String>,
    pub(super) failed_step: Option<String>,
    /// The state of the last event's delivery.
    pub(super) delivery: Option<String>,
}

impl WatchEnding {
    /// Returns how a watch ended, or `None` while it is open.
    pub(super) fn of(watch: &WatchDocument) -> Option<Self> {
        let state = WatchState::from_word(&watch.state)?;
        let last = watch.events.iter().max_by_key(|event| event.sequence);
        let told = last.filter(|event| event.is_final);
        let status = match state {
            WatchState::Watching | WatchState::AwaitingUser | WatchState::Delayed => return None,
            WatchState::Cancelled => None,
            // A client that has not subscribed to every status may have no event for the last one.
            WatchState::Settled => Some(match told {
                Some(event) => Status::from_word(&event.status).unwrap_or(Status::Failed),
                None if watch.steps.iter().all(StepDocument::is_done) => Status::Success,
                None => Status::Failed,
            }),
        };
        let delivery = last.and_then(|event| event.deliveries.last());
        Some(Self {
            state,
            status,
            error_code: told.and_then(|event| event.error_code.clone()),
            failed_step: told.and_then(|event| event.failed_step.clone()),
            delivery: delivery.map(|delivery| delivery.state.clone()),
        })
    }

    /// Says why this ending is no success. Returns `None` if the job succeeded.
    pub(super) fn fault(&self) -> Option<String> {
        match self.status {
            Some(Status::Success) => None,
            Some(Status::Failed | Status::ActionRequired | Status::Delayed) => {
                let mut fault = "the job failed".to_owned();
                if let Some(step) = &self.failed_step {
                    fault = format!("{fault} at {step}");
                }
                if let Some(code) = &self.error_code {
                    fault = format!("{fault}: {code}");
                }
                Some(fault)
            }
            None => Some("the watch was cancelled".to_owned()),
        }
    }
}

/// Returns whether the first attempt of an event has not happened yet, or is not recorded yet.
pub(super) fn is_first_attempt_awaited(watch: &WatchDocument) -> bool {
    let mut deliveries = watch.events.iter().flat_map(|event| &event.deliveries);
    deliveries.any(|delivery| delivery.state == "pending" && delivery.attempts.is_empty())
}

impl StepDocument {
    fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "success" | "skipped")
    }
}

#[cfg(test)]
mod tests;
