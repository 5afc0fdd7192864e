//! The relay is killed at random moments: no watch is lost, and no event is delivered as two.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode};
use basiq_sandbox::{Sandbox, SandboxOptions};
use rand::Rng;
use relay_domain::{
    SigningSecret,
    clock::Clock,
    signing::{self, SignatureHeaders},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::{
    TestDatabase,
    process::{RelayProcess, RelaySetup},
};

const WATCHES: usize = 300;
const KILLS: usize = 5;

/// The events that the callbacks accepted, by watch: the `webhook-id`s and bodies, in order.
type Accepted = Arc<Mutex<HashMap<String, Vec<(String, Value)>>>>;

#[derive(Clone)]
struct Unreliable {
    accepted: Accepted,
    secret: Arc<Mutex<Option<SigningSecret>>>,
    forged: Arc<AtomicBool>,
}

async fn callback(
    State(receiver): State<Unreliable>,
    headers: HeaderMap,
    raw: Bytes,
) -> StatusCode {
    let secret = receiver.secret.lock().unwrap().clone().unwrap();
    let signature = SignatureHeaders::read(&headers).unwrap();
    let body = std::str::from_utf8(&raw).unwrap();
    if signing::verify(&signature, body, &secret, Clock::system().now()).is_err() {
        receiver.forged.store(true, Ordering::SeqCst);
    }
    if rand::rng().random_bool(0.3) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let body: Value = serde_json::from_slice(&raw).unwrap();
    let watch = body["watchId"].as_str().unwrap().to_owned();
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    receiver
        .accepted
        .lock()
        .unwrap()
        .entry(watch)
        .or_default()
        .push((id, body));
    StatusCode::NO_CONTENT
}

struct Scene {
    setup: RelaySetup,
    receiver: Unreliable,
    callback_url: String,
    api_key: String,
    jobs: Vec<String>,
    _database: TestDatabase,
    _tasks: JoinSet<()>,
}

async fn set_scene() -> Scene {
    let mut tasks = JoinSet::new();
    let sandbox = Sandbox::new(
        SandboxOptions {
            speed: 4.0,
            ..Default::default()
        },
        Clock::system(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let basiq = format!("http://{}", listener.local_addr().unwrap());
    let jobs = connect_banks(&sandbox).await;
    tasks.spawn(async move {
        sandbox
            .serve(listener, CancellationToken::new())
            .await
            .unwrap();
    });

    let receiver = Unreliable {
        accepted: Accepted::default(),
        secret: Arc::default(),
        forged: Arc::default(),
    };
    let router = Router::new()
        .fallback(callback)
        .with_state(receiver.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback_url = format!("http://{}/hook", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });

    let database = TestDatabase::new().await;
    let mut setup = RelaySetup::new(&database, &basiq);
    setup.environment = vec![
        ("RELAY_DELIVERY_RETRY_SCHEDULE", ["200ms"; 40].join(",")),
        ("RELAY_UPSTREAM_RPS", "200".to_owned()),
        ("RELAY_POLL_MIN_INTERVAL", "200ms".to_owned()),
        ("RELAY_LOG", "warn,basiq_relay::app=info".to_owned()),
    ];
    let client = setup.add_client("kill-test").await;
    let secret = SigningSecret::parse(client["signingSecret"].as_str().unwrap()).unwrap();
    *receiver.secret.lock().unwrap() = Some(secret);
    let api_key = client["apiKey"].as_str().unwrap().to_owned();
    Scene {
        setup,
        receiver,
        callback_url,
        api_key,
        jobs,
        _database: database,
        _tasks: tasks,
    }
}

/// Starts jobs of every kind: successes, each documented failure, and challenges without an answer.
async fn connect_banks(sandbox: &Sandbox) -> Vec<String> {
    use tower::ServiceExt;
    let logins = [
        ("gavinBelson", "hooli2016", "AU00000"),
        ("bighead", "password", "AU00000"),
        ("erlich", "aviato", "AU00000"),
        ("jianYang", "nothotdog", "AU00000"),
        ("richard", "tabsnotspaces", "AU00002"),
    ];
    let router = sandbox.router();
    let call = |path: String, token: Option<String>, kind: &'static str, body: String| {
        let router = router.clone();
        async move {
            let auth = token.map_or("Basic any".to_owned(), |token| format!("Bearer {token}"));
            let request = axum::http::Request::post(path)
                .header("authorization", auth)
                .header("basiq-version", "3.0")
                .header("content-type", kind)
                .body(axum::body::Body::from(body))
                .unwrap();
            let response = router.oneshot(request).await.unwrap();
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
                .await
                .unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        }
    };
    let form = "application/x-www-form-urlencoded";
    let token = call("/token".into(), None, form, "scope=SERVER_ACCESS".into()).await;
    let token = token["access_token"].as_str().unwrap().to_owned();
    let mut jobs = Vec::new();
    for index in 0..WATCHES {
        let user = json!({ "email": format!("p{index}@app.example") }).to_string();
        let user = call(
            "/users".into(),
            Some(token.clone()),
            "application/json",
            user,
        )
        .await;
        let (login, password, bank) = logins[index % logins.len()];
        let body = json!({ "loginId": login, "password": password, "institution": { "id": bank } });
        let path = format!("/users/{}/connections", user["id"].as_str().unwrap());
        let job = call(
            path,
            Some(token.clone()),
            "application/json",
            body.to_string(),
        )
        .await;
        jobs.push(job["id"].as_str().unwrap().to_owned());
    }
    jobs
}

/// Registers watches until every job has its 202, even while the relay is down.
async fn register_all(scene: &Scene, url: &Mutex<String>) -> Vec<String> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut watches = Vec::new();
    for job in &scene.jobs {
        let body = json!({ "jobId": job, "callbackUrl": scene.callback_url });
        let watch = loop {
            let url = format!("{}/watch", url.lock().unwrap());
            let sent = http
                .post(url)
                .bearer_auth(&scene.api_key)
                .json(&body)
                .send()
                .await;
            if let Ok(answer) = sent
                && answer.status().is_success()
                && let Ok(watch) = answer.json::<Value>().await
            {
                break watch["id"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        watches.push(watch);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    watches
}

/// Kills the relay at random moments and starts it again on the same file. Returns the last one.
async fn kill_now_and_then(scene: &Scene, url: &Mutex<String>) -> RelayProcess {
    let mut relay = scene.setup.start().await;
    for _ in 0..KILLS {
        url.lock().unwrap().clone_from(&relay.url);
        let moment = rand::rng().random_range(400..1800);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        relay.kill().await;
        relay = scene.setup.start().await;
    }
    url.lock().unwrap().clone_from(&relay.url);
    relay
}

/// Waits for the final event of each of these. A watch whose 202 got lost may have been told its end before the
/// client registered the job again, so there can be more watches than these.
async fn wait_until_told(scene: &Scene, watches: &[String]) {
    let started = Instant::now();
    loop {
        let finals = {
            let accepted = scene.receiver.accepted.lock().unwrap();
            let has_ended = |watch: &&String| {
                let mut told = accepted.get(*watch).into_iter().flatten();
                told.any(|(_, body)| body["final"] == true)
            };
            watches.iter().filter(has_ended).count()
        };
        if finals == watches.len() {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(90),
            "only {finals} of {WATCHES} watches ended"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_watch_is_lost_and_no_event_is_told_as_two_when_the_relay_is_killed() {
    let scene = set_scene().await;
    let url = Mutex::new(String::new());
    let (watches, relay) = tokio::join!(
        async {
            while url.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            register_all(&scene, &url).await
        },
        kill_now_and_then(&scene, &url),
    );
    assert_eq!(watches.len(), WATCHES);
    wait_until_told(&scene, &watches).await;
    let (code, log) = relay.terminate().await;
    assert_eq!(code, Some(0), "{log:?}");
    assert!(
        !scene.receiver.forged.load(Ordering::SeqCst),
        "every request was signed"
    );
    let accepted = scene.receiver.accepted.lock().unwrap();
    for watch in &watches {
        let told = accepted
            .get(watch)
            .unwrap_or_else(|| panic!("{watch} was told nothing"));
        check_story(watch, told);
    }
}

/// Checks that the final event came and that `sequence` never decreases. One `sequence` must have one `webhook-id`
/// and one body.
fn check_story(watch: &str, told: &[(String, Value)]) {
    assert!(
        told.iter().any(|(_, body)| body["final"] == true),
        "{watch}: no final event"
    );
    let sequence: Vec<_> = told
        .iter()
        .map(|(_, body)| body["sequence"].as_u64().unwrap())
        .collect();
    assert!(sequence.is_sorted(), "{watch}: {sequence:?}");
    for (id, body) in told {
        for (other_id, other_body) in told {
            let same_event = body["sequence"] == other_body["sequence"];
            assert_eq!(
                same_event,
                id == other_id,
                "{watch}: ids and sequence disagree"
            );
            assert!(
                !same_event || body == other_body,
                "{watch}: one event, two bodies"
            );
        }
    }
}
