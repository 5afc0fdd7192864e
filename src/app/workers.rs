//! Creates the workers of a relay.

use std::sync::Arc;

use anyhow::{Context, Result};
use relay_domain::{ActivityRecorder, Fleet};
use relay_store::Store;

use crate::{
    api::ApiParts,
    app::{ActivityWorker, ClockWorker, activity::ActivityWriter},
    config::Settings,
    delivery::DeliveryWorker,
    discovery::{DiscoverySignals, DiscoveryWorker, JobLister},
    follow::FollowWorker,
    tracker::{BankWorker, Looker, TrackerSignals, TrackerWorker},
};

pub(super) fn tracker(
    settings: &Settings,
    store: &Arc<dyn Store>,
    parts: &ApiParts,
) -> TrackerWorker {
    let looker = Looker::new(
        parts.basiq.clone(),
        store.clone(),
        parts.clock.clone(),
        Arc::clone(&parts.catalogue),
        &settings.basiq,
        &settings.tracking,
    );
    let signals = TrackerSignals {
        wake: parts.tracker_wake.clone(),
        delivery_wake: parts.delivery_wake.clone(),
        follows: parts.follows.clone(),
    };
    TrackerWorker::new(
        looker,
        store.clone(),
        parts.clock.clone(),
        &settings.basiq,
        signals,
    )
}

pub(super) fn banks(settings: &Settings, store: &Arc<dyn Store>, parts: &ApiParts) -> BankWorker {
    BankWorker::new(
        parts.basiq.clone(),
        store.clone(),
        parts.clock.clone(),
        &settings.basiq,
        &settings.tracking,
        parts.tracker_wake.clone(),
    )
}

pub(super) fn discovery(
    settings: &Settings,
    store: &Arc<dyn Store>,
    parts: &ApiParts,
    fleet: &Fleet,
) -> DiscoveryWorker {
    let clock = parts.clock.clone();
    let lister = JobLister::new(
        parts.basiq.clone(),
        store.clone(),
        clock.clone(),
        Arc::clone(&parts.catalogue),
        settings,
    );
    let signals = DiscoverySignals {
        wake: parts.discovery_wake.clone(),
        tracker_wake: parts.tracker_wake.clone(),
        delivery_wake: parts.delivery_wake.clone(),
    };
    DiscoveryWorker::new(
        lister,
        store.clone(),
        clock,
        &settings.basiq,
        fleet,
        signals,
    )
}

pub(super) fn delivery(
    settings: &Settings,
    store: &Arc<dyn Store>,
    parts: &ApiParts,
) -> Result<DeliveryWorker> {
    let (clock, wake) = (parts.clock.clone(), parts.delivery_wake.clone());
    DeliveryWorker::new(store.clone(), clock, &settings.delivery, wake)
        .context("no client for callbacks")
}

pub(super) fn follow(store: &Arc<dyn Store>, parts: &ApiParts) -> FollowWorker {
    let wake = parts.tracker_wake.clone();
    FollowWorker::new(store.clone(), parts.follows.clone(), wake)
}

/// Creates the worker that stores what is counted in `recorder`.
pub(super) fn activity(
    store: &Arc<dyn Store>,
    parts: &ApiParts,
    recorder: ActivityRecorder,
) -> ActivityWorker {
    let (clock, upstream) = (parts.clock.clone(), parts.upstream.clone());
    ActivityWorker::new(ActivityWriter::new(store, clock, recorder, upstream))
}

/// Creates the worker that notices when the clock was set which due times follow.
pub(super) async fn clock_worker(
    settings: &Settings,
    store: &Arc<dyn Store>,
    parts: &ApiParts,
) -> Result<ClockWorker> {
    let waiting = vec![
        parts.tracker_wake.clone(),
        parts.discovery_wake.clone(),
        parts.delivery_wake.clone(),
    ];
    let database = &settings.store.database;
    let worker = ClockWorker::start(database, store.clone(), &parts.clock, waiting);
    worker.await.context("due times cannot be moved")
}
