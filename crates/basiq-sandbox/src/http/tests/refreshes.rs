//! Tests of refreshes that the sandbox starts by itself, as Basiq does at night.

use std::time::Duration;

use relay_domain::SigningSecret;
use serde_json::{Value, json};

use crate::{
    SandboxEventType, SandboxOptions, SandboxWebhook,
    http::tests::{TestSandbox, login},
};

const NIGHT: u64 = 3000;
/// A job of Hooli Bank takes 7.3 s.
const JOB: u64 = 8;

fn nightly() -> TestSandbox {
    TestSandbox::with(SandboxOptions {
        refresh_every: Some(Duration::from_secs(NIGHT)),
        ..heard(&SandboxEventType::USUAL)
    })
}

fn heard(events: &[SandboxEventType]) -> SandboxOptions {
    SandboxOptions {
        webhook: Some(SandboxWebhook {
            url: "http://127.0.0.1:9/".parse().unwrap(),
            secret: SigningSecret::generate(),
        }),
        webhook_events: events.to_vec(),
        ..SandboxOptions::default()
    }
}

/// A person whose bank is connected, and the token to look at it, of which one lasts an hour.
struct Person {
    api: TestSandbox,
    user: String,
    connection: String,
}

impl Person {
    async fn connects(api: TestSandbox, body: Value) -> Self {
        let token = api.token(None).await;
        let user = api.user(&token).await;
        let connection = api.connected(&token, &user, body).await;
        Self {
            api,
            user,
            connection,
        }
    }

    /// Lets a night pass and the refresh end. Returns the jobs as listed.
    async fn sleeps(&self) -> Vec<String> {
        self.api.pass(NIGHT + JOB);
        let token = self.api.token(None).await;
        self.api.listed(&token, &self.user).await
    }

    async fn status(&self) -> String {
        let token = self.api.token(None).await;
        let path = format!("/users/{}/connections/{}", self.user, self.connection);
        let connection = self.api.get(&token, &path).await;
        connection["status"].as_str().unwrap().to_owned()
    }
}

const DONE: &str = "success success success";

#[tokio::test]
async fn a_connection_that_works_is_refreshed_night_after_night() {
    let person = Person::connects(nightly(), login("AU00000", "gavinBelson", "hooli2016")).await;
    assert_eq!(person.api.told_types(), ["transactions.updated"]);
    for night in 1..=3 {
        assert_eq!(person.sleeps().await, vec![DONE; night + 1]);
        assert_eq!(person.api.told_types(), ["transactions.updated"]);
    }
    let token = person.api.token(None).await;
    let path = format!("/users/{}/jobs", person.user);
    let list = person.api.get(&token, &path).await;
    let [newest, before] = [0, 1].map(|index| &list["data"][index]);
    let time = |job: &Value, field: &str| -> jiff::Timestamp {
        job[field].as_str().unwrap().parse().unwrap()
    };
    let waited = time(newest, "created").duration_since(time(before, "updated"));
    assert_eq!(waited.as_secs(), i64::try_from(NIGHT).unwrap());
    let source = newest["links"]["source"].as_str().unwrap();
    assert!(source.ends_with(&person.connection));
}

#[tokio::test]
async fn a_night_on_a_faster_clock_is_shorter() {
    let api = TestSandbox::with(SandboxOptions {
        speed: 100.0,
        refresh_every: Some(Duration::from_hours(24)),
        ..SandboxOptions::default()
    });
    let person = Person::connects(api, login("AU00000", "jared", "django")).await;
    person.api.pass(850);
    let token = person.api.token(None).await;
    assert_eq!(person.api.listed(&token, &person.user).await.len(), 1);
    person.api.pass(15);
    assert_eq!(person.api.listed(&token, &person.user).await.len(), 2);
}

