//! Alerts to operators: each kind is told once when it begins and once when it is over, whatever the receiver does.

mod takeovers;

use std::time::{Duration, Instant};

use basiq_relay::config::{AlertTiming, Settings};
use basiq_sandbox::{Fault, FaultKind, JobScript, SandboxOptions, ScriptStep, StepEnd};
use relay_domain::SigningSecret;
use reqwest::Method;
use serde_json::json;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{
    Received, Receiver, TestApp, database::is_postgres, live::Live, scene::Scene,
};

const PATIENCE: Duration = Duration::from_secs(25);
/// The time in which a second alert about the same would have come.
const SETTLED: Duration = Duration::from_millis(700);

const DEAD_AND_OVER: [&str; 2] = ["deliveries-dead firing", "deliveries-dead resolved"];

/// The operators' receiver, and the secret that it verifies with.
struct Operators {
    receiver: Receiver,
    secret: SigningSecret,
    _tasks: JoinSet<()>,
}

impl Operators {
    async fn start() -> Self {
        let mut tasks = JoinSet::new();
        Self {
            receiver: Receiver::start(&mut tasks).await,
            secret: SigningSecret::generate(),
            _tasks: tasks,
        }
    }

    /// Points a relay's alerts here, with short times.
    fn told_by(&self, settings: &mut Settings) {
        let url = format!("{}/alerts", self.receiver.url());
        alert_at(&url, &self.secret, settings);
    }

    fn received(&self) -> Vec<Received> {
        self.receiver.received()
    }

