//! Tests of consents: their life as time passes, and the controls that hurry it.

use serde_json::json;

use crate::{
    ConsentChange, ControlError, SandboxEventType,
    http::tests::{TestSandbox, error, login},
};

const DAY: u64 = 24 * 3600;

/// A person with a connected bank, whose webhooks the test takes.
struct Person {
    api: TestSandbox,
    user: String,
    connection: String,
    consent: String,
}

impl Person {
    async fn new() -> Self {
        Self::by("web").await
    }

    async fn by(method: &str) -> Self {
        let api = TestSandbox::heard(&SandboxEventType::USUAL);
        let token = api.token(None).await;
        let user = api.user(&token).await;
        let mut body = login("AU00000", "gavinBelson", "hooli2016");
        body["method"] = json!(method);
        let connection = api.connected(&token, &user, body).await;
        let consent = api.sandbox.latest_consent(&user).unwrap();
        api.told();
        Self {
            api,
            user,
            connection,
            consent,
        }
    }

    async fn get(&self, rest: &str) -> serde_json::Value {
        let token = self.api.token(None).await;
        let path = format!("/users/{}/{rest}", self.user);
        self.api.get(&token, &path).await
    }

    async fn post(&self, rest: &str, body: Option<serde_json::Value>) -> u16 {
        let token = self.api.token(None).await;
        let line = format!("POST /users/{}/{rest}", self.user);
        self.api.call(&token, &line, body).await.0
    }

    /// Returns the word of each event about the consent since the last call.
    fn told(&self) -> Vec<String> {
        let entity = format!("/users/{}/consents/{}", self.user, self.consent);
        let told = self.api.told().into_iter();
        let told = told.inspect(|(_, about)| assert_eq!(*about, entity));
        told.map(|(name, _)| name).collect()
    }
}

#[tokio::test]
async fn a_consent_is_listed_in_the_documented_form() {
    let person = Person::new().await;
    let list = person.get("consents").await;
    assert_eq!((&list["type"], &list["size"]), (&json!("list"), &json!(1)));
    let consent = &list["data"][0];
    assert_eq!(consent["id"], person.consent);
    assert_eq!(
        (&consent["type"], &consent["status"]),
        (&json!("consent"), &json!("active"))
    );
    assert_eq!(consent["created"], "2027-01-15T08:00:00.000Z");
    assert_eq!(consent["expiryDate"], "2028-01-15T08:00:00.000Z");
    assert!(consent["purpose"]["primary"]["title"].is_string());
    assert_eq!(consent["data"]["permissions"][0]["scope"], "account.basic");
    assert!(consent.get("revoked").is_none());
    let body = login("AU00003", "jared", "django");
    assert_eq!(person.post("connections", Some(body)).await, 202);
    assert_eq!(person.get("consents").await["size"], 1, "one for all banks");
    let token = person.api.token(None).await;
    let (status, body) = person
        .api
        .call(&token, "GET /users/nobody/consents", None)
        .await;
    assert_eq!((status, error(&body)), (404, "resource-not-found"));
}

#[tokio::test]
async fn time_reminds_of_a_consent_warns_of_its_end_and_ends_it() {
    let person = Person::new().await;
    for (days, told) in [
        (89, None),
        (1, Some("consent.reminder")),
        (267, None),
        (1, Some("consent.warning")),
        (6, None),
        (1, Some("consent.expired")),
        (400, None),
    ] {
        person.api.pass(days * DAY);
        assert_eq!(
            person.told(),
            Vec::from_iter(told),
            "after {days} days more"
        );
    }
    let consent = &person.get("consents").await["data"][0];
    assert_eq!(consent["status"], "expired");
    assert_eq!(consent["updated"], consent["expiryDate"]);
}

#[tokio::test]
async fn a_consent_can_be_changed_at_once() {
    let person = Person::new().await;
    for change in ["reminder", "warning", "updated", "expired"] {
        let path = format!("consents/{}/{change}", person.consent);
        let line = format!("POST /sandbox/users/{}/{path}", person.user);
        let (status, consent) = person.api.call("no token", &line, None).await;
        assert_eq!((status, &consent["id"]), (200, &json!(person.consent)));
        let is_over = change == "expired";
        let status = if is_over { "expired" } else { "active" };
        assert_eq!(consent["status"], status, "{change}");
        let told = format!("consent.{change}");
        let expected = if change == "updated" {
            vec![]
        } else {
            vec![told]
        };
        assert_eq!(person.told(), expected, "no subscription to updates");
    }
    let sandbox = &person.api.sandbox;
    let change = |change| sandbox.change_consent(&person.consent, change);
    assert_eq!(
        change(ConsentChange::Warning),
        Err(ControlError::ConsentOver)
    );
    assert_eq!(change(ConsentChange::Updated), Ok(()));
    assert_eq!(change(ConsentChange::Revoked), Ok(()));
    assert_eq!(person.told(), ["consent.revoked"]);
    let consent = &person.get("consents").await["data"][0];
    assert_eq!(consent["status"], "revoked");
    assert_eq!(consent["revoked"], consent["updated"]);
    person.api.pass(400 * DAY);
    assert!(person.told().is_empty(), "it is over");
}

