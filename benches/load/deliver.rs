//! Measures deliveries from a full outbox.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use relay_domain::{
    Action, CallbackUrl, ClientId, Event, EventBody, EventContext, EventId, Fleet, Metadata,
    Status, ToldSoFar, Watch, WatchId, WatchOptions, WatchRequest, WatchState, clock::Clock,
};
use relay_runtime::run_worker;
use relay_store::{Claim, DueJob, Look, NewWatch, OutageChange, Store, Urgency, WatchChange};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    clients::{Bare, job_id},
    database::{Kind, Server},
    figures::{Figures, float},
    receiver::Receiver,
    scene::Scene,
};

/// The number of pending events.
const EVENTS: usize = 20_000;

/// How many watches are registered, and how many looks are recorded, in one batch.
const BATCH: usize = 500;

/// Measures events per second. Each event is signed, delivered and recorded.
pub(crate) async fn run(
    kind: Kind,
    server: &Server,
    bare: &Bare,
    figures: &mut Figures<'_>,
) -> Result<()> {
    let database = server.empty(kind, "deliver").await?;
    let scene = Scene::set(database, Receiver::default()).await?;
    let (relay, client) = scene.relay().await?;
    let callback = scene.callback.to_string();
    fill(&relay.store, client, EVENTS, |_| callback.clone()).await?;
    let (stop, mut worker) = (CancellationToken::new(), JoinSet::new());
    let before = bare.posts().await?;
    let began = Instant::now();
    worker.spawn(run_worker(relay.delivery, Fleet::alone(), stop.clone()));
    scene.receiver.until(EVENTS).await?;
    let rate = float(EVENTS) / began.elapsed().as_secs_f64();
    let bare = f64::midpoint(before, bare.posts().await?);
    stop.cancel();
    worker.join_next().await;
    relay.store.close().await;
    figures.note("deliveries", rate, "a second")?;
    figures.note("deliver_bare", bare, "bare posts a second")?;
    figures.note("deliver_ratio", rate / bare, "of those")
}

/// Creates `events` events that wait for their first attempt.
pub(crate) async fn fill(
    store: &Arc<dyn Store>,
    client: ClientId,
    events: usize,
    callback: impl Fn(usize) -> String,
) -> Result<()> {
    for first in (0..events).step_by(BATCH) {
        let numbers = first..(first + BATCH).min(events);
        let new = numbers.map(|number| new_watch(client, number, &callback(number)));
        store.register_watches(new.collect::<Result<_>>()?).await?;
    }
    let claim = Claim {
        now: Clock::system().now(),
        lease: Duration::from_mins(1),
        limit: BATCH,
    };
    let mut settled = 0;
    while settled < events {
        let due = store.claim_due_jobs(claim).await?;
        ensure!(!due.is_empty(), "jobs are missing");
        settled += due.len();
        store.record_looks(due.iter().map(look).collect()).await?;
    }
    Ok(())
}

fn new_watch(client: ClientId, number: usize, callback: &str) -> Result<NewWatch> {
    let rules = relay_domain::CallbackRules {
        allow_http: true,
        allowed_networks: relay_domain::AllowedNetworks::new(vec!["127.0.0.0/8".parse()?]),
    };
    let now = Clock::system().now();
    Ok(NewWatch {
        id: WatchId::new(now),
        client_id: client,
        request: WatchRequest {
            job_id: job_id(number).parse()?,
            callback_url: CallbackUrl::parse(callback, &rules)?,
            options: WatchOptions::default(),
        },
        max_open: 10_000_000,
        now,
        trace: None,
        subscription_id: None,
    })
}

/// Returns the look that finds a job done and creates the events of all its watches.
fn look(job: &DueJob) -> Look {
    let now = Clock::system().now();
    Look {
        job_id: job.job_id.clone(),
        lease: job.lease,
        began: now,
        at: now,
        memory: job.memory.clone(),
        next_look_at: now,
        urgency: Urgency::Normal,
        changes: job.watches.iter().map(|watch| change(watch, now)).collect(),
        outage: OutageChange::None,
        sample: None,
        connection: None,
    }
}

fn change(watch: &Watch, now: Timestamp) -> WatchChange {
    let id = watch.request.job_id.as_str();
    let context = EventContext {
        job_type: Some("connection".to_owned()),
        user_id: Some(format!("u-{id}")),
        connection_id: Some(format!("c-{id}")),
        institution_id: Some("AU00000".to_owned()),
        subscription_id: None,
    };
    let body = EventBody {
        event_type: "job.success".to_owned(),
        timestamp: now,
        sequence: 1,
        is_final: true,
        watch_id: Some(watch.id),
        job_id: Some(id.to_owned()),
        status: Status::Success,
        failed_step: None,
        error_code: None,
        user_message:
            "Everything worked and your information is ready. There is nothing more for you to do."
                .to_owned(),
        action: Action::None,
        retry_at: None,
        detail: None,
        challenge: None,
        context,
        resources: vec![format!("/users/u-{id}/connections/c-{id}/accounts"); 3],
        metadata: Metadata::default(),
    };
    WatchChange {
        watch_id: watch.id,
        state: WatchState::Settled,
        progress: ToldSoFar {
            transitions: 1,
            sequence: 1,
            ..ToldSoFar::default()
        },
        event: Some(Event {
            id: EventId::derive(watch.id, 1),
            body,
            deadline: None,
        }),
    }
}
