//! A store for tests, with short methods for common steps.

use std::{sync::Arc, time::Duration};

use basiq_relay::{
    app::open_store,
    config::{Settings, StoreConfig},
};
use jiff::Timestamp;
use relay_domain::{
    Action, ApiKey, Attempt, AttemptError, CallbackRules, CallbackUrl, ClientId, Event, EventBody,
    EventContext, EventId, Metadata, Requester, SigningSecret, Status, ToldSoFar, WatchId,
    WatchOptions, WatchRequest, WatchState, clock::Clock,
};
use relay_store::{
    AfterAttempt, AttemptResult, Claim, DeliverySigner, DueDelivery, DueJob, HostLimits, Look,
    NewWatch, OutageChange, Registration, Store, Urgency, WatchChange, WatchDetails, WatchQuery,
};

use crate::support::TestDatabase;
use crate::support::actor;

/// A store for one test, behind the traits that every back end implements.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: ClientId,
    requester: Requester,
    pub(crate) home: TestDatabase,
}

/// Returns the test's start time plus `seconds`.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

impl Fixture {
    /// Creates an empty store with one client.
    pub(crate) async fn new() -> Self {
        Self::on(TestDatabase::new().await).await
    }

    /// Opens a store in this database, with one client.
    pub(crate) async fn on(home: TestDatabase) -> Self {
        let store = open(&home).await;
        let client = add_client(&*store, "first").await;
        Self {
            store,
            client,
            requester: Requester::Client(client),
            home,
        }
    }

    /// Opens the store in this database, which already contains this client.
    pub(crate) async fn over(home: TestDatabase, client: ClientId) -> Self {
        let store = open(&home).await;
        Self {
            store,
            client,
            requester: Requester::Client(client),
            home,
        }
    }

    /// Returns the client as a requester of the store.
    pub(crate) fn requester(&self) -> &Requester {
        &self.requester
    }

    /// Registers a watch of a job with the usual callback.
    pub(crate) async fn watch(&self, job: &str, now: Timestamp) -> WatchId {
        self.watch_at(job, "https://app.example/hook", now).await
    }

    /// Registers a watch of a job.
    pub(crate) async fn watch_at(&self, job: &str, callback: &str, now: Timestamp) -> WatchId {
        let new = new_watch(self.client, job, callback, now);
        match self.store.register_watch(new).await.unwrap() {
            Registration::Created(watch) => watch.id,
            other => panic!("not new: {other:?}"),
        }
    }

    /// Claims due jobs for a minute.
    pub(crate) async fn claim(&self, now: Timestamp) -> Vec<DueJob> {
        self.store.claim_due_jobs(claim(now)).await.unwrap()
    }

    /// Claims the only due job.
    pub(crate) async fn claim_one(&self, now: Timestamp) -> DueJob {
        let mut jobs = self.claim(now).await;
        assert_eq!(jobs.len(), 1, "one job is due");
        jobs.remove(0)
    }

    /// Records one look. Returns whether its lease was valid.
    pub(crate) async fn record(&self, look: Look) -> bool {
        !self
            .store
            .record_looks(vec![look].into())
            .await
            .unwrap()
            .is_empty()
    }

    /// Records a look at the only due job, with an event of `status` for each of its watches.
    pub(crate) async fn tell(&self, status: Status, now: Timestamp) -> DueJob {
        let job = self.claim_one(now).await;
        self.tell_job(&job, status, now).await;
        job
    }

    /// Records a look at a claimed job, with an event of `status` for each of its watches.
    pub(crate) async fn tell_job(&self, job: &DueJob, status: Status, now: Timestamp) {
        let mut look = look(job, now);
        look.changes = job.watches.iter().map(|w| change(w, status, now)).collect();
        assert!(self.record(look).await);
    }

    /// Returns the watches of a job, newest first.
    pub(crate) async fn watches_of(&self, job: &str) -> Vec<WatchDetails> {
        let query = WatchQuery {
            job_id: job.parse().ok(),
            limit: 10,
            ..WatchQuery::default()
        };
        self.store.list_watches(&query).await.unwrap()
    }

    /// Claims due deliveries for a minute, without a limit for each host.
    pub(crate) async fn claim_deliveries(&self, now: Timestamp) -> Vec<DueDelivery> {
        self.store
            .claim_due_deliveries(claim(now), &no_limits())
            .await
            .unwrap()
    }

    /// Claims the only due delivery.
    pub(crate) async fn claim_delivery(&self, now: Timestamp) -> DueDelivery {
        let mut due = self.claim_deliveries(now).await;
        assert_eq!(due.len(), 1, "one delivery is due");
        due.remove(0)
    }

