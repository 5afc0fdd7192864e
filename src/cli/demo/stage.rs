//! The parts of the demo: a sandbox, a relay on a temporary store, and a receiver, on loopback ports.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use basiq_sandbox::{Fault, FaultKind, Sandbox, SandboxOptions, ScriptRetries};
use parking_lot::Mutex;
use relay_domain::{ApiKey, SigningSecret, clock::Clock};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    app::Relay,
    cli::{
        demo::{
            basiq::DemoBasiq,
            scenario::{BANK_THAT_IS_OUT, DemoScenario},
        },
        operator::command_line_actor,
        receiver::{Received, Receiver, ReceiverOptions},
    },
    config::{DatabaseUrl, Settings},
};

/// How many times faster than Basiq the sandbox runs: a challenge expires after 6 s, not 120 s.
pub(super) const SPEED: f64 = 20.0;

/// The time from a failed update to Basiq's next try. Basiq itself waits two hours.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// The time from the end of a connection's job to the refresh that Basiq starts by itself.
pub(super) const NIGHT: Duration = Duration::from_secs(4);

/// The back-off between attempts, short enough for a person to watch.
pub(super) const RETRY_SCHEDULE: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

type Subscribers = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Received>>>>;

/// Everything that a scenario needs.
pub(super) struct DemoStage {
    pub(super) basiq: DemoBasiq,
    sandbox: Sandbox,
    http: Client,
    relay: Url,
    receiver: Url,
    flaky: Url,
    api_key: ApiKey,
    subscribers: Subscribers,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
    database: PathBuf,
}

impl DemoStage {
    /// Starts everything on free ports.
    pub(super) async fn set() -> Result<Self> {
        let http = Client::builder()
            .no_proxy()
            .build()
            .context("no HTTP client")?;
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (sandbox, basiq) = run_sandbox(&stop, &mut tasks).await?;
        let database = std::env::temp_dir().join(format!("{}.db", uuid::Uuid::new_v4()));
        let (api_key, secret) = (ApiKey::generate(), SigningSecret::generate());
        let settings = settings(&basiq, &database);
        let relay = run_relay(settings, &api_key, &secret, &stop, &mut tasks);
        let relay = Box::pin(relay).await?;
        let subscribers = Subscribers::default();
        let steady = ReceiverOptions {
            secret: Some(secret),
            ..ReceiverOptions::default()
        };
        let flaky = ReceiverOptions {
            fail: 2,
            ..steady.clone()
        };
        let receiver = receive(steady, &subscribers, &stop, &mut tasks).await?;
        let flaky = receive(flaky, &subscribers, &stop, &mut tasks).await?;
        let basiq = DemoBasiq::sign_in(http.clone(), basiq).await?;
        Ok(Self {
            basiq,
            sandbox,
            http,
            relay,
            receiver,
            flaky,
            api_key,
            subscribers,
            stop,
            tasks,
            database,
        })
    }

    /// Returns the addresses of the relay and the receiver.
    pub(super) fn describe(&self) -> String {
        format!(
            "relay     {}docs\nreceiver  {}\n(a Basiq look-alike runs {SPEED} times faster than Basiq)\n",
            self.relay, self.receiver
        )
    }

    /// Returns a channel with the events that arrive at the callback of a scenario.
    pub(super) fn events_of(&self, slug: &str) -> mpsc::UnboundedReceiver<Received> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut subscribers = self.subscribers.lock();
        subscribers.insert(format!("/hooks/{slug}"), sender);
        receiver
    }

    /// Registers a watch.
    pub(super) async fn watch(
        &self,
        scenario: &DemoScenario,
        job_id: &str,
        operation: Option<&str>,
    ) -> Result<()> {
        let callback = self.callback(scenario)?;
        let body = json!({ "jobId": job_id, "callbackUrl": callback, "operation": operation });
        self.register("watch", &body, StatusCode::ACCEPTED).await
    }

    /// Registers a subscription to a person.
    pub(super) async fn subscribe(&self, scenario: &DemoScenario, user_id: &str) -> Result<()> {
        let body = json!({ "userId": user_id, "callbackUrl": self.callback(scenario)? });
        self.register("subscriptions", &body, StatusCode::CREATED)
            .await
    }

    /// Returns the callback of a scenario.
    fn callback(&self, scenario: &DemoScenario) -> Result<Url> {
        let receiver = if scenario.flaky {
            &self.flaky
        } else {
            &self.receiver
        };
        receiver
            .join(&format!("hooks/{}", scenario.slug))
            .context("no address")
    }

    /// Posts a registration to the relay, which must answer with `expected`.
    async fn register(&self, path: &str, body: &Value, expected: StatusCode) -> Result<()> {
        let answer = self
            .http
            .post(self.relay.join(path).context("no address")?)
            .bearer_auth(self.api_key.expose())
            .json(body)
            .send()
            .await
            .context("the relay does not answer")?;
        let status = answer.status();
        if status != expected {
            let problem = answer.text().await.unwrap_or_default();
            bail!("the relay answered HTTP {status}: {problem}");
        }
        Ok(())
    }

    /// Sends the person's answer to the open challenge of a watch to the relay.
    pub(super) async fn answer(&self, watch_id: &str, answer: &str) -> Result<()> {
        let path = format!("watch/{watch_id}/mfa");
        let url = self.relay.join(&path).context("no address")?;
        let answered = self
            .http
            .post(url)
            .bearer_auth(self.api_key.expose())
            .json(&json!({ "response": [answer] }))
            .send()
            .await
            .context("the relay does not answer")?;
        answered
            .error_for_status()
            .context("the answer was refused")?;
        Ok(())
    }

    /// Ends the bank outage that the demo began with.
    pub(super) fn end_outage(&self) {
        self.sandbox.set_faults(Vec::new());
    }

    /// Returns the state of a watch's last delivery and the number of its attempts.
    pub(super) async fn last_delivery(&self, watch_id: &str) -> Result<(String, usize)> {
        let url = self
            .relay
            .join(&format!("watch/{watch_id}"))
            .context("no address")?;
        let answer = self
            .http
            .get(url)
            .bearer_auth(self.api_key.expose())
            .send()
            .await;
        let watch: Value = answer.context("the relay does not answer")?.json().await?;
        let last = watch
            .get("events")
            .and_then(Value::as_array)
            .and_then(|all| all.last());
        let delivery = last
            .and_then(|event| event.pointer("/deliveries/0"))
            .context("no event")?;
        let state = delivery
            .get("state")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let attempts = delivery
            .get("attempts")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        Ok((state.to_owned(), attempts))
    }

    /// Stops everything and deletes the store.
    pub(super) async fn strike(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a part of the demo broke")??;
        }
        for ending in ["", "-wal", "-shm", ".lock"] {
            let mut path = self.database.clone().into_os_string();
            path.push(ending);
            // SQLite may have removed the file itself.
            drop(std::fs::remove_file(path));
        }
        Ok(())
    }
}

