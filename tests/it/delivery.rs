//! Delivery from the outbox to the receiver: retries, dead deliveries, redelivery, order.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{
    SigningSecret,
    signing::{self, SignatureHeaders},
};
use serde_json::{Value, json};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{Received, TestApp, job};
use crate::support::{actor, operator};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

async fn settled(app: &TestApp, id: &str) -> String {
    let done = job(id, app.now(), &[("create-report", "success", Value::Null)]);
    app.sandbox.seed_document(id, done);
    app.watch(id).await
}

fn verify(received: &Received, body: &str, secret: &SigningSecret, now: Timestamp) -> bool {
    let headers = SignatureHeaders::read(&received.headers).unwrap();
    signing::verify(&headers, body, secret, now).is_ok()
}

async fn delivery(app: &TestApp, watch: &str) -> Value {
    app.story(watch).await["events"][0]["deliveries"][0].clone()
}

#[tokio::test]
async fn a_callback_that_fails_is_tried_again_with_the_same_id_and_body() {
    let mut app = TestApp::new().await;
    let watch = settled(&app, "j-1").await;
    app.receiver.answer(2, 500);
    app.run_due().await;
    app.pass(6 * SECOND, SECOND).await;
    app.pass(Duration::from_mins(6), 10 * SECOND).await;
    let received = app.receiver.received();
    assert_eq!(received.len(), 3);
    assert!(
        received
            .iter()
            .all(|one| one.header("webhook-id") == received[0].header("webhook-id"))
    );
    assert!(received.iter().all(|one| one.raw == received[0].raw));
    let delivery = delivery(&app, &watch).await;
    assert_eq!(delivery["state"], "delivered");
    let statuses: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["status"].clone())
        .collect();
    assert_eq!(statuses, [json!(500), json!(500), json!(204)]);
}

#[tokio::test]
async fn the_whole_schedule_is_used_before_a_delivery_is_dead_and_it_can_be_sent_again() {
    let mut app = TestApp::new().await;
    let watch = settled(&app, "j-1").await;
    app.receiver.answer(8, 500);
    app.pass(32 * HOUR, Duration::from_mins(10)).await;
    assert_eq!(
        app.receiver.received().len(),
        8,
        "one attempt, then one for each wait"
    );
    assert_eq!(delivery(&app, &watch).await["state"], "dead");

    let dead = app.get("/deliveries?state=dead").await;
    assert_eq!(
        dead.body["items"].as_array().unwrap().len(),
        1,
        "{}",
        dead.body
    );
    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    let queued = app.post("/deliveries/redeliver", &since).await;
    assert_eq!(
        (queued.status, &queued.body),
        (202, &json!({ "queued": 1 }))
    );
    app.run_due().await;
    let received = app.receiver.received();
    assert_eq!(received.len(), 9);
    assert_eq!(
        received[8].header("webhook-id"),
        received[0].header("webhook-id")
    );
    assert_eq!(delivery(&app, &watch).await["state"], "delivered");
    assert_eq!(
        app.get("/deliveries?state=dead").await.body["items"],
        json!([])
    );
}

/// Returns the address of a port at which nothing listens.
fn closed_port() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

/// Creates thirty settled watches of a callback at which nothing listens. Their retry schedule takes three seconds.
async fn thirty_at_a_closed_port(callback: &str) -> (TestApp, Vec<String>) {
    let builder = TestApp::builder().settings(|settings| {
        settings.delivery.retry_schedule = vec![SECOND, 2 * SECOND];
    });
    let app = builder.build().await;
    let mut watches = Vec::new();
    for number in 0..30 {
        let id = format!("j-{number}");
        let done = job(&id, app.now(), &[("create-report", "success", Value::Null)]);
        app.sandbox.seed_document(&id, done);
        let options = json!({ "callbackUrl": format!("{callback}/hook") });
        watches.push(app.watch_with(&id, options).await);
    }
    (app, watches)
}

