//! Tests of Basiq's events: which happen when, and how they are read.

use serde_json::{Value, json};

use crate::{
    ConsentChange, SandboxEventType,
    http::tests::{TestSandbox, error, login},
};

/// Plays a scenario in which each event happens. Returns the events' types and the ids of the user, the
/// connection and the consent.
async fn whole_story(api: &TestSandbox) -> (Vec<String>, [String; 3]) {
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let name = json!({"firstName": "Monica"});
    let (status, updated) = api
        .call(&token, &format!("POST /users/{user}"), Some(name))
        .await;
    assert_eq!((status, &updated["firstName"]), (200, &json!("Monica")));
    assert_eq!(updated["mobile"], "+61400000000", "the others stay");
    let body = login("AU00000", "monica", "raviga");
    let connection = api.connected(&token, &user, body).await;
    let consent = api.sandbox.latest_consent(&user).unwrap();
    let own = format!("/users/{user}/connections/{connection}");
    api.call(&token, &format!("POST {own}/refresh"), None).await;
    api.pass(10);
    let mut told = api.told_types();
    for change in [
        ConsentChange::Reminder,
        ConsentChange::Warning,
        ConsentChange::Updated,
        ConsentChange::Expired,
        ConsentChange::Updated,
        ConsentChange::Revoked,
    ] {
        assert_eq!(api.sandbox.change_consent(&consent, change), Ok(()));
    }
    for line in [format!("DELETE {own}"), format!("DELETE /users/{user}")] {
        assert_eq!(api.call(&token, &line, None).await.0, 204);
    }
    told.extend(api.told_types());
    (told, [user, connection, consent])
}

#[tokio::test]
async fn each_event_happens_in_a_persons_story() {
    let api = TestSandbox::heard(&SandboxEventType::ALL);
    let (told, _) = whole_story(&api).await;
    let expected = [
        "user.created",
        "user.updated",
        "consent.created",
        "connection.created",
        "connection.activated",
        "account.updated",
        "account.updated",
        "transactions.updated",
        "connection.invalidated",
        "consent.reminder",
        "consent.warning",
        "consent.updated",
        "consent.expired",
        "consent.updated",
        "consent.revoked",
        "connection.deleted",
        "user.deleted",
    ];
    assert_eq!(told, expected);
    for known in SandboxEventType::ALL {
        assert!(told.contains(&known.to_string()), "{known}");
    }
}

#[tokio::test]
async fn only_subscribed_events_are_sent_and_none_without_a_receiver() {
    for (subscribed, sent) in [
        (&SandboxEventType::USUAL[..], 8),
        (&[SandboxEventType::UserDeleted], 1),
        (&[], 0),
    ] {
        let api = TestSandbox::heard(subscribed);
        assert_eq!(whole_story(&api).await.0.len(), sent);
    }
    let deaf = TestSandbox::new();
    assert!(whole_story(&deaf).await.0.is_empty());
    let token = deaf.token(None).await;
    assert_eq!(deaf.get(&token, "/events").await["data"], json!([]));
}

#[tokio::test]
async fn an_event_can_be_read_for_seven_days() {
    let api = TestSandbox::heard(&[SandboxEventType::AccountUpdated]);
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let body = login("AU00000", "jared", "django");
    let connection = api.connected(&token, &user, body).await;
    let webhook = api.sandbox.take_webhooks().remove(0);
    let body: Value =
        serde_json::from_str(&webhook.event.webhook_body("http://localhost")).unwrap();
    let link = body["links"]["event"].as_str().unwrap();
    let path = link.strip_prefix("http://localhost").unwrap();
    let event = api.get(&token, path).await;
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("event"), &body["eventId"])
    );
    assert_eq!(
        (&event["entity"], &event["eventType"]),
        (&json!("account"), &json!("updated"))
    );
    assert_eq!(
        (&event["userId"], &event["dataRef"]),
        (&json!(user), &body["links"]["eventEntity"])
    );
    assert_eq!(event["data"]["connection"], connection);
    api.pass(7 * 24 * 3600);
    let token = api.token(None).await;
    let (status, body) = api.call(&token, &format!("GET {path}"), None).await;
    assert_eq!((status, error(&body)), (404, "resource-not-found"));
    assert_eq!(api.get(&token, "/events").await["data"], json!([]));
}

#[tokio::test]
async fn events_are_listed_newest_first_and_narrowed() {
    let api = TestSandbox::heard(&[]);
    let (_, [user, ..]) = whole_story(&api).await;
    let token = api.token(None).await;
    api.user(&token).await;
    let of_user = format!("user.id.eq({user})");
    for (filter, count) in [
        (String::new(), 18),
        (of_user.clone(), 17),
        (format!("{of_user},event.entity.eq('consent')"), 7),
        (
            "event.entity.eq('user'),event.type.eq('created')".to_owned(),
            2,
        ),
    ] {
        let list = api.get(&token, &format!("/events?filter={filter}")).await;
        let events = list["data"].as_array().unwrap();
        assert_eq!(events.len(), count, "{filter}");
        let times: Vec<_> = events.iter().map(|e| e["createdDate"].as_str()).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older));
    }
}

#[tokio::test]
async fn the_types_of_events_are_the_fifteen_documented() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let list = api.get(&token, "/events/types").await;
    assert_eq!((&list["size"], &list["count"]), (&json!(15), &json!(15)));
    for event_type in list["data"].as_array().unwrap() {
        let id = event_type["id"].as_str().unwrap();
        let path = format!("/events/types/{id}");
        assert_eq!(api.get(&token, &path).await, *event_type);
    }
    let line = "GET /events/types/job.success";
    assert_eq!(api.call(&token, line, None).await.0, 404);
}