fn settings(basiq: &Url, database: &std::path::Path) -> Settings {
    let mut settings = Settings::default();
    settings.store.database = DatabaseUrl::Sqlite(database.to_owned());
    settings.basiq.url = basiq.clone();
    settings.basiq.api_key = "demo".to_owned().into();
    settings.basiq.requests_per_second = 100;
    settings.tracking.poll_min_interval = Duration::from_millis(200);
    settings.tracking.update_retry_interval = RETRY_INTERVAL;
    settings.tracking.outage_poll_interval = Duration::from_secs(1);
    settings.subscriptions.discovery_interval = Duration::from_secs(1);
    settings.delivery.allow_http = true;
    settings.delivery.allow_networks =
        vec![ipnet::IpNet::from(std::net::IpAddr::from([127, 0, 0, 1]))];
    settings.delivery.retry_schedule = RETRY_SCHEDULE.to_vec();
    settings.server.shutdown_grace = Duration::from_secs(2);
    settings
}

async fn bind() -> Result<(TcpListener, Url)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .context("no free port on 127.0.0.1")?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let url = Url::parse(&format!("http://{address}")).context("no address")?;
    Ok((listener, url))
}

async fn run_sandbox(
    stop: &CancellationToken,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<(Sandbox, Url)> {
    let (listener, url) = bind().await?;
    let options = SandboxOptions {
        speed: SPEED,
        faults: vec![Fault {
            kind: FaultKind::Outage(BANK_THAT_IS_OUT.to_owned()),
            rate: 1.0,
        }],
        update_retries: ScriptRetries {
            interval: RETRY_INTERVAL.mul_f64(SPEED),
            succeeds_on: Some(2),
        },
        refresh_every: Some(NIGHT.mul_f64(SPEED)),
        ..SandboxOptions::default()
    };
    let (sandbox, until) = (Sandbox::new(options, Clock::system()), stop.clone());
    let serving = sandbox.clone();
    tasks.spawn(async move { serving.serve(listener, until).await.context("sandbox") });
    Ok((sandbox, url))
}

/// Starts a relay with one client.
async fn run_relay(
    settings: Settings,
    api_key: &ApiKey,
    secret: &SigningSecret,
    stop: &CancellationToken,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<Url> {
    let relay = Relay::build(settings, Clock::system()).await?;
    let name = "demo".parse().context("a client name")?;
    let (key, now) = (api_key.hash(), Clock::system().now());
    relay
        .store
        .add_client(&name, &key, secret, &command_line_actor(), now)
        .await
        .context("no client")?;
    let (listener, url) = bind().await?;
    let until = stop.clone();
    tasks.spawn(async move {
        let signals = (until.cancelled_owned(), std::future::pending());
        relay.serve_on(listener, None, signals).await
    });
    Ok(url)
}

/// Starts a receiver that sends each event to the subscriber of its path.
async fn receive(
    options: ReceiverOptions,
    subscribers: &Subscribers,
    stop: &CancellationToken,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<Url> {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let (receiver, mut events) = Receiver::bind(address, options, Clock::system())
        .await
        .context("no free port")?;
    let url = Url::parse(&format!("http://{}", receiver.local_addr())).context("no address")?;
    let until = stop.clone();
    tasks.spawn(async move { receiver.serve(until).await.context("receiver") });
    let subscribers = Arc::clone(subscribers);
    tasks.spawn(async move {
        while let Some(event) = events.recv().await {
            let all = subscribers.lock();
            if let Some(subscriber) = all.get(&event.path) {
                // A scenario that has ended no longer receives.
                drop(subscriber.send(event));
            }
        }
        Ok(())
    });
    Ok(url)
}
