//! Subscriptions: a person's jobs are found and watched once, and notices are sent.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request},
};
use basiq_sandbox::{JobScript, ScriptStep, StepEnd};
use jiff::Timestamp;
use relay_domain::{SigningSecret, signing};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

const HOUR: Duration = Duration::from_hours(1);
const LISTS: &str = "GET /users/{userId}/jobs";

/// Starts a relay that accepts Basiq's webhooks, and passes them on to `/basiq` of the receiver if `forwards`.
async fn relay(forwards: bool) -> (TestApp, SigningSecret) {
    let secret = SigningSecret::generate();
    let written = secret.expose().to_owned();
    let mut app = TestApp::builder()
        .settings(|settings| settings.basiq.webhook_secret = Some(written.into()))
        .build()
        .await;
    if forwards {
        app.settings.subscriptions.forward_url = Some(app.callback("/basiq").into());
        app.restart().await;
    }
    (app, secret)
}

/// Starts a job of a connection of the user `u-1`.
fn start(app: &TestApp, connection: &str, end: StepEnd) -> String {
    let step = ScriptStep::new("verify-credentials", Duration::from_secs(2), end);
    let mut script = JobScript::new(vec![step]);
    script.user_id = Some("u-1".to_owned());
    script.connection_id = Some(connection.to_owned());
    app.sandbox.seed_job(script)
}

