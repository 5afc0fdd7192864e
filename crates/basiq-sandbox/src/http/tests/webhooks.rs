//! Tests of webhooks on their way, over real HTTP: signature, retries, copies and order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use parking_lot::Mutex;
use relay_domain::{
    SigningSecret,
    clock::Clock,
    signing::{self, SignatureHeaders},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Sandbox, SandboxEventType, SandboxOptions, SandboxWebhook, WebhookToSend, http::tests::login,
};

/// A webhook as received: its id, and its body.
type Received = (String, Value);

/// A receiver that verifies each webhook and refuses the first few.
#[derive(Clone)]
struct WebhookReceiver {
    secret: SigningSecret,
    refuses: Arc<Mutex<usize>>,
    received: Arc<Mutex<Vec<Received>>>,
}

async fn receive(
    State(receiver): State<WebhookReceiver>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let signed = SignatureHeaders::read(&headers).unwrap();
    let now = Clock::system().now();
    signing::verify(&signed, &body, &receiver.secret, now).unwrap();
    assert_eq!(headers["content-type"], "application/json");
    let body = serde_json::from_slice(&body).unwrap();
    receiver.received.lock().push((signed.id, body));
    let mut refuses = receiver.refuses.lock();
    if *refuses > 0 {
        *refuses -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::NO_CONTENT
}

/// A sandbox that is served, and the receiver of its webhooks.
struct Scene {
    sandbox: Sandbox,
    base: String,
    receiver: WebhookReceiver,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Scene {
    /// Starts a sandbox whose clock runs this much faster, and a receiver that refuses the first few webhooks.
    async fn start(speed: f64, refuses: usize) -> Self {
        let receiver = WebhookReceiver {
            secret: SigningSecret::generate(),
            refuses: Arc::new(Mutex::new(refuses)),
            received: Arc::default(),
        };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let options = SandboxOptions {
            speed,
            webhook: Some(SandboxWebhook {
                url: url.parse().unwrap(),
                secret: receiver.secret.clone(),
            }),
            refresh_every: Some(Duration::from_hours(24)),
            ..SandboxOptions::default()
        };
        let sandbox = Sandbox::new(options, Clock::system());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (serving, until) = (sandbox.clone(), stop.clone());
        tasks.spawn(async move { serving.serve(listener, until).await.unwrap() });
        Self {
            sandbox,
            base,
            receiver,
            stop,
            tasks,
        }
    }

    /// Waits until `count` webhooks were received, and returns them.
    async fn received(&self, count: usize) -> Vec<Received> {
        let begun = Instant::now();
        loop {
            let received = self.receiver.received.lock().clone();
            if received.len() >= count {
                return received;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{received:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn order(&self, event_type: SandboxEventType, change: impl FnOnce(&mut WebhookToSend)) {
        let mut order = WebhookToSend::new(event_type, "u-1");
        order.connection_id = Some("c-1".to_owned());
        change(&mut order);
        self.sandbox.send_webhook(&order).unwrap();
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.tasks.shutdown().await;
    }
}

#[tokio::test]
async fn a_refused_webhook_is_sent_again_with_the_same_id_and_body_until_it_is_accepted() {
    // Basiq's schedule of 27.6 hours takes 10 seconds.
    let scene = Scene::start(10_000.0, 3).await;
    scene.order(SandboxEventType::ConnectionInvalidated, |_| ());
    let received = scene.received(4).await;
    assert!(received.iter().all(|webhook| *webhook == received[0]));
    let (_, body) = &received[0];
    assert_eq!(body["eventTypeId"], "connection.invalidated");
    let entity = format!("{}/users/u-1/connections/c-1", scene.base);
    assert_eq!(body["links"]["eventEntity"], entity);
    let event = format!(
        "{}/events/{}",
        scene.base,
        body["eventId"].as_str().unwrap()
    );
    assert_eq!(body["links"]["event"], event);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.received(0).await.len(), 4, "it was accepted");
    scene.end().await;
}

#[tokio::test]
async fn a_webhook_is_given_up_after_the_eighth_try_and_the_next_one_is_sent() {
    let scene = Scene::start(1_000_000.0, 8).await;
    scene.order(SandboxEventType::UserCreated, |_| ());
    let tried = scene.received(8).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.received(0).await.len(), 8, "{tried:#?}");
    scene.order(SandboxEventType::UserDeleted, |_| ());
    let received = scene.received(9).await;
    assert_eq!(received[8].1["eventTypeId"], "user.deleted");
    scene.end().await;
}

#[tokio::test]
async fn webhooks_can_come_twice_late_and_out_of_order() {
    let scene = Scene::start(1.0, 0).await;
    scene.order(SandboxEventType::ConnectionActivated, |order| {
        order.delay = Duration::from_millis(400);
    });
    scene.order(SandboxEventType::ConnectionDeleted, |order| {
        order.copies = 2;
    });
    let received = scene.received(3).await;
    let types: Vec<_> = received
        .iter()
        .map(|(_, body)| body["eventTypeId"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "connection.deleted",
            "connection.deleted",
            "connection.activated"
        ]
    );
    assert_eq!(received[0], received[1]);
    assert_ne!(received[0].0, received[2].0);
    scene.end().await;
}

#[tokio::test]
async fn a_refresh_that_nobody_asked_for_is_told_without_any_call() {
    // A day takes 1.4 seconds.
    let scene = Scene::start(60_000.0, 0).await;
    let http = reqwest::Client::builder().build().unwrap();
    let token = http.post(format!("{}/token", scene.base));
    let token = token
        .header("authorization", "Basic k")
        .header("basiq-version", "3.0")
        .form(&[("scope", "SERVER_ACCESS")]);
    let token: Value = token.send().await.unwrap().json().await.unwrap();
    let post = |path: &str, body: Value| {
        let token = token["access_token"].as_str().unwrap();
        let request = http.post(format!("{}{path}", scene.base));
        request.bearer_auth(token).json(&body).send()
    };
    let user = post("/users", json!({"mobile": "+61400000000"}))
        .await
        .unwrap();
    let user: Value = user.json().await.unwrap();
    let path = format!("/users/{}/connections", user["id"].as_str().unwrap());
    let body = login("AU00000", "monica", "raviga");
    assert_eq!(post(&path, body).await.unwrap().status(), 202);
    let calls = scene.sandbox.calls().total();
    let received = scene.received(2).await;
    assert_eq!(received[0].1["eventTypeId"], "transactions.updated");
    assert_eq!(received[1].1["eventTypeId"], "connection.invalidated");
    assert_eq!(scene.sandbox.calls().total(), calls);
    scene.end().await;
}
