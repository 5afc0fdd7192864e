//! Tests of the sandbox's answers to right and wrong calls, on a clock that the test moves.

use std::time::Duration;

use axum::{body::Body, http::Request};
use relay_domain::StepFailure;
use serde_json::json;

use crate::{
    JobScript, SandboxOptions, ScriptChallenge, ScriptStep, StepEnd,
    http::tests::{TestSandbox, error, login},
};

#[tokio::test]
async fn a_token_needs_a_key_and_a_version() {
    let api = TestSandbox::with(SandboxOptions {
        api_key: Some("right".into()),
        ..SandboxOptions::default()
    });
    let (key, version) = ("authorization", "basiq-version");
    let good = [(key, "Basic right"), (version, "3.0")];
    assert_eq!(api.ask_token(&good, "scope=SERVER_ACCESS").await.0, 200);
    let headers = |key_sent: &[&'static str], version_sent: &[&'static str]| {
        let keys = key_sent.iter().map(|&value| (key, value));
        keys.chain(version_sent.iter().map(|&value| (version, value)))
            .collect::<Vec<_>>()
    };
    for (key, version, status, code) in [
        (
            &["Basic wrong"][..],
            &["3.0"][..],
            404,
            "resource-not-found",
        ),
        (&["Basic "], &["3.0"], 404, "resource-not-found"),
        (&["Bearer right"], &["3.0"], 404, "resource-not-found"),
        (&[], &["3.0"], 401, "unauthorized-access"),
        (&["Basic right"], &[], 400, "parameter-not-supplied"),
        (&["Basic right"], &["1.0"], 404, "resource-not-found"),
    ] {
        let sent = headers(key, version);
        let (answered, body) = api.ask_token(&sent, "scope=SERVER_ACCESS").await;
        assert_eq!((answered, error(&body)), (status, code), "{sent:?}");
    }
    for (form, code) in [
        ("scope=ALL", "parameter-not-valid"),
        ("scope=CLIENT_ACCESS", "parameter-not-supplied"),
        ("scope=CLIENT_ACCESS&userId=nobody", "parameter-not-valid"),
    ] {
        let (status, body) = api.ask_token(&good, form).await;
        assert_eq!((status, error(&body)), (400, code), "{form}");
    }
}

#[tokio::test]
async fn a_token_opens_what_its_scope_says_for_an_hour() {
    let api = TestSandbox::new();
    let server = api.token(None).await;
    let user = api.user(&server).await;
    let client = api.token(Some(&user)).await;
    let line = format!("GET /users/{user}");
    assert_eq!(api.call(&server, &line, None).await.0, 200);
    let (status, body) = api.call(&client, &line, None).await;
    assert_eq!((status, error(&body)), (403, "forbidden-access"));
    let (status, body) = api.call("made-up", &line, None).await;
    assert_eq!((status, error(&body)), (401, "invalid-authorization-token"));
    let bare = Request::get("/connectors").body(Body::empty()).unwrap();
    let (status, body) = api.send(bare).await;
    assert_eq!((status, error(&body)), (401, "unauthorized-access"));
    api.pass(3600);
    let (status, body) = api.call(&server, &line, None).await;
    assert_eq!((status, error(&body)), (403, "access-denied"));
    assert_eq!(body["data"][0]["detail"], "Token has expired");
}

#[tokio::test]
async fn what_is_asked_for_twice_is_the_same_job() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let body = login("AU00000", "gavinBelson", "hooli2016");
    let (first, job) = api.connect(&token, &user, body.clone()).await;
    let (again, same) = api.connect(&token, &user, body).await;
    assert_eq!((first, again), (202, 200));
    assert_eq!(job, same);
    api.pass(10);
    let list = format!("GET /users/{user}/connections");
    let (_, connections) = api.call(&token, &list, None).await;
    assert_eq!(connections["size"], 1);
    let connection = connections["data"][0]["id"].as_str().unwrap();
    let refresh = format!("POST /users/{user}/connections/{connection}/refresh");
    let (first, job) = api.call(&token, &refresh, None).await;
    let (again, same) = api.call(&token, &refresh, None).await;
    assert_eq!((first, again), (202, 200));
    assert_eq!(job, same);
    let all = format!("POST /users/{user}/connections/refresh");
    let (status, jobs) = api.call(&token, &all, None).await;
    assert_eq!((status, &jobs["data"][0]), (202, &job));
    api.pass(10);
    let (status, other) = api.call(&token, &refresh, None).await;
    assert_eq!(status, 202);
    assert_ne!(other["id"], job["id"]);
}

