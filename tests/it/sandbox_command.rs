//! `basiq-relay sandbox` as a person runs it: what it does by itself, its webhooks, and its controls.

use std::{collections::BTreeSet, process::Stdio, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode};
use parking_lot::Mutex;
use relay_domain::SigningSecret;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::Child,
    task::JoinSet,
};

use crate::support::process::binary;

/// The webhooks that came, oldest first.
type Webhooks = Arc<Mutex<Vec<Value>>>;

/// A sandbox that runs as a process, and the receiver of its webhooks.
struct SandboxProcess {
    base: String,
    http: Client,
    token: String,
    webhooks: Webhooks,
    _child: Child,
    _tasks: JoinSet<()>,
}

async fn keep(State(webhooks): State<Webhooks>, Json(body): Json<Value>) -> StatusCode {
    webhooks.lock().push(body);
    StatusCode::NO_CONTENT
}

impl SandboxProcess {
    async fn start(arguments: &[&str]) -> Self {
        let webhooks = Webhooks::default();
        let router = Router::new().fallback(keep).with_state(webhooks.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = format!("http://{}/hook", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let secret = SigningSecret::generate();
        let mut child = binary()
            .args(["sandbox", "--listen", "127.0.0.1:0", "--webhook-url"])
            .args([&receiver, "--webhook-secret", secret.expose()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let base = line.split(' ').find(|word| word.starts_with("http://"));
        let mut sandbox = Self {
            base: base.unwrap().to_owned(),
            http: Client::builder().build().unwrap(),
            token: String::new(),
            webhooks,
            _child: child,
            _tasks: tasks,
        };
        let request = sandbox.http.post(format!("{}/token", sandbox.base));
        let request = request
            .header("authorization", "Basic any")
            .header("basiq-version", "3.0")
            .form(&[("scope", "SERVER_ACCESS")]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap();
        token.clone_into(&mut sandbox.token);
        sandbox
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request.bearer_auth(&self.token).json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.base));
        let answer = request.bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// Connects a bank for a new user. Returns the user's id.
    async fn connects(&self, login: &str, password: &str) -> String {
        let (_, user) = self.post("/users", json!({"mobile": "+61400000000"})).await;
        let user = user["id"].as_str().unwrap().to_owned();
        let bank = json!({"id": "AU00000"});
        let body = json!({"loginId": login, "password": password, "institution": bank});
        let path = format!("/users/{user}/connections");
        assert_eq!(self.post(&path, body).await.0, 202);
        user
    }

    /// Waits until there is a webhook that `is_wanted` accepts.
    async fn heard(&self, is_wanted: impl Fn(&Value) -> bool) {
        for _ in 0..2000 {
            if self.webhooks.lock().iter().any(&is_wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come: {:#?}", self.webhooks.lock());
    }

    fn types_heard(&self) -> BTreeSet<String> {
        let webhooks = self.webhooks.lock();
        let types = webhooks.iter().map(|w| w["eventTypeId"].as_str().unwrap());
        types.map(str::to_owned).collect()
    }
}

fn is(event_type: &'static str) -> impl Fn(&Value) -> bool {
    move |webhook| webhook["eventTypeId"] == event_type
}

#[tokio::test]
async fn a_person_is_refreshed_overnight_and_their_consent_ends() {
    // An hour takes 0.36 seconds: the refresh comes halfway through the consent.
    let night = ["--speed", "10000", "--refresh-every", "1h"];
    let consent = ["--consent-lasts", "2h", "--webhook-events", "all"];
    let sandbox = SandboxProcess::start(&[night, consent].concat()).await;
    let user = sandbox.connects("monica", "raviga").await;
    sandbox.heard(is("consent.expired")).await;
    sandbox.heard(is("connection.invalidated")).await;
    let jobs = sandbox.get(&format!("/users/{user}/jobs")).await;
    assert_eq!(jobs["size"], 2, "{jobs:#}");
    let failed = &jobs["data"][0]["steps"][0]["result"];
    assert_eq!(failed["code"], "invalid-credentials");
    let consents = sandbox.get(&format!("/users/{user}/consents")).await;
    assert_eq!(consents["data"][0]["status"], "expired");
    let expected = [
        "account.updated",
        "connection.activated",
        "connection.created",
        "connection.invalidated",
        "consent.created",
        "consent.expired",
        "consent.reminder",
        "consent.warning",
        "transactions.updated",
        "user.created",
    ];
    for event_type in expected {
        sandbox.heard(is(event_type)).await;
    }
    assert_eq!(sandbox.types_heard(), expected.map(str::to_owned).into());
}

#[tokio::test]
async fn a_sandbox_lists_its_logins_and_links() {
    let mut sandbox = binary()
        .args(["sandbox", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sandbox.stdout.take().unwrap()).lines();
    let mut told = String::new();
    while !told.contains("a relay ") {
        told = told + &lines.next_line().await.unwrap().unwrap() + "\n";
    }
    let base = told.split(' ').find(|word| word.starts_with("http://"));
    let base = base.unwrap();
    for expected in [
        "  gavinBelson      hooli2016      works\n",
        "  bighead          password       fails: invalid-credentials\n",
        "  russ             tres-comas     works; a refresh fails: service-unavailable\n",
        &format!("  users      {base}/users\n"),
        &format!("RELAY_BASIQ_URL={base} RELAY_BASIQ_API_KEY=any basiq-relay serve\n"),
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[tokio::test]
async fn a_running_sandbox_takes_orders() {
    let sandbox = SandboxProcess::start(&["--webhook-events", "consent.warning"]).await;
    let user = sandbox.connects("jared", "django").await;
    let warn = format!("/sandbox/users/{user}/consents/latest/warning");
    let (status, consent) = sandbox.post(&warn, json!({})).await;
    assert_eq!((status, &consent["status"]), (200, &json!("active")));
    sandbox.heard(is("consent.warning")).await;
    let order = json!({"eventTypeId": "connection.deleted", "userId": user, "copies": 2});
    let (status, sent) = sandbox.post("/sandbox/webhooks", order).await;
    assert_eq!(status, 202, "{sent}");
    sandbox.heard(is("connection.deleted")).await;
    assert_eq!(
        sandbox.types_heard().len(),
        2,
        "only what it is told to send"
    );
    let event = format!("/events/{}", sent["eventId"].as_str().unwrap());
    assert_eq!(sandbox.get(&event).await["eventType"], "deleted");
}

#[tokio::test]
async fn wrong_options_exit_with_2_and_name_what_is_allowed() {
    let hook = ["--webhook-url", "http://127.0.0.1:9/", "--webhook-secret"];
    let secret = SigningSecret::generate();
    let with_hook = [&hook[..], &[secret.expose(), "--webhook-events"]].concat();
    let job_events = [&with_hook[..], &["job.failed"]].concat();
    for (arguments, told) in [
        (&["--refresh-every", "soon"][..], "allowed are durations"),
        (&["--refresh-every", "0s"], "allowed are durations"),
        (&["--consent-lasts", "1y"], "allowed are durations"),
        (&["--webhook-events", "all"], "--webhook-url"),
        (&job_events, "`consent.warning`"),
    ] {
        let output = binary().arg("sandbox").args(arguments).output();
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(told), "{arguments:?}: {text}");
    }
}
