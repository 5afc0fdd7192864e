//! Challenges: what is told of them, and how they are answered through the relay.

mod lifecycle;
mod refusals;
mod secrecy;

use std::time::Duration;

use basiq_relay::sandbox::{JobScript, ScriptChallenge, ScriptStep, StepEnd};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

const SECOND: Duration = Duration::from_secs(1);
const MFA: &str = "POST /jobs/{jobId}/mfa";
const LOOK: &str = "GET /jobs/{jobId}";

/// A job that tries the login for a second, then does this at its `mfa-challenge`, then reads
/// accounts for a second.
fn script(end: StepEnd) -> JobScript {
    let step = |title: &str, end| ScriptStep::new(title, SECOND, end);
    JobScript::new(vec![
        step("verify-credentials", StepEnd::Succeeds),
        ScriptStep::new("mfa-challenge", Duration::ZERO, end),
        step("retrieve-accounts", StepEnd::Succeeds),
    ])
}

fn asking() -> JobScript {
    script(StepEnd::Asks(ScriptChallenge::token()))
}

/// A watch of a job of the sandbox that has just been seen to ask for a code.
async fn asked(app: &mut TestApp) -> String {
    let job = app.sandbox.seed_job(asking());
    let watch = app.watch(&job).await;
    app.pass(3 * SECOND, SECOND).await;
    assert_eq!(app.story(&watch).await["state"], "awaiting-user");
    watch
}

async fn respond(app: &TestApp, watch: &str, texts: &[&str]) -> Answer {
    let body = json!({ "response": texts });
    app.post(&format!("/watch/{watch}/mfa"), &body).await
}

/// The status and the last part of a problem's type.
fn problem(answer: &Answer) -> (u16, &str) {
    let kind = answer.body["type"].as_str().unwrap_or_default();
    let kind = kind.strip_prefix("/problems/").unwrap_or(kind);
    (answer.status, kind)
}

fn last(app: &TestApp) -> Value {
    app.told().pop().unwrap()
}
