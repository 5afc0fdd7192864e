//! A watch as it was last read, in the form that its followers need.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use relay_domain::{ErrorChain, Eta, EventId, JobContext, KnownDurations, Status, WatchState};
use relay_store::{DurationsFound, EventDetails, Store, WatchDetails};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::api::watch::view::WatchView;

/// A watch at one time.
#[derive(Debug)]
pub(in crate::api) struct WatchSnapshot {
    /// The watch.
    pub story: WatchDetails,
    /// An estimate of how long the job takes, if known.
    pub outlook: Option<Eta>,
    /// The events for the stream, oldest first.
    pub told: Vec<StreamedEvent>,
    /// A hash that changes whenever the job's steps or the watch's state change.
    pub progress: u64,
}

/// An event as a stream sends it.
#[derive(Debug)]
pub(in crate::api) struct StreamedEvent {
    /// The event's id.
    pub id: EventId,
    /// The status of the job.
    pub status: Status,
    /// Whether this is the last event of the watch.
    pub is_final: bool,
    /// The body that is posted to the callback.
    pub text: String,
}

impl WatchSnapshot {
    pub(super) fn new(story: WatchDetails, outlook: Option<Eta>) -> Self {
        let mut hasher = DefaultHasher::new();
        for step in &story.job.steps {
            (&step.title, &step.status).hash(&mut hasher);
        }
        story.watch.state.hash(&mut hasher);
        Self {
            outlook,
            told: story.events.iter().map(told).collect(),
            progress: hasher.finish(),
            story,
        }
    }
}

fn told(event: &EventDetails) -> StreamedEvent {
    StreamedEvent {
        id: event.id,
        status: event.body.status,
        is_final: event.body.is_final,
        // the body was parsed from JSON, so it can be serialized
        text: serde_json::to_string(&event.body).unwrap_or_default(),
    }
}

/// Returns the tag of a client's view of a watch. It ignores the time of the next look, because that time changes
/// after each look without news.
pub(in crate::api) fn tag_of(story: &WatchDetails) -> String {
    let view = WatchView {
        next_poll_at: None,
        ..WatchView::from(story.clone())
    };
    let text = serde_json::to_vec(&view).unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(text).into();
    let (short, _) = hash.split_at(hash.len() / 2);
    format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(short))
}

/// The known durations by kind of job. Each kind is read from the store once.
pub(super) type KnownByJob = HashMap<JobContext, Arc<KnownDurations>>;

/// Creates the snapshot of a watch that was just read, with an estimate of how long its job takes if known.
pub(super) async fn with_outlook(
    store: &dyn Store,
    read: WatchDetails,
    paces: &mut KnownByJob,
) -> WatchSnapshot {
    let runs = read.watch.state == WatchState::Watching;
    // the known durations are those of whole jobs
    if !runs || read.watch.request.options.until.is_some() {
        return WatchSnapshot::new(read, None);
    }
    let context = &read.job.context;
    let known = if let Some(known) = paces.get(context) {
        Arc::clone(known)
    } else {
        let found = store.durations_of(context).await.unwrap_or_else(|error| {
            warn!(error = %ErrorChain(&error), "the known durations of jobs cannot be read");
            DurationsFound::default()
        });
        let known = Arc::new(found.known);
        paces.insert(context.clone(), Arc::clone(&known));
        known
    };
    let outlook = Eta::of(&read.job, &known);
    WatchSnapshot::new(read, outlook)
}