#[tokio::test]
async fn a_refresh_can_fail_overnight_and_is_told_and_ends_the_refreshes() {
    for (name, password, words) in [
        ("monica", "raviga", "failed pending pending"),
        ("dinesh", "java", "success failed pending"),
    ] {
        let person = Person::connects(nightly(), login("AU00000", name, password)).await;
        assert_eq!(person.status().await, "active");
        person.api.told();
        assert_eq!(person.sleeps().await, [words, DONE], "{name}");
        let entity = format!("/users/{}/connections/{}", person.user, person.connection);
        let told = ("connection.invalidated".to_owned(), entity);
        assert_eq!(person.api.told(), [told]);
        assert_eq!(person.status().await, "invalid");
        assert_eq!(person.sleeps().await.len(), 2, "no refresh of a broken one");

        let line = format!(
            "POST /users/{}/connections/{}",
            person.user, person.connection
        );
        let token = person.api.token(None).await;
        let mended = json!({"loginId": "jared", "password": "django"});
        assert_eq!(person.api.call(&token, &line, Some(mended)).await.0, 202);
        person.api.pass(JOB);
        assert_eq!(person.status().await, "active");
        assert_eq!(person.sleeps().await, [DONE, DONE, words, DONE]);
    }
}

#[tokio::test]
async fn an_outage_overnight_is_not_told_and_tried_again_the_next_night() {
    let unavailable = "failed pending pending";
    let russ = Person::connects(nightly(), login("AU00000", "russ", "tres-comas")).await;
    assert_eq!(russ.sleeps().await, [unavailable, DONE]);
    assert_eq!(russ.sleeps().await, [unavailable, unavailable, DONE]);
    assert_eq!(russ.status().await, "active");

    let person = Person::connects(nightly(), login("AU00000", "jared", "django")).await;
    person.api.told();
    let out = "outage=AU00000".parse().unwrap();
    person.api.sandbox.set_faults(vec![out]);
    assert_eq!(person.sleeps().await, [unavailable, DONE]);
    assert!(person.api.told().is_empty());
    person.api.sandbox.set_faults(Vec::new());
    assert_eq!(person.sleeps().await, [DONE, unavailable, DONE]);
    assert_eq!(person.api.told_types(), ["transactions.updated"]);
}

#[tokio::test]
async fn only_a_connection_that_works_without_the_person_is_refreshed() {
    for (bank, name, password) in [
        ("AU00000", "bighead", "password"),
        ("AU00000", "jianYang", "nothotdog"),
        ("AU00002", "jared", "django"),
        ("AU00003", "jared", "django"),
    ] {
        let person = Person::connects(nightly(), login(bank, name, password)).await;
        assert_eq!(person.sleeps().await.len(), 1, "{bank} {name}");
        assert!(person.api.told().is_empty(), "a first failure is not told");
    }
    let quiet = TestSandbox::new();
    let person = Person::connects(quiet, login("AU00000", "jared", "django")).await;
    assert_eq!(person.sleeps().await.len(), 1, "no night is set");
}

#[tokio::test]
async fn no_connection_is_refreshed_that_was_deleted_or_whose_consent_is_over() {
    for line in ["connections", "consents"] {
        let person = Person::connects(nightly(), login("AU00000", "jared", "django")).await;
        let token = person.api.token(None).await;
        let consent = person.api.sandbox.latest_consent(&person.user).unwrap();
        let id = if line == "consents" {
            &consent
        } else {
            &person.connection
        };
        let line = format!("DELETE /users/{}/{line}/{id}", person.user);
        assert_eq!(person.api.call(&token, &line, None).await.0, 204);
        assert_eq!(person.sleeps().await.len(), 1, "{line}");
    }
}

#[tokio::test]
async fn a_refresh_that_somebody_asked_for_moves_the_next_one() {
    let person = Person::connects(nightly(), login("AU00000", "jared", "django")).await;
    person.api.pass(NIGHT - 100);
    let token = person.api.token(None).await;
    let line = format!(
        "POST /users/{}/connections/{}/refresh",
        person.user, person.connection
    );
    assert_eq!(person.api.call(&token, &line, None).await.0, 202);
    person.api.pass(200);
    assert_eq!(person.api.listed(&token, &person.user).await.len(), 2);
    assert_eq!(person.sleeps().await.len(), 3);
}
