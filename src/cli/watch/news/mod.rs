//! Finds the changes between two reads of a watch, and how it ended. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use relay_domain::{Status, WatchState};
use serde::Serialize;

use crate::cli::watch_document::{
    AttemptDocument, DeliveryDocument, EventDocument, StepDocument, WatchDocument,
};

/// A difference between two reads of a watch, which the command `watch` prints.
#[derive(Debug, Clone, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(super) enum WatchDifference {
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

impl WatchDifference {
    /// Returns whether a delivery failed and waits for its next attempt.
    pub(super) fn is_waiting_delivery(&self) -> bool {
        match self {
            Self::Attempt {
                next_attempt_at, ..
            } => next_attempt_at.is_some(),
            Self::Step(_) | Self::Event(_) | Self::Undelivered { .. } => false,
        }
    }
}

/// A change, and the time at which it happened.
#[derive(Debug, Clone)]
pub(super) struct TimedNews {
    /// `None` if it is not known. The change was then seen just now.
    pub(super) at: Option<Timestamp>,
    pub(super) news: WatchDifference,
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
    /// Returns the changes, in the order in which they happened. Nothing says when a step changed. The look that made
    /// the newest event saw the steps as they are, so they have its time.
    pub(super) fn take(&mut self, watch: &WatchDocument) -> Vec<TimedNews> {
        let new = watch
            .events
            .iter()
            .filter(|event| !self.events.contains_key(&event.id));
        let at = new.map(|event| event.timestamp).max();
        let steps = watch.steps.iter().enumerate();
        let mut all: Vec<TimedNews> = steps
            .filter(|(place, step)| self.steps.get(*place) != Some(step))
            .map(|(_, step)| TimedNews {
                at,
                news: WatchDifference::Step(step.clone()),
            })
            .collect();
        self.steps.clone_from(&watch.steps);
        for event in &watch.events {
            if !self.events.contains_key(&event.id) {
                all.push(TimedNews {
                    at: Some(event.timestamp),
                    news: WatchDifference::Event(event.clone()),
                });
            }
            let seen = self.events.entry(event.id.clone()).or_default();
            for delivery in &event.deliveries {
                seen.take(event, delivery, &mut all);
            }
        }
        // The sort is stable. What has no time is the newest.
        all.sort_by_key(|one| (one.at.is_none(), one.at));
        all
    }
}

impl SeenEvent {
    fn take(
        &mut self,
        event: &EventDocument,
        delivery: &DeliveryDocument,
        all: &mut Vec<TimedNews>,
    ) {
        let latest = delivery.attempts.last().map(|attempt| attempt.number);
        for attempt in delivery.attempts.iter().skip(self.attempts) {
            let is_latest = latest == Some(attempt.number);
            all.push(TimedNews {
                at: Some(attempt.started_at),
                news: WatchDifference::Attempt {
                    event_id: event.id.clone(),
                    sequence: event.sequence,
                    attempt: attempt.clone(),
                    next_attempt_at: delivery.next_attempt_at.filter(|_| is_latest),
                },
            });
        }
        self.attempts = self.attempts.max(delivery.attempts.len());
        let is_undelivered = !matches!(delivery.state.as_str(), "pending" | "delivered");
        let undelivered = is_undelivered.then(|| delivery.state.clone());
        if undelivered != self.undelivered {
            all.extend(undelivered.clone().map(|state| TimedNews {
                at: None,
                news: WatchDifference::Undelivered {
                    event_id: event.id.clone(),
                    sequence: event.sequence,
                    state,
                },
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
        let last = watch.last_event();
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
        let delivery = last.and_then(EventDocument::delivery_state);
        Some(Self {
            state,
            status,
            error_code: told.and_then(|event| event.error_code.clone()),
            failed_step: told.and_then(|event| event.failed_step.clone()),
            delivery: delivery.map(str::to_owned),
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

#[cfg(test)]
mod tests;
