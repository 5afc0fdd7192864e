//! Tests of the sandbox's answers to right and wrong calls, on a clock that the test moves.

use std::time::Duration;

use axum::{body::Body, http::Request};
use serde_json::json;

use crate::{
    domain::StepFailure,
    sandbox::{
        JobScript, SandboxOptions, ScriptChallenge, ScriptStep, StepEnd,
        http::desk::{TestSandbox, error, login},
    },
};

#[tokio::test]
async fn a_token_needs_a_key_and_a_version() {
    let desk = TestSandbox::with(SandboxOptions {
        api_key: Some("right".into()),
        ..SandboxOptions::default()
    });
    let (key, version) = ("authorization", "basiq-version");
    let good = [(key, "Basic right"), (version, "3.0")];
    assert_eq!(desk.ask_token(&good, "scope=SERVER_ACCESS").await.0, 200);
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
        let (answered, body) = desk.ask_token(&sent, "scope=SERVER_ACCESS").await;
        assert_eq!((answered, error(&body)), (status, code), "{sent:?}");
    }
    for (form, code) in [
        ("scope=ALL", "parameter-not-valid"),
        ("scope=CLIENT_ACCESS", "parameter-not-supplied"),
        ("scope=CLIENT_ACCESS&userId=nobody", "parameter-not-valid"),
    ] {
        let (status, body) = desk.ask_token(&good, form).await;
        assert_eq!((status, error(&body)), (400, code), "{form}");
    }
}

#[tokio::test]
async fn a_token_opens_what_its_scope_says_for_an_hour() {
    let desk = TestSandbox::new();
    let server = desk.token(None).await;
    let user = desk.user(&server).await;
    let client = desk.token(Some(&user)).await;
    let line = format!("GET /users/{user}");
    assert_eq!(desk.call(&server, &line, None).await.0, 200);
    let (status, body) = desk.call(&client, &line, None).await;
    assert_eq!((status, error(&body)), (403, "forbidden-access"));
    let (status, body) = desk.call("made-up", &line, None).await;
    assert_eq!((status, error(&body)), (401, "invalid-authorization-token"));
    let bare = Request::get("/connectors").body(Body::empty()).unwrap();
    let (status, body) = desk.send(bare).await;
    assert_eq!((status, error(&body)), (401, "unauthorized-access"));
    desk.pass(3600);
    let (status, body) = desk.call(&server, &line, None).await;
    assert_eq!((status, error(&body)), (403, "access-denied"));
    assert_eq!(body["data"][0]["detail"], "Token has expired");
}

#[tokio::test]
async fn what_is_asked_for_twice_is_the_same_job() {
    let desk = TestSandbox::new();
    let token = desk.token(None).await;
    let user = desk.user(&token).await;
    let body = login("AU00000", "gavinBelson", "hooli2016");
    let (first, job) = desk.connect(&token, &user, body.clone()).await;
    let (again, same) = desk.connect(&token, &user, body).await;
    assert_eq!((first, again), (202, 200));
    assert_eq!(job, same);
    desk.pass(10);
    let list = format!("GET /users/{user}/connections");
    let (_, connections) = desk.call(&token, &list, None).await;
    assert_eq!(connections["size"], 1);
    let connection = connections["data"][0]["id"].as_str().unwrap();
    let refresh = format!("POST /users/{user}/connections/{connection}/refresh");
    let (first, job) = desk.call(&token, &refresh, None).await;
    let (again, same) = desk.call(&token, &refresh, None).await;
    assert_eq!((first, again), (202, 200));
    assert_eq!(job, same);
    let all = format!("POST /users/{user}/connections/refresh");
    let (status, jobs) = desk.call(&token, &all, None).await;
    assert_eq!((status, &jobs["data"][0]), (202, &job));
    desk.pass(10);
    let (status, other) = desk.call(&token, &refresh, None).await;
    assert_eq!(status, 202);
    assert_ne!(other["id"], job["id"]);
}

