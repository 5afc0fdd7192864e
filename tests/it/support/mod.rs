//! A whole relay in a test. Its store is a temporary file or database, the sandbox serves as its Basiq, and a
//! recording receiver as its callback. All share one clock, which only the test moves.

pub(crate) mod cable;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod database;
pub(crate) mod described;
pub(crate) mod dns;
pub(crate) mod listener;
pub(crate) mod live;
pub(crate) mod on_terminal;
pub(crate) mod own_network;
pub(crate) mod pooler;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod scene;
pub(crate) mod tls_receiver;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, Response, header},
};
use basiq_relay::{
    app::{ActivityWorker, ClockWorker, Relay, ReloadableSecrets, UpkeepWorker, open_store},
    config::{OperatorToken, Settings},
    delivery::DeliveryWorker,
    discovery::DiscoveryWorker,
    tracker::{BankWorker, TrackerWorker},
};
use basiq_sandbox::{Sandbox, SandboxOptions};
use jiff::Timestamp;
use relay_domain::{
    Actor, ApiKey, OperatorName, Requester, SecretHeaders, SigningSecret, clock::Clock,
};
use relay_runtime::{TickOutcome, Worker};
use relay_store::{CallbackAuthChange, HostLimits, PartChange, Store};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) use self::{
    database::TestDatabase,
    receiver::{Received, Receiver},
};

/// The time-out of work in `run_due`.
const PATIENCE: Duration = Duration::from_mins(1);

/// Builds a [`TestApp`].
pub(crate) struct Builder {
    settings: Settings,
    sandbox: SandboxOptions,
    basiq: Option<url::Url>,
    database: Option<TestDatabase>,
}

/// A client's credentials.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) key: ApiKey,
    pub(crate) secret: SigningSecret,
}

/// A relay whose workers the test ticks.
pub(crate) struct TestApp {
    pub(crate) clock: Clock,
    pub(crate) sandbox: Sandbox,
    pub(crate) receiver: Receiver,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: Identity,
    pub(crate) settings: Settings,
    pub(crate) secrets: ReloadableSecrets,
    router: Router,
    tracker: TrackerWorker,
    banks: BankWorker,
    discovery: DiscoveryWorker,
    delivery: DeliveryWorker,
    upkeep: UpkeepWorker,
    activity: ActivityWorker,
    clock_worker: ClockWorker,
    stop: CancellationToken,
    database: Option<TestDatabase>,
    tasks: JoinSet<()>,
    leaves_work: bool,
    /// The time until the next due work, as of the latest tick.
    next_due_in: Option<Duration>,
}

impl Builder {
    pub(crate) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) fn sandbox(mut self, change: impl FnOnce(&mut SandboxOptions)) -> Self {
        change(&mut self.sandbox);
        self
    }

    pub(crate) fn into_settings(self) -> Settings {
        self.settings
    }

    /// Uses this address as Basiq, instead of the sandbox's.
    pub(crate) fn basiq(mut self, url: url::Url) -> Self {
        self.basiq = Some(url);
        self
    }

    /// Uses this database as the store.
    pub(crate) fn on(mut self, database: TestDatabase) -> Self {
        self.database = Some(database);
        self
    }

    pub(crate) async fn build(self) -> TestApp {
        let Self {
            mut settings,
            sandbox,
            basiq,
            database,
        } = self;
        let database = match database {
            Some(database) => database,
            None => TestDatabase::new().await,
        };
        settings.store.database = database.url.clone();
        let clock = Clock::manual(Clock::system().now());
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        settings.basiq.url = basiq.unwrap_or_else(|| address(&listener));
        let sandbox = Sandbox::new(sandbox, clock.clone());
        let (serving, until) = (sandbox.clone(), stop.clone());
        tasks.spawn(async move { serving.serve(listener, until).await.unwrap() });
        let receiver = Receiver::start(&mut tasks).await;
        let mut app = TestApp::start(settings, clock, (sandbox, receiver), (stop, tasks)).await;
        app.client = app.add_client("test").await;
        app.database = Some(database);
        app
    }
}

fn address(listener: &TcpListener) -> url::Url {
    format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap()
}

impl TestApp {
    pub(crate) fn builder() -> Builder {
        let mut settings = Settings::default();
        settings.basiq.api_key = "test-basiq-key".to_owned().into();
        settings.basiq.requests_per_second = 1000;
        settings.delivery.allow_http = true;
        settings.delivery.allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
        Builder {
            settings,
            sandbox: SandboxOptions::default(),
            basiq: None,
            database: None,
        }
    }

    pub(crate) async fn new() -> Self {
        Self::builder().build().await
    }

