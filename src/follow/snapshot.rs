//! A watch as it was last read, in the form that its followers need.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use relay_domain::{ErrorChain, Eta, EventId, JobContext, KnownDurations, Status, WatchState};
use relay_store::{DurationsFound, EventDetails, Store, WatchDetails};
use tracing::warn;

/// A watch at one time.
#[derive(Debug)]
pub struct WatchSnapshot {
    /// The watch.
    pub details: WatchDetails,
    /// An estimate of how long the job takes, if known.
    pub eta: Option<Eta>,
    /// The events for the stream, oldest first.
    pub events: Vec<SnapshotEvent>,
    /// A hash that changes whenever the job's steps or the watch's state change.
    pub progress_hash: u64,
}

/// An event of a watch, as streams send it to browsers.
#[derive(Debug)]
pub struct SnapshotEvent {
    /// The event's id.
    pub id: EventId,
    /// The status of the job.
    pub status: Status,
    /// Whether this is the last event of the watch.
    pub is_final: bool,
    /// The body that is posted to the callback.
    pub body: String,
}

impl WatchSnapshot {
    pub(super) fn new(details: WatchDetails, eta: Option<Eta>) -> Self {
        let mut hasher = DefaultHasher::new();
        for step in &details.job.steps {
            (&step.title, &step.status).hash(&mut hasher);
        }
        details.watch.state.hash(&mut hasher);
        Self {
            eta,
            events: details.events.iter().map(SnapshotEvent::from).collect(),
            progress_hash: hasher.finish(),
            details,
        }
    }
}

impl From<&EventDetails> for SnapshotEvent {
    fn from(event: &EventDetails) -> Self {
        Self {
            id: event.id,
            status: event.body.status,
            is_final: event.body.is_final,
            // the body was parsed from JSON, so it can be serialized
            body: serde_json::to_string(&event.body).unwrap_or_default(),
        }
    }
}

/// The known durations by kind of job. Each kind is read from the store once.
pub(super) type KnownByJob = HashMap<JobContext, Arc<KnownDurations>>;

/// Creates the snapshot of a watch that was just read, with an estimate of how long its job takes if known.
pub(super) async fn with_eta(
    store: &dyn Store,
    details: WatchDetails,
    known_by_job: &mut KnownByJob,
) -> WatchSnapshot {
    let runs = details.watch.state == WatchState::Watching;
    // the known durations are those of whole jobs
    if !runs || details.watch.request.options.until.is_some() {
        return WatchSnapshot::new(details, None);
    }
    let context = &details.job.context;
    let known = if let Some(known) = known_by_job.get(context) {
        Arc::clone(known)
    } else {
        let found = store.durations_of(context).await.unwrap_or_else(|error| {
            warn!(error = %ErrorChain(&error), "the known durations of jobs cannot be read");
            DurationsFound::default()
        });
        let known = Arc::new(found.known);
        known_by_job.insert(context.clone(), Arc::clone(&known));
        known
    };
    let eta = Eta::of(&details.job, &known);
    WatchSnapshot::new(details, eta)
}
