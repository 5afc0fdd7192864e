//! Challenges: their events, and answers that the relay passes on.

mod lifecycle;
mod refusals;
mod secrecy;

use std::time::Duration;

use basiq_sandbox::{JobScript, ScriptChallenge, ScriptStep, StepEnd};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

const SECOND: Duration = Duration::from_secs(1);
const MFA: &str = "POST /jobs/{jobId}/mfa";
const LOOK: &str = "GET /jobs/{jobId}";

/// Returns a script: the login takes a second, `mfa-challenge` ends like this, and reading accounts takes a second.
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

/// Registers a watch of a sandbox job, and looks until the job asks for a code.
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

/// Returns the status and the last part of a problem's type.
fn problem(answer: &Answer) -> (u16, &str) {
    let kind = answer.body["type"].as_str().unwrap_or_default();
    let kind = kind.strip_prefix("/problems/").unwrap_or(kind);
    (answer.status, kind)
}

fn last(app: &TestApp) -> Value {
    app.told().pop().unwrap()
}