    async fn start(
        settings: Settings,
        clock: Clock,
        (sandbox, receiver): (Sandbox, Receiver),
        (stop, tasks): (CancellationToken, JoinSet<()>),
    ) -> Self {
        let relay = Relay::build(settings, clock.clone()).await.unwrap();
        Self {
            clock,
            sandbox,
            receiver,
            store: relay.store,
            client: nobody(),
            settings: relay.settings,
            secrets: relay.secrets,
            router: relay.router,
            tracker: relay.tracker,
            banks: relay.banks,
            discovery: relay.discovery,
            delivery: relay.delivery,
            upkeep: relay.upkeep,
            activity: relay.activity,
            clock_worker: relay.clock,
            stop,
            database: None,
            tasks,
            leaves_work: false,
            next_due_in: None,
        }
    }

    /// Replaces the relay by a new one on the same store, as after a restart.
    pub(crate) async fn restart(&mut self) {
        self.store.close().await;
        let relay = Relay::build(self.settings.clone(), self.clock.clone())
            .await
            .unwrap();
        self.store = relay.store;
        self.router = relay.router;
        self.secrets = relay.secrets;
        self.tracker = relay.tracker;
        self.banks = relay.banks;
        self.discovery = relay.discovery;
        self.delivery = relay.delivery;
        self.upkeep = relay.upkeep;
        self.activity = relay.activity;
        self.clock_worker = relay.clock;
    }

    pub(crate) async fn add_client(&self, name: &str) -> Identity {
        let (key, secret) = (ApiKey::generate(), SigningSecret::generate());
        let id = name.parse().unwrap();
        let added = self
            .store
            .add_client(&id, &key.hash(), &secret, actor(), self.clock.now())
            .await;
        added.unwrap().expect("a free name");
        Identity {
            name: name.to_owned(),
            key,
            secret,
        }
    }

    /// Gives a client's callbacks a header with the value `header-word`.
    pub(crate) async fn add_callback_header(&self, client: &str, name: &str) {
        let (client, line) = (client.parse().unwrap(), format!("{name}: header-word"));
        let change = CallbackAuthChange {
            headers: PartChange::Replace(SecretHeaders::parse(&line).unwrap()),
            ..CallbackAuthChange::default()
        };
        let store = &self.store;
        let changed = store.change_callback_auth(&client, &change, actor(), self.now());
        assert!(changed.await.unwrap());
    }

    /// Returns the database of the store.
    pub(crate) fn database(&self) -> &TestDatabase {
        self.database.as_ref().expect("one of its own")
    }

    /// Marks that the test leaves due work on purpose.
    pub(crate) fn leave_work(&mut self) {
        self.leaves_work = true;
    }

    // ------------------------------------------------------------------ HTTP