#[tokio::test]
async fn events_that_wait_for_a_paused_host_are_dead_when_their_schedule_is_over() {
    let (mut app, _) = thirty_at_a_closed_port(&closed_port()).await;
    app.pass(2 * SECOND, SECOND / 4).await;
    let dead = async |app: &TestApp| {
        let dead = app.get("/deliveries?state=dead&limit=200").await;
        dead.body["items"].as_array().unwrap().clone()
    };
    assert_eq!(dead(&app).await.len(), 0, "their schedule is not over");
    app.pass(3 * SECOND, SECOND / 4).await;
    let dead = dead(&app).await;
    assert_eq!(dead.len(), 30);
    let attempts = dead
        .iter()
        .map(|dead| dead["attempts"].as_array().unwrap().len());
    assert!(attempts.sum::<usize>() < 40, "the pause held");
}

#[tokio::test]
async fn whoever_sends_again_by_hand_reaches_a_paused_host_that_was_mended_at_once() {
    for way in ["watch", "delivery", "admin", "all"] {
        let callback = closed_port();
        let (mut app, watches) = thirty_at_a_closed_port(&callback).await;
        if way == "all" {
            app.pass(5 * SECOND, SECOND / 4).await;
        } else {
            app.run_due().await;
        }
        let listener = tokio::net::TcpListener::bind(callback.trim_start_matches("http://")).await;
        let mut tasks = tokio::task::JoinSet::new();
        let mended = crate::support::Receiver::on(listener.unwrap(), &mut tasks);
        app.run_due().await;
        assert_eq!(mended.received().len(), 0, "{way}: it is paused");
        let queued = match way {
            "watch" => {
                app.post(&format!("/watch/{}/redeliver", watches[7]), &json!({}))
                    .await
            }
            "delivery" => {
                let id = delivery(&app, &watches[7]).await["id"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                app.post(&format!("/deliveries/{id}/redeliver"), &json!({}))
                    .await
            }
            "admin" => {
                let id = watches[7].parse().unwrap();
                let queued = app.store.redeliver_watch(operator(), id, app.now()).await;
                assert!(queued.is_ok(), "{queued:?}");
                app.get("/watch").await
            }
            _ => {
                app.post(
                    "/deliveries/redeliver",
                    &json!({ "since": "2020-01-01T00:00:00Z" }),
                )
                .await
            }
        };
        assert!(queued.status < 300, "{way}: {}", queued.text);
        // The redelivered events arrive without a wait. Only the retries of earlier failures need the 3 s below.
        app.run_due().await;
        let received = mended.received().len();
        let at_once = if way == "all" { 30 } else { 1 };
        assert!(received >= at_once, "{way}: {received}");
        app.pass(3 * SECOND, SECOND / 2).await;
        assert_eq!(mended.received().len(), 30, "{way}");
    }
}

#[tokio::test]
async fn a_redelivery_is_a_new_attempt_with_the_same_id() {
    let mut app = TestApp::new().await;
    let watch = settled(&app, "j-1").await;
    app.run_due().await;
    for _ in 0..2 {
        let answer = app
            .post(&format!("/watch/{watch}/redeliver"), &json!({}))
            .await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        app.run_due().await;
    }
    let received = app.receiver.received();
    assert_eq!(received.len(), 3);
    assert_eq!(
        received[2].header("webhook-id"),
        received[0].header("webhook-id")
    );
}

#[tokio::test]
async fn an_event_still_being_retried_is_tried_now_without_a_second_copy() {
    let mut app = TestApp::new().await;
    let watch = settled(&app, "j-1").await;
    app.receiver.answer(1, 500);
    app.run_due().await;
    assert_eq!(
        app.post(&format!("/watch/{watch}/redeliver"), &json!({}))
            .await
            .status,
        202
    );
    app.run_due().await;
    app.pass(HOUR, Duration::from_mins(1)).await;
    assert_eq!(app.receiver.received().len(), 2);
}

#[tokio::test]
async fn gone_cancels_the_watch() {
    let mut app = TestApp::new().await;
    let watch = settled(&app, "j-1").await;
    app.receiver.answer(1, 410);
    app.pass(HOUR, Duration::from_mins(1)).await;
    assert_eq!(app.receiver.received().len(), 1);
    assert_eq!(app.story(&watch).await["state"], "cancelled");
    assert_eq!(
        app.post(&format!("/watch/{watch}/redeliver"), &json!({}))
            .await
            .status,
        409
    );
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let mut app = TestApp::new().await;
    let watch = settled(&app, "j-1").await;
    let elsewhere = app.callback("/elsewhere");
    app.receiver.answer_next(302, &[("location", &elsewhere)]);
    app.run_due().await;
    assert_eq!(app.receiver.received().len(), 1);
    let attempt = delivery(&app, &watch).await["attempts"][0].clone();
    assert_eq!(
        (&attempt["status"], &attempt["error"]),
        (&json!(302), &json!("redirected"))
    );
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let mut app = TestApp::new().await;
    settled(&app, "j-1").await;
    app.receiver.answer_next(429, &[("retry-after", "600")]);
    app.pass(590 * SECOND, 10 * SECOND).await;
    assert_eq!(app.receiver.received().len(), 1);
    app.pass(120 * SECOND, 10 * SECOND).await;
    assert_eq!(app.receiver.received().len(), 2);
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_old_one_for_a_day() {
    let mut app = TestApp::new().await;
    let (old, new) = (app.client.secret.clone(), SigningSecret::generate());
    let until = app.now().checked_add(24 * HOUR).unwrap();
    let name = app.client.name.parse().unwrap();
    assert!(
        app.store
            .rotate_secret(&name, &new, until, actor(), app.now())
            .await
            .unwrap()
    );
    settled(&app, "j-1").await;
    app.run_due().await;
    let received = app.receiver.received().remove(0);
    for secret in [&old, &new] {
        assert!(verify(&received, &received.raw, secret, app.now()));
    }
    assert!(!verify(&received, "{}", &new, app.now()));
    app.clock.advance(25 * HOUR);
    settled(&app, "j-2").await;
    app.run_due().await;
    assert_eq!(
        app.receiver.received()[1]
            .header("webhook-signature")
            .split(' ')
            .count(),
        1
    );
}

#[tokio::test]
async fn a_cancelled_watch_posts_nothing_more() {
    let mut app = TestApp::new().await;
    let watch = settled(&app, "j-1").await;
    app.receiver.answer(1, 500);
    app.run_due().await;
    for _ in 0..2 {
        assert_eq!(app.delete(&format!("/watch/{watch}")).await.status, 204);
    }
    app.pass(HOUR, Duration::from_mins(1)).await;
    assert_eq!(app.receiver.received().len(), 1);
}

const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

async fn read_event(stream: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
    }
}

/// Starts a receiver that closes its first connection at the second request, without an answer. A server whose idle
/// time-out is over does the same. The second connection answers all requests. Returns the address. The task ends
/// after `requests` requests on the second connection, with the number of all requests.
async fn impatient_receiver(requests: usize, tasks: &mut JoinSet<usize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tasks.spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        read_event(&mut first).await;
        first.write_all(ACCEPTED).await.unwrap();
        read_event(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        for _ in 0..requests {
            read_event(&mut second).await;
            second.write_all(ACCEPTED).await.unwrap();
        }
        2 + requests
    });
    url
}

#[tokio::test]
async fn a_kept_connection_that_was_just_closed_costs_no_attempt() {
    let mut app = TestApp::new().await;
    let mut tasks = JoinSet::new();
    let callback = impatient_receiver(2, &mut tasks).await;
    for id in ["j-1", "j-2", "j-3"] {
        let done = job(id, app.now(), &[("create-report", "success", Value::Null)]);
        app.sandbox.seed_document(id, done);
        let body = json!({ "jobId": id, "callbackUrl": callback });
        let watch = app.post("/watch", &body).await.body["id"].clone();
        app.run_due().await;
        let delivery = delivery(&app, watch.as_str().unwrap()).await;
        assert_eq!(delivery["state"], "delivered", "{id}: {delivery}");
        let attempts = delivery["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{id}: {delivery}");
    }
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), 4);
}