    /// Records one attempt.
    pub(crate) async fn attempted(
        &self,
        delivery: &DueDelivery,
        next: AfterAttempt,
        now: Timestamp,
    ) {
        let results = vec![attempt(delivery, next, now)];
        self.store.record_attempts(results).await.unwrap();
    }

    /// Returns the details of a watch.
    pub(crate) async fn story(&self, id: WatchId) -> WatchDetails {
        self.store.find_watch(None, id).await.unwrap().unwrap()
    }
}

/// Opens the store in this database.
pub(crate) async fn open(home: &TestDatabase) -> Arc<dyn Store> {
    let config = StoreConfig {
        database: home.url.clone(),
        ..Settings::default().store
    };
    let opened = open_store(&config, &Clock::manual(at(0))).await;
    opened.unwrap().store
}

/// Adds a client.
pub(crate) async fn add_client(store: &dyn Store, name: &str) -> ClientId {
    store
        .add_client(
            &name.parse().unwrap(),
            &ApiKey::generate().hash(),
            &SigningSecret::generate(),
            actor(),
            at(0),
        )
        .await
        .unwrap()
        .unwrap()
}

pub(crate) fn new_watch(client: ClientId, job: &str, callback: &str, now: Timestamp) -> NewWatch {
    NewWatch {
        id: WatchId::new(now),
        client_id: client,
        request: WatchRequest {
            job_id: job.parse().unwrap(),
            callback_url: CallbackUrl::parse(callback, &CallbackRules::default()).unwrap(),
            options: WatchOptions::default(),
        },
        max_open: 1_000,
        now,
        trace: None,
        subscription_id: None,
    }
}

pub(crate) fn claim(now: Timestamp) -> Claim {
    Claim {
        now,
        lease: Duration::from_mins(1),
        limit: 100,
    }
}

pub(crate) fn no_limits() -> HostLimits {
    HostLimits {
        per_host: 100,
        ..HostLimits::default()
    }
}

/// Returns a look that changes nothing. The next one is due a minute later.
pub(crate) fn look(job: &DueJob, now: Timestamp) -> Look {
    Look {
        job_id: job.job_id.clone(),
        lease: job.lease,
        began: now,
        at: now,
        memory: job.memory.clone(),
        next_look_at: now + Duration::from_mins(1),
        urgency: Urgency::Normal,
        changes: Vec::new(),
        outage: OutageChange::None,
        sample: None,
        connection: None,
    }
}

/// Returns the change and the event that give a watch `status`.
pub(crate) fn change(watch: &relay_domain::Watch, status: Status, now: Timestamp) -> WatchChange {
    let transitions = watch.progress.transitions + 1;
    let (state, is_final) = match status {
        Status::Success | Status::Failed => (WatchState::Settled, true),
        Status::ActionRequired => (WatchState::AwaitingUser, false),
        Status::Delayed => (WatchState::Delayed, false),
    };
    WatchChange {
        watch_id: watch.id,
        state,
        progress: ToldSoFar {
            transitions,
            sequence: transitions,
            ..watch.progress
        },
        event: Some(Event {
            id: EventId::derive(watch.id, transitions),
            body: EventBody {
                event_type: format!("job.{status}"),
                timestamp: now,
                sequence: transitions,
                is_final,
                watch_id: Some(watch.id),
                job_id: Some(watch.request.job_id.to_string()),
                status,
                failed_step: None,
                error_code: None,
                user_message: "Your bank is connected.".to_owned(),
                action: Action::None,
                retry_at: None,
                detail: None,
                challenge: None,
                context: EventContext::default(),
                resources: Vec::new(),
                metadata: Metadata::default(),
            },
            deadline: None,
        }),
    }
}

/// Returns the job of a delivery.
pub(crate) fn job_of(delivery: &DueDelivery) -> &str {
    delivery.source.job_id().unwrap().as_str()
}

/// Returns the secret that signs a delivery.
pub(crate) fn secret_of(delivery: &DueDelivery) -> &SigningSecret {
    match &delivery.signer {
        DeliverySigner::Relay { secret, .. } => secret,
        DeliverySigner::Basiq(_) => panic!("Basiq signed it"),
    }
}

pub(crate) fn attempt(delivery: &DueDelivery, next: AfterAttempt, now: Timestamp) -> AttemptResult {
    let accepted = next == AfterAttempt::Delivered;
    AttemptResult {
        delivery_id: delivery.id,
        lease: delivery.lease,
        subscription_id: delivery.source.subscription_id(),
        attempt: Some(Attempt {
            number: delivery.attempts + 1,
            started_at: now,
            duration: Duration::from_millis(40),
            status: Some(if accepted { 204 } else { 500 }),
            error: (!accepted).then_some(AttemptError::Refused),
            error_detail: (!accepted).then(|| "as told".to_owned()),
            response: (!accepted).then(|| "out of order".to_owned()),
        }),
        next,
        counts_against_host: true,
    }
}