#[tokio::test]
async fn new_credentials_mend_a_connection() {
    let desk = TestSandbox::new();
    let token = desk.token(None).await;
    let user = desk.user(&token).await;
    let body = login("AU00000", "bighead", "password");
    let (_, job) = desk.connect(&token, &user, body).await;
    let job = format!("GET /jobs/{}", job["id"].as_str().unwrap());
    let (_, running) = desk.call(&token, &job, None).await;
    assert!(running["links"].get("source").is_none());
    desk.pass(10);
    let (_, failed) = desk.call(&token, &job, None).await;
    assert_eq!(failed["steps"][0]["result"]["detail"], "Account is locked");
    assert_eq!(failed["steps"][1]["status"], "pending");
    let source = failed["links"]["source"].as_str().unwrap();
    let path = source.strip_prefix("http://localhost").unwrap();
    let status = async || {
        let (_, body) = desk.call(&token, &format!("GET {path}"), None).await;
        body["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status().await, "invalid");
    let mended = json!({"loginId": "jared", "password": "django"});
    let update = format!("POST {path}");
    assert_eq!(desk.call(&token, &update, Some(mended)).await.0, 202);
    assert_eq!(status().await, "invalid");
    desk.pass(10);
    assert_eq!(status().await, "active");
}

#[tokio::test]
async fn nucleus_bank_asks_every_other_time() {
    let desk = TestSandbox::new();
    let token = desk.token(None).await;
    let user = desk.user(&token).await;
    let mut words = Vec::new();
    for name in ["jared", "richard", "jared", "richard"] {
        let password = if name == "jared" {
            "django"
        } else {
            "tabsnotspaces"
        };
        let (_, job) = desk
            .connect(&token, &user, login("AU00003", name, password))
            .await;
        desk.pass(10);
        let line = format!("GET /jobs/{}", job["id"].as_str().unwrap());
        let (_, document) = desk.call(&token, &line, None).await;
        words.push(document["steps"][1]["status"].as_str().unwrap().to_owned());
        desk.pass(200);
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
    let desk = TestSandbox::new();
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
        let id = desk.sandbox.seed_job(asking());
        let (client, server) = (desk.token(Some("u")).await, desk.token(None).await);
        desk.pass(seconds);
        let line = format!("POST /jobs/{id}/mfa");
        let (answered, body) = desk.call(&client, &line, Some(answer)).await;
        assert_eq!(answered, status, "{case}: {body}");
        desk.pass(5);
        let (_, job) = desk.call(&server, &format!("GET /jobs/{id}"), None).await;
        assert_eq!(job["steps"][1]["status"], word, "{case}");
        assert_eq!(
            desk.sandbox.settled_at(&id).is_some(),
            word != "in-progress"
        );
    }
    let id = desk.sandbox.seed_job(asking());
    let server = desk.token(None).await;
    let other = desk.user(&server).await;
    let other = desk.token(Some(&other)).await;
    desk.pass(5);
    for token in [server, other] {
        let line = format!("POST /jobs/{id}/mfa");
        assert_eq!(desk.call(&token, &line, Some(right.clone())).await.0, 403);
    }
}

#[tokio::test]
async fn seeded_documents_are_served_as_they_are() {
    let desk = TestSandbox::new();
    let token = desk.token(None).await;
    let odd = json!({"steps": "none of your business"});
    desk.sandbox.seed_document("odd", odd.clone());
    assert_eq!(desk.call(&token, "GET /jobs/odd", None).await, (200, odd));
    desk.sandbox.seed_document("odd", json!([]));
    assert_eq!(desk.call(&token, "GET /jobs/odd", None).await.1, json!([]));
    desk.sandbox.forget_job("odd");
    let (status, body) = desk.call(&token, "GET /jobs/odd", None).await;
    assert_eq!((status, error(&body)), (404, "resource-not-found"));
    let (status, body) = desk.call(&token, "GET /jobs/a%20b", None).await;
    assert_eq!((status, error(&body)), (400, "parameter-not-valid"));
}

#[tokio::test]
async fn a_seeded_job_has_a_connection_to_look_up() {
    let desk = TestSandbox::new();
    let token = desk.token(None).await;
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
    let id = desk.sandbox.seed_job(script);
    let (_, job) = desk.call(&token, &format!("GET /jobs/{id}"), None).await;
    assert_eq!(job["steps"][0]["result"]["code"], "service-unavailable");
    let source = job["links"]["source"].as_str().unwrap();
    let path = source.strip_prefix("http://localhost").unwrap();
    let (status, connection) = desk.call(&token, &format!("GET {path}"), None).await;
    assert_eq!(status, 200);
    assert_eq!(connection["institution"]["id"], "AU00002");
    assert_eq!(connection["status"], "pending");
}

#[tokio::test]
async fn an_outage_shows_at_the_connector_and_fails_new_jobs() {
    let desk = TestSandbox::new();
    let token = desk.token(None).await;
    let user = desk.user(&token).await;
    let line = "GET /connectors/AU00000/web";
    let (_, before) = desk.call(&token, line, None).await;
    assert_eq!(before["status"], "operational");
    assert_eq!(before["stats"]["averageDurationMs"]["total"], 7300);
    desk.sandbox
        .set_faults(vec!["outage=AU00000".parse().unwrap()]);
    let (_, during) = desk.call(&token, line, None).await;
    assert_eq!(during["status"], "major-outage");
    let body = login("AU00000", "gavinBelson", "hooli2016");
    let (_, job) = desk.connect(&token, &user, body).await;
    desk.pass(10);
    let line = format!("GET /jobs/{}", job["id"].as_str().unwrap());
    let (_, job) = desk.call(&token, &line, None).await;
    assert_eq!(job["steps"][0]["result"]["code"], "service-unavailable");
}

#[tokio::test]
async fn bad_calls_are_refused_in_basiqs_form() {
    let desk = TestSandbox::new();
    let token = desk.token(None).await;
    let user = desk.user(&token).await;
    let connect = format!("POST /users/{user}/connections");
    let not_found = [
        "GET /nowhere",
        "DELETE /users",
        "GET /users/nobody",
        "GET /connectors/AU99999/web",
        "GET /connectors/AU00000/csv",
    ];
    for line in not_found {
        let (status, body) = desk.call(&token, line, None).await;
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
        let (status, body) = desk.call(&token, line, body).await;
        assert_eq!((status, error(&body)), (400, code), "{line}");
    }
}