    /// Waits until so many alerts have come, and no more come. Returns them as `kind state`.
    async fn told(&self, count: usize) -> Vec<String> {
        let began = Instant::now();
        while self.received().len() < count {
            let told = self.briefly();
            assert!(began.elapsed() < PATIENCE, "{count} expected: {told:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(SETTLED).await;
        self.briefly()
    }

    /// Checks that the first two alerts are about one problem.
    fn assert_one_problem(&self) {
        let received = self.received();
        assert_eq!(received[0].body["since"], received[1].body["since"]);
    }

    fn briefly(&self) -> Vec<String> {
        let official = Webhook::new(self.secret.expose()).unwrap();
        let received = self.received();
        let brief = received.iter().map(|one| {
            official.verify(one.raw.as_bytes(), &one.headers).unwrap();
            let text = one.body["text"].as_str().unwrap();
            assert!(text.starts_with("basiq-relay "), "{text}");
            let word = |name: &str| one.body[name].as_str().unwrap().to_owned();
            assert!(text.contains(&word("relay")), "{text}");
            format!("{} {}", word("kind"), word("state"))
        });
        brief.collect()
    }
}

fn alert_at(url: &str, secret: &SigningSecret, settings: &mut Settings) {
    settings.alerts.url = Some(url.to_owned().into());
    settings.alerts.secret = Some(secret.expose().to_owned().into());
    settings.alerts.timing = AlertTiming {
        host_paused: Duration::from_millis(300),
        breaker_open: Duration::from_millis(300),
        store_unwritable: Duration::from_secs(4),
        evaluation_interval: Duration::from_millis(50),
        probing: Duration::from_millis(50),
        reading: Duration::from_millis(100),
        retries: vec![Duration::from_millis(100); 2],
        time_limit: Duration::from_millis(500),
    };
}

fn done() -> JobScript {
    let step = ScriptStep::new("retrieve-accounts", Duration::ZERO, StepEnd::Succeeds);
    JobScript::new(vec![step])
}

async fn redeliver_dead(live: &Live) {
    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    let call = live.call(Method::POST, "deliveries/redeliver");
    let answer = call.json(&since).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_deliveries_are_told_once_and_once_more_when_none_is_left() {
    let operators = Operators::start().await;
    let live = Live::start(|settings| {
        settings.delivery.retry_schedule = vec![Duration::from_millis(20)];
        operators.told_by(settings);
    })
    .await;
    live.receiver.answer(4, 500);
    for _ in 0..2 {
        live.register(&live.sandbox.seed_job(done())).await;
    }
    assert_eq!(operators.told(1).await, ["deliveries-dead firing"]);
    let alert = &operators.received()[0];
    assert_eq!(alert.path, "/alerts");
    let dead = alert.body["details"]["deadDeliveries"].as_u64().unwrap();
    assert!((1..=2).contains(&dead), "{dead}");
    assert_eq!(alert.header("content-type"), "application/json");
    redeliver_dead(&live).await;
    assert_eq!(operators.told(2).await, DEAD_AND_OVER);
    operators.assert_one_problem();
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stays_paused_is_told_once_and_once_more_when_it_answers() {
    let operators = Operators::start().await;
    let live = Live::start(|settings| {
        settings.delivery.retry_schedule = vec![Duration::from_millis(20); 400];
        operators.told_by(settings);
    })
    .await;
    live.receiver.answer(10_000, 500);
    live.register(&live.sandbox.seed_job(done())).await;
    assert_eq!(operators.told(1).await, ["host-paused firing"]);
    let alert = &operators.received()[0].body;
    assert_eq!(alert["details"], json!({ "host": "127.0.0.1" }));
    live.receiver.accept_all();
    let told = operators.told(2).await;
    assert_eq!(told, ["host-paused firing", "host-paused resolved"]);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_told_once_and_once_more_when_basiq_accepts_it() {
    let operators = Operators::start().await;
    let mut right = TestApp::builder().into_settings();
    operators.told_by(&mut right);
    right.basiq.api_key = "the-right-key".to_owned().into();
    let live = Live::start_with(
        |settings| operators.told_by(settings),
        |options: &mut SandboxOptions, _| options.api_key = Some("the-right-key".into()),
    )
    .await;
    live.register(&live.sandbox.seed_job(done())).await;
    assert_eq!(operators.told(1).await, ["key-refused firing"]);
    let replaced = live.secrets.replace(&right).await.unwrap();
    assert!(replaced.api_key && !replaced.alert_secret);
    live.register(&live.sandbox.seed_job(done())).await;
    let told = operators.told(2).await;
    assert_eq!(told, ["key-refused firing", "key-refused resolved"]);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_is_told_once_and_once_more_when_basiq_answers() {
    let operators = Operators::start().await;
    let live = Live::start(|settings| operators.told_by(settings)).await;
    live.sandbox.set_faults(vec![Fault {
        kind: FaultKind::Status(503),
        rate: 1.0,
    }]);
    for _ in 0..8 {
        live.register(&live.sandbox.seed_job(done())).await;
    }
    assert_eq!(operators.told(1).await, ["breaker-open firing"]);
    live.sandbox.set_faults(Vec::new());
    let told = operators.told(2).await;
    assert_eq!(told, ["breaker-open firing", "breaker-open resolved"]);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_is_told_once_and_once_more_when_it_can() {
    let operators = Operators::start().await;
    let live = Live::start(|settings| operators.told_by(settings)).await;
    live.register(&live.sandbox.seed_job(done())).await;
    live.until(PATIENCE, || !live.receiver.received().is_empty())
        .await;
    let told = if is_postgres() {
        let mut other = live.database.direct().connect().await.unwrap();
        let mut lock = other.begin().await.unwrap();
        let statement = "LOCK TABLE watches IN ACCESS EXCLUSIVE MODE";
        lock.execute(statement).await.unwrap();
        let told = operators.told(1).await;
        lock.rollback().await.unwrap();
        told
    } else {
        let setting = live.database.setting();
        let mut other = SqliteConnection::connect(&setting).await.unwrap();
        other.execute("BEGIN IMMEDIATE").await.unwrap();
        let told = operators.told(1).await;
        other.execute("ROLLBACK").await.unwrap();
        told
    };
    assert_eq!(told, ["store-unwritable firing"]);
    let told = operators.told(2).await;
    assert_eq!(
        told,
        ["store-unwritable firing", "store-unwritable resolved"]
    );
    live.stop().await;
}

/// Returns the value of a counter of alerts.
async fn counted(live: &Live, result: &str) -> u64 {
    let answer = live.bare(Method::GET, "metrics").send().await.unwrap();
    let text = answer.text().await.unwrap();
    let name = format!("relay_alerts_total{{result=\"{result}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_alerts_that_never_answers_holds_nothing_up() {
    // It takes connections, and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/alerts", silent.local_addr().unwrap());
    let live = Live::start(|settings| {
        settings.delivery.retry_schedule = vec![Duration::from_millis(20)];
        alert_at(&url, &SigningSecret::generate(), settings);
    })
    .await;
    let before = counted(&live, "failed").await;
    live.receiver.answer(2, 500);
    live.register(&live.sandbox.seed_job(done())).await;
    let died = || live.receiver.received().len() >= 2;
    live.until(PATIENCE, died).await;
    for n in 3..10 {
        let began = Instant::now();
        live.register(&live.sandbox.seed_job(done())).await;
        live.until(PATIENCE, || live.receiver.received().len() >= n)
            .await;
        assert!(began.elapsed() < Duration::from_secs(5), "{n}");
    }
    let began = Instant::now();
    while counted(&live, "failed").await == before {
        assert!(began.elapsed() < PATIENCE, "no alert was given up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let began = Instant::now();
    live.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_is_refused_is_sent_again_with_the_same_id() {
    let operators = Operators::start().await;
    operators.receiver.answer(2, 500);
    let live = Live::start(|settings| {
        settings.delivery.retry_schedule = vec![Duration::from_millis(20)];
        operators.told_by(settings);
    })
    .await;
    live.receiver.answer(2, 500);
    live.register(&live.sandbox.seed_job(done())).await;
    let told = operators.told(3).await;
    assert_eq!(told, ["deliveries-dead firing"; 3]);
    let received = operators.received();
    let ids: Vec<_> = received
        .iter()
        .map(|one| one.header("webhook-id"))
        .collect();
    assert!(ids[0].starts_with("alr_"), "{ids:?}");
    assert_eq!(ids, [ids[0]; 3]);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_signs_alerts_at_once() {
    let operators = Operators::start().await;
    let live = Live::start(|settings| {
        settings.delivery.retry_schedule = vec![Duration::from_millis(20)];
        operators.told_by(settings);
    })
    .await;
    live.receiver.answer(2, 500);
    live.register(&live.sandbox.seed_job(done())).await;
    assert_eq!(operators.told(1).await, ["deliveries-dead firing"]);
    let mut settings = TestApp::builder().into_settings();
    let new = SigningSecret::generate();
    alert_at("https://hooks.example/", &new, &mut settings);
    let replaced = live.secrets.replace(&settings).await.unwrap();
    assert!(replaced.alert_secret && !replaced.api_key);
    redeliver_dead(&live).await;
    let over = || operators.received().len() >= 2;
    live.until(PATIENCE, over).await;
    let over = &operators.received()[1];
    assert_eq!(over.path, "/alerts", "the URL is that of the start");
    let official = Webhook::new(new.expose()).unwrap();
    official.verify(over.raw.as_bytes(), &over.headers).unwrap();
    live.stop().await;
}

#[tokio::test]
async fn a_relay_whose_alerts_could_never_arrive_does_not_start() {
    let scene = Scene::set(SandboxOptions::default()).await;
    let secret = SigningSecret::generate();
    let good = "https://hooks.example/token-qv72";
    for (url, secret, setting) in [
        (
            "ftp://hooks.example/token-qv72",
            secret.expose(),
            "RELAY_ALERT_URL",
        ),
        (
            "https://169.254.169.254/token-qv72",
            secret.expose(),
            "RELAY_ALERT_URL",
        ),
        (good, "", "RELAY_ALERT_SECRET"),
        (good, "a-secret-of-sorts-qv72", "RELAY_ALERT_SECRET"),
    ] {
        let mut command = scene.setup.command();
        command
            .arg("serve")
            .env("RELAY_ALERT_URL", url)
            .env("RELAY_ALERT_SECRET", secret);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = ended.expect("it ends").unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}: {told}");
        assert!(told.contains(setting), "{told}");
        assert!(!told.contains("qv72"), "{told}");
    }
}