#[tokio::test]
async fn wrong_changes_are_refused() {
    let person = Person::new().await;
    let user = &person.user;
    for (path, status, code) in [
        (
            format!("{user}/consents/latest/burnt"),
            400,
            "parameter-not-valid",
        ),
        (
            format!("{user}/consents/nothing/expired"),
            404,
            "resource-not-found",
        ),
        (
            "nobody/consents/latest/expired".to_owned(),
            404,
            "resource-not-found",
        ),
    ] {
        let line = format!("POST /sandbox/users/{path}");
        let (answered, body) = person.api.call("", &line, None).await;
        assert_eq!((answered, error(&body)), (status, code), "{path}");
    }
    let line = format!("POST /sandbox/users/{user}/consents/latest/revoked");
    assert_eq!(person.api.call("", &line, None).await.0, 200);
    let (status, body) = person.api.call("", &line, None).await;
    assert_eq!((status, error(&body)), (400, "parameter-not-valid"));
    let calls = person.api.sandbox.calls();
    assert!(calls.recent().all(|call| !call.path.contains("/sandbox/")));
}

#[tokio::test]
async fn a_person_revokes_a_consent_and_gives_a_new_one() {
    let person = Person::new().await;
    assert_eq!(person.get("accounts").await["size"], 2);
    let token = person.api.token(None).await;
    let line = format!("DELETE /users/{}/consents/{}", person.user, person.consent);
    let (status, body) = person.api.call(&token, &line, None).await;
    assert_eq!((status, body), (204, serde_json::Value::Null));
    assert_eq!(person.told(), ["consent.revoked"]);
    assert_eq!(person.api.call(&token, &line, None).await.0, 404);
    assert_eq!(person.get("accounts").await["size"], 0, "data is deleted");

    let connection = format!("connections/{}", person.connection);
    assert_eq!(
        person.post(&format!("{connection}/refresh"), None).await,
        202
    );
    person.api.pass(10);
    let jobs = person.get("jobs").await;
    let failed = &jobs["data"][0]["steps"][0]["result"];
    assert_eq!(failed["code"], "authorization-failed");
    assert_eq!(person.api.told_types(), ["connection.invalidated"]);

    let again = json!({"password": "hooli2016"});
    assert_eq!(person.post(&connection, Some(again)).await, 202);
    person.api.pass(10);
    assert_eq!(person.get(&connection).await["status"], "active");
    let consents = person.get("consents").await;
    let statuses = [0, 1].map(|index| consents["data"][index]["status"].clone());
    assert_eq!(statuses, ["active", "revoked"]);
}

#[tokio::test]
async fn the_end_of_a_consent_cuts_open_banking_off() {
    let entity = |p: &Person| format!("/users/{}/connections/{}", p.user, p.connection);
    for (change, told) in [
        (
            ConsentChange::Expired,
            &["consent.expired", "connection.invalidated"][..],
        ),
        (ConsentChange::Revoked, &["consent.revoked"]),
    ] {
        let person = Person::by("openbanking").await;
        let changed = person.api.sandbox.change_consent(&person.consent, change);
        assert_eq!(changed, Ok(()));
        let heard = person.api.told();
        let names: Vec<_> = heard.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, told);
        if let Some((_, about)) = heard.get(1) {
            assert_eq!(*about, entity(&person));
        }
        let path = format!("connections/{}", person.connection);
        assert_eq!(person.get(&path).await["status"], "invalid");
    }
    let web = Person::new().await;
    let changed = web
        .api
        .sandbox
        .change_consent(&web.consent, ConsentChange::Expired);
    assert_eq!(changed, Ok(()));
    assert_eq!(web.told(), ["consent.expired"]);
    let path = format!("connections/{}", web.connection);
    assert_eq!(
        web.get(&path).await["status"],
        "active",
        "until it is refreshed"
    );
}
