//! Tests of the control that sends any webhook: of any type, twice, late or again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    SandboxEventType,
    http::tests::{TestSandbox, error, login},
    state::OutgoingWebhook,
};

const ORDER: &str = "POST /sandbox/webhooks";

async fn order(api: &TestSandbox, body: Value) -> (u16, Value) {
    api.call("no token", ORDER, Some(body)).await
}

async fn with_connection() -> (TestSandbox, [String; 3]) {
    let api = TestSandbox::heard(&[]);
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let body = login("AU00000", "jared", "django");
    let connection = api.connected(&token, &user, body).await;
    let consent = api.sandbox.latest_consent(&user).unwrap();
    (api, [user, connection, consent])
}

fn sent(api: &TestSandbox) -> Vec<OutgoingWebhook> {
    api.sandbox.take_webhooks()
}

#[tokio::test]
async fn any_webhook_can_be_sent_whatever_is_subscribed() {
    let (api, [user, connection, consent]) = with_connection().await;
    for event_type in SandboxEventType::ALL {
        let body = json!({"eventTypeId": event_type.as_str(), "userId": user});
        let (status, answer) = order(&api, body).await;
        assert_eq!(status, 202, "{answer}");
        let [webhook] = sent(&api).try_into().unwrap();
        assert_eq!(webhook.event.event_type, event_type);
        assert_eq!(webhook.event.id, answer["eventId"]);
        assert_eq!(webhook.event.webhook_id, answer["webhookId"]);
        let entity = &webhook.event.entity;
        assert!(entity.starts_with(&format!("/users/{user}")), "{entity}");
        let about = match event_type.parts().0 {
            "connection" | "transactions" => &connection,
            "consent" => &consent,
            _ => &user,
        };
        assert!(entity.contains(about), "{entity}");
    }
    let token = api.token(None).await;
    let list = api
        .get(&token, "/events?filter=event.type.eq('warning')")
        .await;
    assert_eq!(
        list["data"][0]["entity"], "consent",
        "its event can be read"
    );
}

#[tokio::test]
async fn a_webhook_names_whatever_the_order_names() {
    let (api, _) = with_connection().await;
    let body = json!({
        "eventTypeId": "transactions.updated", "userId": "u-1", "connectionId": "c-1",
        "eventId": "e-1", "webhookId": "w-1", "copies": 2, "delayMs": 1500,
    });
    let answer = json!({"eventId": "e-1", "webhookId": "w-1", "copies": 2});
    assert_eq!(order(&api, body).await, (202, answer));
    let [first, second] = sent(&api).try_into().unwrap();
    assert_eq!(first, second, "the same twice");
    assert_eq!(first.delay, Duration::from_millis(1500));
    let entity = "/users/u-1/transactions?filter=connection.id.eq('c-1')";
    assert_eq!(
        (first.event.id.as_str(), first.event.webhook_id.as_str()),
        ("e-1", "w-1")
    );
    assert_eq!(first.event.entity, entity);
    let body = json!({"eventTypeId": "consent.expired", "userId": "u-1", "consentId": "k-1"});
    assert_eq!(order(&api, body).await.0, 202);
    assert_eq!(sent(&api)[0].event.entity, "/users/u-1/consents/k-1");
}

#[tokio::test]
async fn the_webhook_of_an_event_can_be_sent_again() {
    let (api, [user, ..]) = with_connection().await;
    let token = api.token(None).await;
    let events = api.get(&token, "/events").await;
    let newest = &events["data"][0];
    assert_eq!(newest["entity"], "transactions");
    for copies in [1, 3] {
        let again = json!({"eventId": newest["id"], "copies": copies});
        assert_eq!(order(&api, again).await.0, 202);
        let webhooks = sent(&api);
        assert_eq!(webhooks.len(), copies);
        assert_eq!(webhooks[0].event.id, newest["id"]);
        assert_eq!(webhooks[0].event.user_id, user);
    }
}

#[tokio::test]
async fn wrong_orders_are_refused() {
    let (api, [user, ..]) = with_connection().await;
    let token = api.token(None).await;
    let bare = api.user(&token).await;
    let (valid, supplied) = ("parameter-not-valid", "parameter-not-supplied");
    for (body, status, code) in [
        (json!({}), 400, supplied),
        (json!({"eventTypeId": "user.created"}), 400, supplied),
        (
            json!({"eventTypeId": "job.failed", "userId": user}),
            400,
            valid,
        ),
        (
            json!({"eventTypeId": "consent.expired", "userId": bare}),
            400,
            valid,
        ),
        (
            json!({"eventTypeId": "account.updated", "userId": bare}),
            400,
            valid,
        ),
        (
            json!({"eventTypeId": "user.created", "userId": user, "copies": 0}),
            400,
            valid,
        ),
        (
            json!({"eventTypeId": "user.created", "userId": user, "copies": 101}),
            400,
            valid,
        ),
        (
            json!({"eventTypeId": "user.created", "userId": user, "delayMs": -1}),
            400,
            valid,
        ),
        (json!({"eventId": "nothing"}), 404, "resource-not-found"),
    ] {
        let (answered, answer) = order(&api, body.clone()).await;
        assert_eq!((answered, error(&answer)), (status, code), "{body}");
    }
    assert!(sent(&api).is_empty());
    let deaf = TestSandbox::new();
    let body = json!({"eventTypeId": "user.created", "userId": "u"});
    let (status, answer) = order(&deaf, body).await;
    assert_eq!((status, error(&answer)), (400, valid));
    let detail = answer["data"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("--webhook-url"), "{detail}");
}