#[tokio::test]
async fn new_credentials_mend_a_connection() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let body = login("AU00000", "bighead", "password");
    let (_, job) = api.connect(&token, &user, body).await;
    let job = format!("GET /jobs/{}", job["id"].as_str().unwrap());
    let (_, running) = api.call(&token, &job, None).await;
    assert!(running["links"].get("source").is_none());
    api.pass(10);
    let (_, failed) = api.call(&token, &job, None).await;
    assert_eq!(failed["steps"][0]["result"]["detail"], "Account is locked");
    assert_eq!(failed["steps"][1]["status"], "pending");
    let source = failed["links"]["source"].as_str().unwrap();
    let path = source.strip_prefix("http://localhost").unwrap();
    let status = async || {
        let (_, body) = api.call(&token, &format!("GET {path}"), None).await;
        body["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status().await, "invalid");
    let mended = json!({"loginId": "jared", "password": "django"});
    let update = format!("POST {path}");
    assert_eq!(api.call(&token, &update, Some(mended)).await.0, 202);
    assert_eq!(status().await, "invalid");
    api.pass(10);
    assert_eq!(status().await, "active");
}

#[tokio::test]
async fn nucleus_bank_asks_every_other_time() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let mut words = Vec::new();
    for name in ["jared", "richard", "jared", "richard"] {
        let password = if name == "jared" {
            "django"
        } else {
            "tabsnotspaces"
        };
        let (_, job) = api
            .connect(&token, &user, login("AU00003", name, password))
            .await;
        api.pass(10);
        let line = format!("GET /jobs/{}", job["id"].as_str().unwrap());
        let (_, document) = api.call(&token, &line, None).await;
        words.push(document["steps"][1]["status"].as_str().unwrap().to_owned());
        api.pass(200);
    }
    assert_eq!(words, ["in-progress", "skipped", "in-progress", "skipped"]);
}

fn asking() -> JobScript {
    let step = |title: &str, end| ScriptStep::new(title, Duration::from_secs(1), end);
    JobScript {
        user_id: Some("u".to_owned()),
        ..JobScript::new(vec![
            step("verify-credentials", StepEnd::Succeeds),
            step("mfa-challenge", StepEnd::Asks(ScriptChallenge::token())),
            step("retrieve-accounts", StepEnd::Succeeds),
        ])
    }
}

#[tokio::test]
async fn only_the_right_answer_in_time_of_the_right_person_counts() {
    let api = TestSandbox::new();
    let right = json!({"mfa-response": ["1234"]});
    let wrong = json!({"mfa-response": ["4321"]});
    let table = [
        ("in time", 5, right.clone(), 202, "success"),
        ("too early", 1, right.clone(), 400, "in-progress"),
        ("too late", 122, right.clone(), 400, "failed"),
        ("wrong", 5, wrong, 400, "failed"),
        (
            "too many",
            5,
            json!({"mfa-response": ["1", "2"]}),
            400,
            "in-progress",
        ),
        (
            "no list",
            5,
            json!({"mfa-response": "1234"}),
            400,
            "in-progress",
        ),
        ("nothing", 5, json!({}), 400, "in-progress"),
    ];
    for (case, seconds, answer, status, word) in table {
        let id = api.sandbox.seed_job(asking());
        let (client, server) = (api.token(Some("u")).await, api.token(None).await);
        api.pass(seconds);
        let line = format!("POST /jobs/{id}/mfa");
        let (answered, body) = api.call(&client, &line, Some(answer)).await;
        assert_eq!(answered, status, "{case}: {body}");
        api.pass(5);
        let (_, job) = api.call(&server, &format!("GET /jobs/{id}"), None).await;
        assert_eq!(job["steps"][1]["status"], word, "{case}");
        assert_eq!(api.sandbox.settled_at(&id).is_some(), word != "in-progress");
    }
    let id = api.sandbox.seed_job(asking());
    let server = api.token(None).await;
    let other = api.user(&server).await;
    let other = api.token(Some(&other)).await;
    api.pass(5);
    for token in [server, other] {
        let line = format!("POST /jobs/{id}/mfa");
        assert_eq!(api.call(&token, &line, Some(right.clone())).await.0, 403);
    }
}

