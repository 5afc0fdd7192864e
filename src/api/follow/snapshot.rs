//! A watch as it was last read, with what those who follow it are told.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::{
    api::watch::view::WatchView,
    domain::{ErrorChain, Eta, EventId, JobContext, KnownDurations, Status, WatchState},
    store::{DurationsFound, EventDetails, Store, WatchDetails},
};

/// A watch at one time.
#[derive(Debug)]
pub(in crate::api) struct WatchSnapshot {
    /// The watch.
    pub story: WatchDetails,
    /// How long its job is likely to take, if that is known.
    pub outlook: Option<Eta>,
    /// Its events, oldest first, as they are told.
    pub told: Vec<StreamedEvent>,
    /// Another one whenever the job's steps or the watch's state are.
    pub progress: u64,
}

/// An event as it is told in a stream.
#[derive(Debug)]
pub(in crate::api) struct StreamedEvent {
    /// The event.
    pub id: EventId,
    /// What became of the job.
    pub status: Status,
    /// Whether it is the watch's last one.
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
        // it was read from such text, so it can be written
        text: serde_json::to_string(&event.body).unwrap_or_default(),
    }
}

/// Names what a client sees of a watch, but for when its job is looked at next: that would be another name
/// after each look, for no news.
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

/// How long jobs take, asked once for all of a kind.
pub(super) type KnownByJob = HashMap<JobContext, Arc<KnownDurations>>;

/// A watch as it was read now, with how long its job is likely to take where that can be said.
pub(super) async fn with_outlook(
    store: &dyn Store,
    read: WatchDetails,
    paces: &mut KnownByJob,
) -> WatchSnapshot {
    let runs = read.watch.state == WatchState::Watching;
    // what is known is how long whole jobs take
    if !runs || read.watch.request.options.until.is_some() {
        return WatchSnapshot::new(read, None);
    }
    let context = &read.job.context;
    let known = if let Some(known) = paces.get(context) {
        Arc::clone(known)
    } else {
        let found = store.durations_of(context).await.unwrap_or_else(|error| {
            warn!(error = %ErrorChain(&error), "what is known of the pace of jobs cannot be read");
            DurationsFound::default()
        });
        let known = Arc::new(found.known);
        paces.insert(context.clone(), Arc::clone(&known));
        known
    };
    let outlook = Eta::of(&read.job, &known);
    WatchSnapshot::new(read, outlook)
}