async fn subscribe(app: &TestApp, options: Value) -> Value {
    let mut body = json!({"userId": "u-1", "callbackUrl": app.callback("/hook")});
    body.as_object_mut()
        .unwrap()
        .extend(options.as_object().unwrap().clone());
    let answer = app.post("/subscriptions", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body
}

async fn read(app: &TestApp, subscription: &Value) -> Value {
    let path = format!("/subscriptions/{}", subscription["id"].as_str().unwrap());
    let answer = app.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// The body of a webhook of Basiq's about the user `u-1`.
fn webhook(kind: &str, event: &str, entity: &str) -> String {
    let links = json!({
        "event": format!("https://b.example/events/{event}"),
        "eventEntity": format!("https://b.example/users/u-1{entity}"),
    });
    json!({"eventTypeId": kind, "eventId": event, "links": links}).to_string()
}

async fn send(app: &TestApp, id: &str, body: &str, secret: &SigningSecret) -> Answer {
    let signed = signing::sign(id, app.now(), body, &[secret]).unwrap();
    let mut request = Request::post("/basiq/webhook").header("content-type", "application/json");
    for (name, value) in signed.entries() {
        request = request.header(name, value);
    }
    let answer = app.send(request.body(Body::from(body.to_owned())).unwrap());
    let answer = answer.await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    answer
}

/// Returns the types of all events so far.
fn types(app: &TestApp) -> Vec<String> {
    let told = app.told().into_iter();
    told.map(|body| body["type"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn a_subscription_finds_the_jobs_of_its_person() {
    let (mut app, _) = relay(false).await;
    start(&app, "c-1", StepEnd::Succeeds);
    let subscription = subscribe(&app, json!({"metadata": {"a": 1}})).await;
    let id = subscription["id"].as_str().unwrap();
    assert!(id.starts_with("sub_"), "{id}");
    for (key, value) in [
        ("userId", json!("u-1")),
        ("connectionId", Value::Null),
        ("callbackUrl", json!(app.callback("/hook"))),
        ("locale", json!("en")),
        ("metadata", json!({"a": 1})),
        ("state", json!("active")),
        ("endedAt", Value::Null),
        ("lastListedAt", Value::Null),
        ("openWatches", json!(0)),
    ] {
        assert_eq!(subscription[key], value, "{key}");
    }
    assert_eq!(subscription["events"].as_array().unwrap().len(), 4);
    assert_eq!(subscription["notices"].as_array().unwrap().len(), 6);
    app.run_due().await;
    let listed = read(&app, &subscription).await;
    assert_eq!(listed["openWatches"], 1);
    assert!(listed["lastListedAt"].is_string() && listed["nextListAt"].is_string());
    app.skip(HOUR).await;
    let told = app.told();
    assert_eq!(types(&app), ["job.success"]);
    assert_eq!(told[0]["context"]["subscriptionId"], id);
    assert_eq!(told[0]["metadata"], json!({"a": 1}));
    assert_eq!(app.sandbox.calls().count(LISTS), 1);
    // a refresh that Basiq began by itself fails at night
    start(&app, "c-1", StepEnd::Fails(None));
    app.skip(8 * HOUR).await;
    assert_eq!(types(&app), ["job.success", "job.failed"]);
    let lists = app.sandbox.calls().count(LISTS);
    assert!((2..=3).contains(&lists), "{lists}");
    assert_eq!(read(&app, &subscription).await["openWatches"], 0);
}

#[tokio::test]
async fn a_watch_of_the_clients_own_has_no_subscription() {
    let (mut app, _) = relay(false).await;
    let job = start(&app, "c-1", StepEnd::Succeeds);
    app.watch(&job).await;
    app.skip(HOUR).await;
    let context = app.told()[0]["context"].clone();
    assert!(context.as_object().unwrap().contains_key("subscriptionId"));
    assert_eq!(context["subscriptionId"], Value::Null);
}

#[tokio::test]
async fn the_same_subscription_is_answered_again_until_it_ends() {
    let (mut app, _) = relay(false).await;
    start(&app, "c-1", StepEnd::Hangs);
    let first = subscribe(&app, json!({})).await;
    let body = json!({"userId": "u-1", "callbackUrl": app.callback("/hook"), "locale": "vi"});
    let again = app.post("/subscriptions", &body).await;
    assert_eq!((again.status, &again.body["id"]), (200, &first["id"]));
    let path = format!("/subscriptions/{}", first["id"].as_str().unwrap());
    assert_eq!(again.header("location"), path);
    app.run_due().await;
    assert_eq!(read(&app, &first).await["openWatches"], 1);
    for _ in 0..2 {
        assert_eq!(app.delete(&path).await.status, 204);
    }
    let ended = read(&app, &first).await;
    assert_eq!(ended["state"], "ended");
    assert_eq!(
        (&ended["openWatches"], &ended["nextListAt"]),
        (&json!(0), &Value::Null)
    );
    app.skip(Duration::from_secs(1)).await;
    let watches = app.get("/watch?state=cancelled").await;
    assert_eq!(watches.body["items"].as_array().unwrap().len(), 1);
    let next = subscribe(&app, json!({})).await;
    let listed = app.get("/subscriptions?userId=u-1&limit=1").await;
    assert_eq!(listed.body["items"][0]["id"], next["id"], "newest first");
    let cursor = listed.body["nextCursor"].as_str().unwrap();
    let rest = app
        .get(&format!("/subscriptions?userId=u-1&cursor={cursor}"))
        .await;
    assert_eq!(rest.body["items"][0]["id"], first["id"]);
    assert_eq!(rest.body["nextCursor"], Value::Null);
    let other = app.add_client("other").await;
    for method in [Method::GET, Method::DELETE] {
        let answer = app.call_as(&other, method.clone(), &path, None).await;
        assert_eq!(answer.status, 404, "{method}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_webhook_about_a_person_lists_the_jobs_at_once() {
    let (mut app, secret) = relay(false).await;
    start(&app, "c-1", StepEnd::Succeeds);
    subscribe(&app, json!({})).await;
    app.skip(HOUR).await;
    start(&app, "c-1", StepEnd::Succeeds);
    app.skip(Duration::from_secs(5)).await;
    let hint = webhook("transactions.updated", "e-1", "/connections/c-1");
    send(&app, "m-1", &hint, &secret).await;
    app.skip(Duration::from_secs(1)).await;
    assert_eq!(types(&app), ["job.success", "job.success"]);
    assert_eq!(app.sandbox.calls().count(LISTS), 2);
}

#[tokio::test]
async fn webhooks_become_notices_once_and_in_order() {
    let (mut app, secret) = relay(false).await;
    start(&app, "c-1", StepEnd::Succeeds);
    let subscription = subscribe(&app, json!({"locale": "vi", "metadata": {"a": 1}})).await;
    let one = json!({"connectionId": "c-2", "notices": ["connection-removed", "user-removed"]});
    let other = subscribe(&app, one).await;
    app.skip(HOUR).await;
    let before = app.told().len();
    let consent = webhook("consent.warning", "e-1", "/consents/k-1");
    for id in ["m-1", "m-1", "m-2"] {
        send(&app, id, &consent, &secret).await;
    }
    let invalid = webhook("connection.invalidated", "e-2", "/connections/c-1");
    send(&app, "m-3", &invalid, &secret).await;
    let again = webhook("connection.invalidated", "e-3", "/connections/c-1");
    send(&app, "m-4", &again, &secret).await;
    let gone = webhook("user.deleted", "e-4", "");
    send(&app, "m-5", &gone, &secret).await;
    app.run_due().await;
    let told = app.told().split_off(before);
    let of = |id: &Value| {
        let own = told
            .iter()
            .filter(|body| body["context"]["subscriptionId"] == *id);
        own.map(|body| {
            (
                body["errorCode"].as_str().unwrap(),
                body["sequence"].as_u64().unwrap(),
            )
        })
        .collect::<Vec<_>>()
    };
    let expected = [
        ("consent-expiring", 1),
        ("connection-invalid", 2),
        ("connection-invalid", 3),
        ("user-removed", 4),
    ];
    assert_eq!(of(&subscription["id"]), expected);
    assert_eq!(of(&other["id"]), [("user-removed", 1)]);
    let named = |code: &str| told.iter().find(|body| body["errorCode"] == code);
    let first = named("consent-expiring").unwrap();
    assert_eq!(first["type"], "notice.consent-expiring");
    assert_eq!(
        (&first["watchId"], &first["jobId"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(first["status"], "action-required");
    assert_eq!(first["action"], "reauthorise");
    assert_eq!(first["metadata"], json!({"a": 1}));
    assert!(
        !first["userMessage"].as_str().unwrap().is_ascii(),
        "in Vietnamese"
    );
    let invalid = named("connection-invalid").unwrap();
    assert_eq!(
        invalid["action"], "resubmit-credentials",
        "a web connection"
    );
    assert_eq!(invalid["context"]["connectionId"], "c-1");
    assert_eq!(invalid["context"]["institutionId"], "AU00000");
    for subscription in [&subscription, &other] {
        assert_eq!(read(&app, subscription).await["state"], "ended");
    }
}

#[tokio::test]
async fn a_user_that_basiq_does_not_know_ends_the_subscription_after_the_grace() {
    let (mut app, _) = relay(false).await;
    let subscription = subscribe(&app, json!({"notices": ["user-removed"]})).await;
    app.run_due().await;
    app.skip(Duration::from_secs(50)).await;
    assert_eq!(read(&app, &subscription).await["state"], "active");
    app.skip(Duration::from_mins(1)).await;
    assert_eq!(read(&app, &subscription).await["state"], "ended");
    let told = app.told();
    assert_eq!(types(&app), ["notice.user-removed"]);
    assert_eq!(told[0]["final"], true);
}

/// Returns the subscriptions that have been told that their user is gone.
fn told_of_the_end(app: &TestApp) -> Vec<Value> {
    let told = app.told().into_iter();
    let last = told.filter(|body| body["type"] == "notice.user-removed");
    last.map(|body| body["context"]["subscriptionId"].clone())
        .collect()
}

#[tokio::test]
async fn each_subscription_to_an_unknown_user_has_its_own_grace() {
    let (mut app, _) = relay(false).await;
    let first = subscribe(&app, json!({})).await;
    app.skip(Duration::from_secs(50)).await;
    let second = subscribe(&app, json!({"connectionId": "c-1"})).await;
    app.skip(Duration::from_secs(40)).await;
    assert_eq!(read(&app, &first).await["state"], "ended");
    assert_eq!(read(&app, &second).await["state"], "active");
    assert_eq!(told_of_the_end(&app), [first["id"].clone()]);
    app.skip(Duration::from_mins(1)).await;
    assert_eq!(read(&app, &second).await["state"], "ended");
    assert_eq!(
        told_of_the_end(&app),
        [first["id"].clone(), second["id"].clone()]
    );
}

#[tokio::test]
async fn a_user_that_is_missing_since_a_time_to_come_is_missing_since_now() {
    let (mut app, _) = relay(false).await;
    let subscription = subscribe(&app, json!({})).await;
    app.run_due().await;
    let set_back = "UPDATE due_lists SET missing_since = missing_since + 86400000";
    app.database().execute(set_back).await;
    app.skip(Duration::from_mins(2)).await;
    assert_eq!(read(&app, &subscription).await["state"], "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subscription_ends_untold_that_begins_while_its_user_is_deleted() {
    let (mut app, secret) = relay(false).await;
    let mut all = Vec::new();
    for round in 0..20 {
        let (id, event) = (format!("m-{round}"), format!("e-{round}"));
        let gone = webhook("user.deleted", &event, "");
        all.push(subscribe(&app, json!({})).await);
        let one = json!({"connectionId": "c-1"});
        let (second, third, _) = tokio::join!(
            subscribe(&app, one),
            subscribe(&app, json!({"connectionId": "c-2"})),
            send(&app, &id, &gone, &secret),
        );
        all.extend([second, third]);
        app.skip(Duration::from_mins(2)).await;
    }
    for subscription in &all {
        let ended = read(&app, subscription).await;
        assert_eq!(ended["state"], "ended");
        assert!(ended["endedAt"].as_str() >= ended["createdAt"].as_str());
    }
    let told = told_of_the_end(&app);
    let untold = all.iter().filter(|one| !told.contains(&one["id"]));
    assert_eq!(untold.count(), 0);
    assert_eq!(told.len(), all.len(), "each once");
}

#[tokio::test]
async fn an_unreadable_subscription_stops_neither_webhooks_nor_lists_for_the_others() {
    let (mut app, secret) = relay(false).await;
    let damaged = subscribe(&app, json!({"connectionId": "c-1"})).await;
    let readable = subscribe(&app, json!({})).await;
    let damage = "UPDATE subscriptions SET locale = '!' WHERE connection_id = 'c-1'";
    app.database().execute(damage).await;
    start(&app, "c-2", StepEnd::Succeeds);
    let consent = webhook("consent.warning", "e-1", "/consents/k-1");
    send(&app, "m-1", &consent, &secret).await;
    app.skip(HOUR).await;
    assert_eq!(types(&app), ["notice.consent-expiring", "job.success"]);
    let gone = webhook("user.deleted", "e-2", "");
    send(&app, "m-2", &gone, &secret).await;
    app.run_due().await;
    assert_eq!(told_of_the_end(&app), [readable["id"].clone()]);
    // it may be repaired, so it has not ended untold
    let repair = "UPDATE subscriptions SET locale = 'en' WHERE connection_id = 'c-1'";
    app.database().execute(repair).await;
    assert_eq!(read(&app, &damaged).await["state"], "active");
}

#[tokio::test]
async fn every_verified_message_is_passed_on_byte_for_byte() {
    let (mut app, secret) = relay(true).await;
    for status in [500, 503, 404, 302] {
        app.receiver.answer_next(status, &[]);
    }
    let body = "{ \"eventTypeId\" : \"account.updated\",\n \"odd\": [1.0, \"é\"] }";
    let signed_at = app.now();
    send(&app, "m-1", body, &secret).await;
    send(&app, "m-1", body, &secret).await;
    app.restart().await;
    app.skip(5 * HOUR).await;
    let received = app.receiver.received();
    assert_eq!(received.len(), 5, "four failures, and once");
    for one in &received {
        assert_eq!((one.path.as_str(), one.raw.as_str()), ("/basiq", body));
        assert_eq!(one.header("webhook-id"), "m-1");
        let signed_at = signed_at.as_second().to_string();
        assert_eq!(
            one.header("webhook-timestamp"),
            signed_at,
            "as Basiq wrote it"
        );
        let headers = signing::SignatureHeaders::read(&one.headers).unwrap();
        signing::verify(&headers, body, &secret, signed_at_of(&headers)).unwrap();
    }
    send(&app, "m-2", body, &secret).await;
    app.run_due().await;
    assert_eq!(app.receiver.received().len(), 6);
    let pending = app.get("/deliveries?state=pending").await;
    assert_eq!(pending.body["items"], json!([]), "it is no client's");
}

fn signed_at_of(headers: &signing::SignatureHeaders) -> Timestamp {
    Timestamp::from_second(headers.timestamp.parse().unwrap()).unwrap()
}
