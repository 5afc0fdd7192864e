//! Webhooks of Basiq's that are passed on: a process that is killed right after its answer loses none.

use basiq_sandbox::SandboxOptions;
use relay_domain::{SigningSecret, clock::Clock, signing};
use serde_json::json;
use standardwebhooks::Webhook;

use crate::support::scene::Scene;

/// Few enough that the failures do not pause the handler's host.
const MESSAGES: usize = 2;

#[tokio::test]
async fn a_webhook_is_passed_on_although_the_relay_is_killed_right_after_its_answer() {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    let secret = SigningSecret::generate();
    let handler = format!("{}/basiq", scene.receiver.url());
    scene.setup.environment.extend([
        ("RELAY_BASIQ_WEBHOOK_SECRET", secret.expose().to_owned()),
        ("RELAY_BASIQ_WEBHOOK_FORWARD_URL", handler),
        ("RELAY_DELIVERY_TIMEOUT", "1s".to_owned()),
        ("RELAY_DELIVERY_RETRY_SCHEDULE", ["200ms"; 20].join(",")),
    ]);
    // four failures for each message
    scene.receiver.answer(4 * MESSAGES, 503);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut sent = Vec::new();
    for n in 0..MESSAGES {
        let relay = scene.setup.start().await;
        let body = json!({ "eventTypeId": "account.updated", "eventId": format!("e-{n}"), "odd": [1.50, "é"] });
        let (id, body) = (format!("m-{n}"), format!("{body:#}"));
        let signed = signing::sign(&id, Clock::system().now(), &body, &[&secret]).unwrap();
        let mut call = http.post(format!("{}/basiq/webhook", relay.url));
        for (name, value) in signed.entries() {
            call = call.header(name, value);
        }
        let answer = call.body(body.clone()).send().await.unwrap();
        relay.kill().await;
        assert_eq!(answer.status(), 204);
        sent.push((id, body));
    }
    let relay = scene.setup.start().await;
    // an attempt whose end nobody recorded is made again when its lease runs out, so there may be more
    scene.told(5 * MESSAGES).await;
    let received = scene.receiver.received();
    let official = Webhook::new(secret.expose()).unwrap();
    for one in &received {
        assert_eq!(one.path, "/basiq");
        official.verify(one.raw.as_bytes(), &one.headers).unwrap();
        let original = sent.iter().find(|(id, _)| id == one.header("webhook-id"));
        assert_eq!(original.unwrap().1, one.raw, "byte for byte");
    }
    for (id, _) in &sent {
        let accepted = &received[4 * MESSAGES..];
        assert!(
            accepted.iter().any(|one| one.header("webhook-id") == id),
            "{id} was accepted"
        );
    }
    assert_eq!(relay.terminate().await.0, Some(0));
}