    /// Sends a request. Fails if the OpenAPI document does not describe the answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = Answer::read(self.router.clone().oneshot(request).await.unwrap()).await;
        described::assert_described(&method, &path, &answer);
        answer
    }

    pub(crate) async fn call_as(
        &self,
        who: &Identity,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(
            header::AUTHORIZATION,
            format!("Bearer {}", who.key.expose()),
        );
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call_as(&self.client, Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call_as(&self.client, Method::POST, path, Some(body))
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call_as(&self.client, Method::DELETE, path, None).await
    }

    /// Returns the URL of a callback at this test's receiver.
    pub(crate) fn callback(&self, path: &str) -> String {
        format!("{}{path}", self.receiver.url())
    }

    /// Registers a watch with the receiver's `/hook` as its callback, and these further options. Returns the watch's
    /// id.
    pub(crate) async fn watch_with(&self, job_id: &str, options: Value) -> String {
        let mut body = json!({ "jobId": job_id, "callbackUrl": self.callback("/hook") });
        let object = body.as_object_mut().unwrap();
        object.extend(options.as_object().unwrap().clone());
        let answer = self.post("/watch", &body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn watch(&self, job_id: &str) -> String {
        self.watch_with(job_id, json!({})).await
    }

    /// Returns a watch as its client reads it.
    pub(crate) async fn story(&self, watch_id: &str) -> Value {
        let answer = self.get(&format!("/watch/{watch_id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    // ------------------------------------------------------------------ work

    /// Ticks all workers until nothing is due and nothing is in flight.
    pub(crate) async fn run_due(&mut self) {
        let work = async {
            while self.tick().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, work)
            .await
            .expect("the work ends");
    }

    /// Lets the tracker pause, so that other relays can use the store. Returns the number of looks in flight
    /// afterwards.
    pub(crate) async fn leave_store_to_others(&mut self) -> usize {
        self.tracker
            .leave_store_to_others(Duration::from_millis(20))
            .await;
        self.tracker.in_flight()
    }

    /// Returns the numbers of looks and of attempts in flight. Work on its way to its worker counts too.
    pub(crate) fn in_flight(&self) -> (usize, usize) {
        (self.tracker.in_flight(), self.delivery.in_flight())
    }

    /// Ticks only the tracker, until all its looks are recorded.
    pub(crate) async fn look(&mut self) {
        while self.tracker.tick().await.unwrap() == TickOutcome::Busy
            || self.tracker.in_flight() > 0
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ticks each worker once. Returns whether there is more to do now.
    async fn tick(&mut self) -> bool {
        let ticks = [
            self.tracker.tick().await.unwrap(),
            self.banks.tick().await.unwrap(),
            self.discovery.tick().await.unwrap(),
            self.delivery.tick().await.unwrap(),
        ];
        let looks = self.tracker.in_flight() + self.banks.in_flight() + self.discovery.in_flight();
        let in_flight = looks + self.delivery.in_flight();
        let waits = ticks.iter().map(|tick| match tick {
            TickOutcome::Busy | TickOutcome::Paced(_) => Some(Duration::ZERO),
            TickOutcome::Idle { next_due_in } => *next_due_in,
        });
        self.next_due_in = waits.flatten().min();
        let is_due = self.next_due_in.is_some_and(|wait| wait.is_zero());
        is_due || in_flight > 0
    }

    pub(crate) async fn upkeep(&mut self) {
        while self.upkeep.tick().await.unwrap() == TickOutcome::Busy {}
    }

    /// Stores what the relay counted for the console.
    pub(crate) async fn record_activity(&mut self) {
        while self.activity.tick().await.unwrap() == TickOutcome::Busy {}
    }

    /// Lets the relay check whether the clock was set.
    pub(crate) async fn check_clock(&mut self) {
        self.clock_worker.tick().await.unwrap();
    }

    /// Moves the clock in steps. After each step it runs the work that is due.
    pub(crate) async fn pass(&mut self, total: Duration, step: Duration) {
        let mut passed = Duration::ZERO;
        while passed < total {
            self.clock.advance(step);
            passed += step;
            self.run_due().await;
        }
    }

    /// Moves the clock from one due time to the next, and runs the work that is due.
    pub(crate) async fn skip(&mut self, total: Duration) {
        let mut left = total;
        self.run_due().await;
        while !left.is_zero() {
            let step = self.next_due_in.unwrap_or(left).min(left);
            self.clock.advance(step);
            left -= step;
            self.run_due().await;
        }
    }

    /// Returns the bodies that callbacks received so far, accepted or refused, in order of arrival.
    pub(crate) fn told(&self) -> Vec<Value> {
        self.receiver
            .received()
            .into_iter()
            .map(|received| received.body)
            .collect()
    }

    /// Returns `status/action` of each body so far.
    pub(crate) fn told_briefly(&self) -> Vec<String> {
        let brief = |body: Value| {
            format!(
                "{}/{}",
                body["status"].as_str().unwrap(),
                body["action"].as_str().unwrap()
            )
        };
        self.told().into_iter().map(brief).collect()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.abort_all();
        if std::thread::panicking() || self.leaves_work {
            return;
        }
        assert_eq!(self.tracker.in_flight(), 0, "looks are left in flight");
        assert_eq!(self.delivery.in_flight(), 0, "attempts are left in flight");
        let (database, clock) = (self.settings.store.clone(), self.clock.clone());
        let now = clock.now();
        // A new thread with a runtime and a store of its own. The app's connections need the runtime that this thread
        // blocks.
        let due = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let hosts = HostLimits {
                    per_host: usize::MAX,
                    ..HostLimits::default()
                };
                let store = open_store(&database, &clock).await.unwrap().store;
                let due = store.next_delivery_due(&hosts).await.unwrap();
                store.close().await;
                due
            })
        });
        let due = due.join().unwrap();
        assert!(
            due.is_none_or(|due| due > now),
            "deliveries are left due at {due:?}"
        );
    }
}

/// Returns an operator of the settings, by name and token.
pub(crate) fn named((name, token): (&str, &str)) -> OperatorToken {
    OperatorToken {
        line: 1,
        name: name.parse().unwrap(),
        token: token.into(),
    }
}

/// Returns an operator who changes something in a test.
pub(crate) fn actor() -> &'static Actor {
    static ACTOR: LazyLock<Actor> = LazyLock::new(|| Actor {
        operator: OperatorName::recorded("tester"),
        from: None,
    });
    &ACTOR
}

/// Returns the same operator as a requester of the store.
pub(crate) fn operator() -> &'static Requester {
    static CALLER: LazyLock<Requester> = LazyLock::new(|| Requester::Operator(actor().clone()));
    &CALLER
}

fn nobody() -> Identity {
    Identity {
        name: String::new(),
        key: ApiKey::presented(""),
        secret: SigningSecret::generate(),
    }
}

/// Builds a job document in Basiq's form. Each step is a title, a status and a result.
pub(crate) fn job(id: &str, created: Timestamp, steps: &[(&str, &str, Value)]) -> Value {
    let steps = steps.iter().map(
        |(title, status, result)| json!({ "title": title, "status": status, "result": result }),
    );
    json!({
        "type": "job", "id": id, "created": created, "updated": created, "jobType": "connection",
        "steps": steps.collect::<Vec<_>>(),
        "links": { "self": format!("/jobs/{id}"), "source": "/users/u-7/connections/c-9" },
    })
}

/// Builds the result of a failed step.
pub(crate) fn failure(code: &str) -> Value {
    json!({ "code": code, "title": "A title", "detail": "What the bank said" })
}

/// A response of the API, with its whole body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            text,
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}
