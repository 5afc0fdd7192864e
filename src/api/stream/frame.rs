//! Decides what a stream sends next. Pure, without I/O.

use std::time::Duration;

use axum::response::sse::Event;
use jiff::Timestamp;
use relay_domain::{EventId, StepView, WatchState};
use serde::Serialize;

use crate::follow::WatchSnapshot;

/// The id of the last message of a stream. It is not the id of an event.
const END: &str = "end";

/// The progress of a job.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress<'a> {
    steps: &'a [StepView],
    state: WatchState,
    estimated_seconds_left: Option<u64>,
}

/// The final state of a watch.
#[derive(Debug, Serialize)]
struct End {
    state: WatchState,
}

/// Writes a stream's messages, and tracks what has been sent.
#[derive(Debug)]
pub(super) struct FrameWriter {
    /// How long an `EventSource` waits before it reconnects.
    retry: Duration,
    /// The hash of the progress that was sent last.
    progress_hash: Option<u64>,
    /// The last event that was sent, or that the caller had already seen.
    last_event: Option<EventId>,
    has_ended: bool,
}

impl FrameWriter {
    /// Continues after the event that the caller saw last. Returns `None` if the watch has ended and the caller has
    /// seen its last event. An unknown id counts as if the caller had seen nothing.
    pub(super) fn begin(
        snapshot: &WatchSnapshot,
        last: Option<&str>,
        retry: Duration,
    ) -> Option<Self> {
        let seen = last.and_then(|last| last.parse().ok());
        let seen = snapshot.events.iter().find(|event| Some(event.id) == seen);
        let has_all = last == Some(END) || seen.is_some_and(|event| event.is_final);
        if has_all && !snapshot.details.watch.state.is_open() {
            return None;
        }
        Some(Self {
            retry,
            progress_hash: None,
            last_event: seen.map(|event| event.id),
            has_ended: false,
        })
    }

    /// Returns whether everything has been sent.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the next message for a snapshot, or `None` if nothing is left to send.
    pub(super) fn next(&mut self, snapshot: &WatchSnapshot, now: Timestamp) -> Option<Event> {
        let is_first = self.progress_hash.is_none();
        if self.progress_hash != Some(snapshot.progress_hash) {
            self.progress_hash = Some(snapshot.progress_hash);
            let event = progress(snapshot, now);
            return Some(if is_first {
                event.retry(self.retry)
            } else {
                event
            });
        }
        let mut events = snapshot.events.iter();
        if let Some(next) = events.find(|event| Some(event.id) > self.last_event) {
            self.last_event = Some(next.id);
            let event = Event::default().id(next.id.to_string());
            return Some(event.event(format!("job.{}", next.status)).data(&next.body));
        }
        let state = snapshot.details.watch.state;
        if state.is_open() || self.has_ended {
            return None;
        }
        self.has_ended = true;
        let event = Event::default().id(END).event("end");
        Some(event.data(json(&End { state })))
    }
}

fn progress(snapshot: &WatchSnapshot, now: Timestamp) -> Event {
    let eta = snapshot.eta.as_ref();
    let data = Progress {
        steps: &snapshot.details.job.steps,
        state: snapshot.details.watch.state,
        estimated_seconds_left: eta.and_then(|eta| eta.seconds_left(now)),
    };
    Event::default().event("progress").data(json(&data))
}

/// Serializes plain structures, which cannot fail.
fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}
