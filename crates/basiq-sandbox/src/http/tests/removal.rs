//! Tests of deleted users and connections.

use serde_json::{Value, json};

use crate::{
    SandboxEventType,
    http::tests::{TestSandbox, error, login},
};

/// The statuses of these calls, and whether each that fails is in Basiq's form.
async fn statuses(api: &TestSandbox, token: &str, lines: &[String]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for line in lines {
        let (status, body) = api.call(token, line, None).await;
        if status == 404 {
            assert_eq!(error(&body), "resource-not-found", "{line}");
        }
        statuses.push(status);
    }
    statuses
}

#[tokio::test]
async fn a_deleted_user_is_gone_with_everything() {
    let api = TestSandbox::heard(&SandboxEventType::USUAL);
    let token = api.token(None).await;
    let (user, other) = (api.user(&token).await, api.user(&token).await);
    let body = login("AU00000", "gavinBelson", "hooli2016");
    api.connected(&token, &other, body.clone()).await;
    let connection = api.connected(&token, &user, body).await;
    let jobs = api.get(&token, &format!("/users/{user}/jobs")).await;
    let job = jobs["data"][0]["id"].as_str().unwrap();
    api.told();

    let line = format!("DELETE /users/{user}");
    assert_eq!(api.call(&token, &line, None).await, (204, Value::Null));
    let told = ("user.deleted".to_owned(), format!("/users/{user}"));
    assert_eq!(api.told(), [told]);
    let own = format!("GET /users/{user}");
    let gone = [
        line,
        own.clone(),
        format!("{own}/jobs"),
        format!("{own}/consents"),
        format!("{own}/connections/{connection}"),
        format!("GET /jobs/{job}"),
    ];
    assert_eq!(statuses(&api, &token, &gone).await, [404; 6]);
    assert_eq!(api.listed(&token, &other).await.len(), 1);
    let users = api.get(&token, "/users").await;
    assert_eq!(
        (&users["size"], &users["data"][0]["id"]),
        (&json!(1), &json!(other))
    );
}

#[tokio::test]
async fn a_deleted_connection_is_gone_with_its_running_job_but_its_data_stays() {
    let api = TestSandbox::heard(&SandboxEventType::USUAL);
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let body = login("AU00000", "gavinBelson", "hooli2016");
    let connection = api.connected(&token, &user, body).await;
    let own = format!("/users/{user}/connections/{connection}");
    let (_, running) = api.call(&token, &format!("POST {own}/refresh"), None).await;
    api.told();

    let line = format!("DELETE {own}");
    assert_eq!(api.call(&token, &line, None).await, (204, Value::Null));
    assert_eq!(api.told(), [("connection.deleted".to_owned(), own.clone())]);
    let running = running["id"].as_str().unwrap();
    let gone = [
        line,
        format!("GET {own}"),
        format!("POST {own}/refresh"),
        format!("GET /jobs/{running}"),
    ];
    assert_eq!(statuses(&api, &token, &gone).await, [404; 4]);
    api.pass(10);
    assert!(api.told().is_empty(), "its job tells nothing");
    assert_eq!(api.listed(&token, &user).await, ["success success success"]);
    let list = api.get(&token, &format!("/users/{user}/connections")).await;
    assert_eq!(list["size"], 0);
    let whole = api.get(&token, &format!("/users/{user}")).await;
    assert_eq!(whole["connections"]["count"], 0);
    assert_eq!(whole["accounts"]["count"], 2, "data stays");
    let all = format!("POST /users/{user}/connections/refresh");
    assert_eq!(api.call(&token, &all, None).await.1["data"], json!([]));
}

#[tokio::test]
async fn only_the_users_own_connection_and_consent_can_be_deleted() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let (user, other) = (api.user(&token).await, api.user(&token).await);
    let body = login("AU00000", "gavinBelson", "hooli2016");
    let connection = api.connected(&token, &user, body).await;
    let consent = api.sandbox.latest_consent(&user).unwrap();
    let gone = [
        "DELETE /users/nobody".to_owned(),
        format!("DELETE /users/{other}/connections/{connection}"),
        format!("DELETE /users/{other}/consents/{consent}"),
        format!("DELETE /users/{user}/consents/nothing"),
    ];
    assert_eq!(statuses(&api, &token, &gone).await, [404; 4]);
    let own = format!("/users/{user}");
    assert_eq!(
        api.get(&token, &format!("{own}/connections")).await["size"],
        1
    );
    let consents = api.get(&token, &format!("{own}/consents")).await;
    assert_eq!(consents["data"][0]["status"], "active");
}
