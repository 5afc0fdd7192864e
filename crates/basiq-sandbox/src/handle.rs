//! The handle of a sandbox: serves it over HTTP, and lets tests change its state.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use relay_domain::clock::Clock;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    announce::{self, SandboxWebhook},
    bank::ConnectionMethod,
    calls::{Call, CallLog},
    consent::CONSENT_LASTS,
    event::SandboxEventType,
    fault::Fault,
    http,
    login::BankLogin,
    script::{JobScript, Origin, ScriptRetries},
    state::{NewConnection, OutgoingWebhook, SandboxState, StateRules, StoredJob, new_id},
};

/// The settings of a sandbox.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// How many times faster than at Basiq its jobs run. Anything but a finite number above 0 means 1.
    pub speed: f64,
    /// The deliberate faults at the start.
    pub faults: Vec<Fault>,
    /// The only accepted API key; without it, every key is accepted.
    pub api_key: Option<SecretString>,
    /// The receiver of webhooks; without it, none are sent.
    pub webhook: Option<SandboxWebhook>,
    /// The events whose webhooks the receiver is sent.
    pub webhook_events: Vec<SandboxEventType>,
    /// The time from a connection's success to the refresh that Basiq starts by itself, on the sandbox's clock;
    /// without it, there are no such refreshes.
    pub refresh_every: Option<Duration>,
    /// How long a consent lasts, on the sandbox's clock.
    pub consent_lasts: Duration,
    /// How the queue retries an update that met an unavailable bank.
    pub update_retries: ScriptRetries,
    /// The seed of all random choices: which calls meet a fault, and which jobs of Nucleus Bank ask first.
    pub seed: u64,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            speed: 1.0,
            faults: Vec::new(),
            api_key: None,
            webhook: None,
            webhook_events: SandboxEventType::USUAL.to_vec(),
            refresh_every: None,
            consent_lasts: CONSENT_LASTS,
            update_retries: ScriptRetries {
                interval: Duration::from_hours(2),
                succeeds_on: None,
            },
            seed: 0,
        }
    }
}

/// A Basiq look-alike. Clones are handles to the same sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    api_key: Option<SecretString>,
    webhook: Option<SandboxWebhook>,
    speed: f64,
    clock: Clock,
    memory: Mutex<SandboxState>,
}

impl Sandbox {
    /// Creates an empty sandbox.
    #[must_use]
    pub fn new(options: SandboxOptions, clock: Clock) -> Self {
        let is_sound = options.speed.is_finite() && options.speed > 0.0;
        let speed = if is_sound { options.speed } else { 1.0 };
        let rules = StateRules {
            speed,
            update_retries: options.update_retries,
            refresh_every: options.refresh_every,
            consent_lasts: options.consent_lasts,
            subscribed: options.webhook.is_some().then_some(options.webhook_events),
        };
        let memory = SandboxState::new(rules, options.faults, options.seed);
        Self(Arc::new(Inner {
            api_key: options.api_key,
            webhook: options.webhook,
            speed,
            clock,
            memory: Mutex::new(memory),
        }))
    }

    /// Returns the router of its HTTP API.
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// Serves HTTP on `listener` until `stop` is cancelled and the calls in flight are answered.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let announce = self.announce(listener.local_addr()?, stop.clone());
        let serve =
            axum::serve(listener, self.router()).with_graceful_shutdown(stop.cancelled_owned());
        let (served, ()) = tokio::join!(serve, announce);
        served
    }

    /// Sends webhooks, if a receiver is set.
    async fn announce(&self, address: SocketAddr, stop: CancellationToken) {
        if let Some(webhook) = self.0.webhook.clone() {
            let base = format!("http://{address}");
            announce::announce(self.clone(), webhook, base, stop).await;
        }
    }

    /// Replaces the deliberate faults, for calls and jobs from now on.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.memory().faults = faults;
    }

    /// Returns the calls so far.
    #[must_use]
    pub fn calls(&self) -> CallLog {
        self.memory().calls.clone()
    }

    /// Starts a job from its script and returns its id. Creates the user and the connection if they do not exist.
    #[must_use]
    pub fn seed_job(&self, mut script: JobScript) -> String {
        let now = self.now();
        let mut memory = self.memory();
        let user_id = script.user_id.take().unwrap_or_else(new_id);
        if memory.users.get(&user_id).is_none() {
            let email = json!("sandbox@example.com");
            let profile = Map::from_iter([("email".to_owned(), email)]);
            memory.add_user(&user_id, profile, now);
        }
        let connection_id = script.connection_id.take().unwrap_or_else(new_id);
        if memory.connections.get(&connection_id).is_none() {
            let connection = NewConnection {
                id: Some(connection_id.clone()),
                user_id: &user_id,
                institution_id: &script.institution_id,
                method: ConnectionMethod::Web,
                login: BankLogin {
                    id: "gavinBelson".to_owned(),
                    password: "hooli2016".to_owned(),
                },
                told_status: if script.origin == Origin::Create {
                    "pending"
                } else {
                    "active"
                },
            };
            memory.add_connection(connection, now);
        }
        script.user_id = Some(user_id);
        script.connection_id = Some(connection_id);
        memory.start(script, now).id
    }

    /// Serves this document unchanged as the job with that id. It replaces an existing job.
    pub fn seed_document(&self, id: &str, document: Value) {
        let mut memory = self.memory();
        memory
            .jobs
            .keep(id.to_owned(), StoredJob::Document(document));
    }

    /// Removes a job. From now on the sandbox answers 404 for it.
    pub fn forget_job(&self, id: &str) {
        self.memory().jobs.forget(id);
    }

    /// Expires every issued token.
    pub fn expire_tokens(&self) {
        self.memory().tokens.expire_all();
    }

    /// Returns when a job settled, on the sandbox's clock. Returns `None` for a running job, a document or an unknown
    /// id.
    #[must_use]
    pub fn settled_at(&self, job_id: &str) -> Option<Timestamp> {
        let now = self.now();
        match self.memory().jobs.get(job_id)? {
            StoredJob::Life(job) => job.settles_at().filter(|&settled| settled <= now),
            StoredJob::Document(_) => None,
        }
    }

    /// Does what time has brought, and returns the webhooks to send.
    pub(super) fn take_webhooks(&self) -> Vec<OutgoingWebhook> {
        let now = self.now();
        let mut memory = self.memory();
        memory.run_due(now);
        memory.take_webhooks()
    }

    /// Returns the time on the sandbox's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Returns how many times faster than at Basiq its jobs run.
    pub(super) fn speed(&self) -> f64 {
        self.0.speed
    }

    /// Returns the only accepted API key, if one is set.
    pub(super) fn api_key(&self) -> Option<&SecretString> {
        self.0.api_key.as_ref()
    }

    /// Locks the state. The guard must never be held across an await.
    pub(super) fn memory(&self) -> MutexGuard<'_, SandboxState> {
        self.0.memory.lock()
    }

    /// Records a call.
    pub(super) fn record(&self, call: Call) {
        self.memory().calls.record(call);
    }
}