#[tokio::test]
async fn seeded_documents_are_served_as_they_are() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let odd = json!({"steps": "none of your business"});
    api.sandbox.seed_document("odd", odd.clone());
    assert_eq!(api.call(&token, "GET /jobs/odd", None).await, (200, odd));
    api.sandbox.seed_document("odd", json!([]));
    assert_eq!(api.call(&token, "GET /jobs/odd", None).await.1, json!([]));
    api.sandbox.forget_job("odd");
    let (status, body) = api.call(&token, "GET /jobs/odd", None).await;
    assert_eq!((status, error(&body)), (404, "resource-not-found"));
    let (status, body) = api.call(&token, "GET /jobs/a%20b", None).await;
    assert_eq!((status, error(&body)), (400, "parameter-not-valid"));
}

#[tokio::test]
async fn a_seeded_job_has_a_connection_to_look_up() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let failure = StepFailure {
        code: Some("service-unavailable".to_owned()),
        ..StepFailure::default()
    };
    let step = ScriptStep::new(
        "verify-credentials",
        Duration::ZERO,
        StepEnd::Fails(Some(failure)),
    );
    let script = JobScript {
        institution_id: "AU00002".to_owned(),
        connection_id: Some("c".to_owned()),
        ..JobScript::new(vec![step])
    };
    let id = api.sandbox.seed_job(script);
    let (_, job) = api.call(&token, &format!("GET /jobs/{id}"), None).await;
    assert_eq!(job["steps"][0]["result"]["code"], "service-unavailable");
    let source = job["links"]["source"].as_str().unwrap();
    let path = source.strip_prefix("http://localhost").unwrap();
    let (status, connection) = api.call(&token, &format!("GET {path}"), None).await;
    assert_eq!(status, 200);
    assert_eq!(connection["institution"]["id"], "AU00002");
    assert_eq!(connection["status"], "pending");
}

#[tokio::test]
async fn an_outage_shows_at_the_connector_and_fails_new_jobs() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let line = "GET /connectors/AU00000/web";
    let (_, before) = api.call(&token, line, None).await;
    assert_eq!(before["status"], "operational");
    assert_eq!(before["stats"]["averageDurationMs"]["total"], 7300);
    api.sandbox
        .set_faults(vec!["outage=AU00000".parse().unwrap()]);
    let (_, during) = api.call(&token, line, None).await;
    assert_eq!(during["status"], "major-outage");
    let body = login("AU00000", "gavinBelson", "hooli2016");
    let (_, job) = api.connect(&token, &user, body).await;
    api.pass(10);
    let line = format!("GET /jobs/{}", job["id"].as_str().unwrap());
    let (_, job) = api.call(&token, &line, None).await;
    assert_eq!(job["steps"][0]["result"]["code"], "service-unavailable");
}

#[tokio::test]
async fn bad_calls_are_refused_in_basiqs_form() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let connect = format!("POST /users/{user}/connections");
    let not_found = [
        "GET /nowhere",
        "DELETE /users",
        "GET /users/nobody",
        "GET /connectors/AU99999/web",
        "GET /connectors/AU00000/csv",
    ];
    for line in not_found {
        let (status, body) = api.call(&token, line, None).await;
        assert_eq!(
            (status, error(&body)),
            (404, "resource-not-found"),
            "{line}"
        );
    }
    let (part, nowhere) = (json!({"loginId": "x"}), login("AU99999", "x", "y"));
    let (supplied, valid) = ("parameter-not-supplied", "parameter-not-valid");
    for (line, body, code) in [
        ("GET /connectors?filter=x", None, valid),
        ("POST /users", None, "request-not-valid"),
        ("POST /users", Some(json!([])), "request-not-valid"),
        ("POST /users", Some(json!({})), supplied),
        ("POST /users", Some(json!({"email": "x"})), valid),
        (&connect, Some(part), supplied),
        (&connect, Some(nowhere), valid),
    ] {
        let (status, body) = api.call(&token, line, body).await;
        assert_eq!((status, error(&body)), (400, code), "{line}");
    }
}
