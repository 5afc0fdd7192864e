//! Each course of a challenge, against the sandbox.

use basiq_sandbox::{JobScript, ScriptChallenge, StepEnd};
use serde_json::{Value, json};

use crate::{
    mfa::{LOOK, MFA, SECOND, asked, asking, last, respond, script},
    support::{TestApp, job},
};

const ASKS: &str = "action-required/answer-mfa";

#[tokio::test]
async fn an_answer_goes_through_the_relay_and_is_followed_by_a_look_at_once() {
    let mut app = TestApp::new().await;
    let job = app.sandbox.seed_job(asking());
    let watch = app.watch(&job).await;
    app.run_due().await;
    let story = app.story(&watch).await;
    let step = |story: &Value| story["steps"][1]["status"].clone();
    assert_eq!(
        (step(&story), &story["state"]),
        (json!("pending"), &json!("watching"))
    );

    app.pass(3 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS]);
    let challenge = last(&app)["challenge"].clone();
    assert_eq!(challenge["method"], "token");
    let to = challenge["respondTo"].as_str().unwrap();
    assert!(to.ends_with(&format!("/jobs/{job}/mfa")), "{to}");

    let looks = app.sandbox.calls().count(LOOK);
    let answer = respond(&app, &watch, &["1234"]).await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    assert_eq!(app.sandbox.calls().count(MFA), 1);
    app.run_due().await;
    assert_eq!(
        app.sandbox.calls().count(LOOK),
        looks + 1,
        "it is due at once"
    );
    let story = app.story(&watch).await;
    assert_eq!(
        (step(&story), &story["state"]),
        (json!("in-progress"), &json!("watching")),
        "answered: the step runs and its result is null"
    );
    assert_eq!(app.told_briefly(), [ASKS], "an answer is no event");
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, "success/none"]);
    assert_eq!(last(&app)["challenge"], Value::Null);
}

#[tokio::test]
async fn a_second_challenge_is_an_event_of_its_own_and_answered_by_itself() {
    let mut app = TestApp::new().await;
    let question = ScriptChallenge::questions(&[("Which pet?", &["Rex"]), ("Where?", &["Home"])]);
    let twice = ScriptChallenge::token().then(question);
    let job = app.sandbox.seed_job(script(StepEnd::Asks(twice)));
    let watch = app.watch(&job).await;
    app.pass(3 * SECOND, SECOND).await;
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 202);
    app.run_due().await;
    app.pass(2 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, ASKS]);
    let second = last(&app);
    assert_eq!(
        (&second["sequence"], &second["final"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(second["challenge"]["method"], "security-questions");
    assert_eq!(
        second["challenge"]["inputs"],
        json!(["Which pet?", "Where?"])
    );
    // No pause after the first answer delays this one.
    assert_eq!(respond(&app, &watch, &["Rex", "Home"]).await.status, 202);
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, ASKS, "success/none"]);
}

#[tokio::test]
async fn the_same_question_asked_again_is_told_again() {
    let mut app = TestApp::new().await;
    let twice = ScriptChallenge::token().then(ScriptChallenge::token());
    let job = app.sandbox.seed_job(script(StepEnd::Asks(twice)));
    let watch = app.watch(&job).await;
    app.pass(3 * SECOND, SECOND).await;
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 202);
    app.run_due().await;
    app.pass(2 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, ASKS]);
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 202);
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, ASKS, "success/none"]);
}

#[tokio::test]
async fn a_success_that_still_shows_the_old_challenge_is_a_success() {
    let mut app = TestApp::new().await;
    let job = app.sandbox.seed_job(JobScript {
        institution_id: "AU00004".to_owned(),
        ..asking()
    });
    let watch = app.watch(&job).await;
    app.pass(3 * SECOND, SECOND).await;
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 202);
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, "success/none"]);
    let url = format!("{}jobs/{job}", app.settings.basiq.url);
    let document = fetch(&app, &url).await;
    assert_eq!(document["steps"][1]["status"], "success");
    assert_eq!(document["steps"][1]["result"]["type"], "mfa");
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 409);
}

/// Fetches a document of the sandbox.
async fn fetch(app: &TestApp, url: &str) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let token = http
        .post(format!("{}token", app.settings.basiq.url))
        .header("authorization", "Basic any")
        .header("basiq-version", "3.0")
        .form(&[("scope", "SERVER_ACCESS")])
        .send();
    let token: Value = token.await.unwrap().json().await.unwrap();
    let asked = http
        .get(url)
        .bearer_auth(token["access_token"].as_str().unwrap())
        .send();
    asked.await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_challenge_that_is_not_needed_is_never_told() {
    let mut app = TestApp::new().await;
    let job = app.sandbox.seed_job(script(StepEnd::Skipped));
    let watch = app.watch(&job).await;
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), ["success/none"]);
    assert_eq!(app.story(&watch).await["steps"][1]["status"], "skipped");
}

#[tokio::test]
async fn a_challenge_nobody_answers_fails_the_job() {
    let mut app = TestApp::new().await;
    let watch = asked(&mut app).await;
    app.pass(125 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, "failed/retry"]);
    let event = last(&app);
    assert_eq!(
        (&event["errorCode"], &event["failedStep"], &event["final"]),
        (&json!("mfa-failed"), &json!("mfa-challenge"), &json!(true))
    );
    assert_eq!(app.story(&watch).await["state"], "settled");
}

#[tokio::test]
async fn a_challenge_of_a_failed_step_is_not_open() {
    let mut app = TestApp::new().await;
    let challenge = json!({ "type": "mfa", "method": "token", "input": ["Code"] });
    let failed = job("j-1", app.now(), &[("mfa-challenge", "failed", challenge)]);
    app.sandbox.seed_document("j-1", failed);
    let watch = app.watch("j-1").await;
    app.run_due().await;
    assert_eq!(app.told_briefly(), ["failed/retry"]);
    assert_eq!(last(&app)["errorCode"], "mfa-failed");
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 409);
}

#[tokio::test]
async fn a_restart_while_a_challenge_is_open_changes_nothing() {
    let mut app = TestApp::new().await;
    let watch = asked(&mut app).await;
    app.restart().await;
    app.run_due().await;
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 202);
    app.restart().await;
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, "success/none"]);
}

#[tokio::test]
async fn every_watch_of_the_job_may_answer_and_all_are_told() {
    let mut app = TestApp::new().await;
    let job = app.sandbox.seed_job(asking());
    app.watch(&job).await;
    let body = json!({ "jobId": job, "callbackUrl": app.callback("/second") });
    let second = app.post("/watch", &body).await.body["id"].clone();
    app.pass(3 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly(), [ASKS, ASKS]);
    let second = second.as_str().unwrap();
    assert_eq!(respond(&app, second, &["1234"]).await.status, 202);
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.told_briefly()[2..], ["success/none", "success/none"]);
}

#[tokio::test]
async fn a_look_without_a_document_leaves_a_watch_awaiting_the_person() {
    let mut app = TestApp::new().await;
    let job = app.sandbox.seed_job(asking());
    let watch = app.watch(&job).await;
    app.pass(3 * SECOND, SECOND).await;
    let looks = app.sandbox.calls().count(LOOK);
    app.sandbox.forget_job(&job);
    app.pass(4 * SECOND, SECOND).await;
    assert!(app.sandbox.calls().count(LOOK) > looks);
    assert_eq!(app.story(&watch).await["state"], "awaiting-user");
    assert_eq!(app.told_briefly(), [ASKS]);
}
