//! Every outcome of a job at a running relay: which events it sends, in which order, and how often it calls Basiq.

mod counts;
mod long;
mod short;

use std::{ops::RangeInclusive, time::Duration};

use basiq_sandbox::{Fault, JobScript, ScriptChallenge, ScriptRetries, ScriptStep, StepEnd};
use relay_domain::StepFailure;
use serde_json::{Value, json};

use crate::support::{TestApp, job};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const LOOK: &str = "GET /jobs/{jobId}";
const CONNECTOR: &str = "GET /connectors/{connectorId}/{method}";

/// Something that happens during a row.
enum Act {
    /// This time passes.
    Pass(Duration),
    /// The person answers the open challenge.
    Answer(&'static [&'static str]),
    /// From now on this fault occurs.
    Fault(&'static str),
    /// Basiq's document of the job gets these steps.
    Shows(Vec<(&'static str, &'static str, Value)>),
    /// Basiq forgets the job.
    Forgets,
}

/// One row: what happens to a job, and the expected events.
struct Row {
    name: &'static str,
    script: JobScript,
    options: Value,
    acts: Vec<Act>,
    /// The expected events: `sequence status/action errorCode failedStep`, with `!` at the end of a final one.
    told: &'static [&'static str],
    looks: RangeInclusive<u64>,
    max_age: Duration,
}

impl Row {
    fn new(name: &'static str, script: JobScript, acts: Vec<Act>) -> Self {
        Self {
            name,
            script,
            options: json!({}),
            acts,
            told: &[],
            looks: 1..=u64::MAX,
            max_age: 7 * DAY,
        }
    }

    fn options(self, options: Value) -> Self {
        Self { options, ..self }
    }

    fn tells(self, told: &'static [&'static str]) -> Self {
        Self { told, ..self }
    }

    fn looks(self, looks: RangeInclusive<u64>) -> Self {
        Self { looks, ..self }
    }

    /// Plays the row. If `restart_after` is set, restarts the relay after that number of acts.
    async fn play(self, restart_after: Option<usize>) {
        let name = self.name;
        let mut app = TestApp::builder()
            .settings(|settings| settings.tracking.job_max_age = self.max_age)
            .build()
            .await;
        let id = app.sandbox.seed_job(self.script);
        let watch = app.watch_with(&id, self.options).await;
        app.run_due().await;
        for (index, act) in self.acts.into_iter().enumerate() {
            if restart_after == Some(index) {
                app.restart().await;
            }
            match act {
                Act::Pass(total) => app.skip(total).await,
                Act::Answer(texts) => {
                    let path = format!("/watch/{watch}/mfa");
                    let answer = app.post(&path, &json!({ "response": texts })).await;
                    assert_eq!(answer.status, 202, "{name}: {}", answer.body);
                }
                Act::Fault(fault) => {
                    let faults = fault.split_terminator(' ');
                    let faults = faults.map(|fault| fault.parse::<Fault>().unwrap());
                    app.sandbox.set_faults(faults.collect());
                }
                Act::Shows(steps) => {
                    let document = job(&id, app.now(), &steps);
                    app.sandbox.seed_document(&id, document);
                }
                Act::Forgets => app.sandbox.forget_job(&id),
            }
        }
        assert_eq!(briefly(&app), self.told, "{name}");
        let looks = app.sandbox.calls().count(LOOK);
        assert!(self.looks.contains(&looks), "{name}: {looks} looks");
        app.leave_work();
    }
}

fn briefly(app: &TestApp) -> Vec<String> {
    let word = |event: &Value, name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let line = |event: Value| {
        let kind = word(&event, "type");
        assert_eq!(kind, format!("job.{}", word(&event, "status")));
        format!(
            "{} {}/{} {} {}{}",
            event["sequence"],
            word(&event, "status"),
            word(&event, "action"),
            word(&event, "errorCode"),
            word(&event, "failedStep"),
            if event["final"] == json!(true) {
                " !"
            } else {
                ""
            },
        )
    };
    app.told().into_iter().map(line).collect()
}

fn step(title: &str, takes: Duration, end: StepEnd) -> ScriptStep {
    ScriptStep::new(title, takes, end)
}

fn fails(code: &str, detail: &str) -> StepEnd {
    StepEnd::Fails(Some(StepFailure {
        code: Some(code.to_owned()),
        title: None,
        detail: Some(detail.to_owned()),
    }))
}

/// Returns a job that verifies for two seconds and reads accounts for three, with this end.
fn reads(end: StepEnd) -> JobScript {
    JobScript::new(vec![
        step("verify-credentials", 2 * SECOND, StepEnd::Succeeds),
        step("retrieve-accounts", 3 * SECOND, end),
        step("retrieve-transactions", 3 * SECOND, StepEnd::Succeeds),
    ])
}

fn verifies(end: StepEnd) -> JobScript {
    JobScript::new(vec![step("verify-credentials", 2 * SECOND, end)])
}

fn asks(challenge: ScriptChallenge) -> JobScript {
    JobScript::new(vec![
        step("verify-credentials", 2 * SECOND, StepEnd::Succeeds),
        step("mfa-challenge", SECOND, StepEnd::Asks(challenge)),
        step("retrieve-accounts", 3 * SECOND, StepEnd::Succeeds),
    ])
}

/// Returns an update that meets an unavailable bank and succeeds at this retry of Basiq.
fn update(succeeds_on: Option<u32>) -> JobScript {
    JobScript {
        retries: Some(ScriptRetries {
            interval: 2 * HOUR,
            succeeds_on,
        }),
        ..reads(fails("service-unavailable", "try later"))
    }
}

const UNAVAILABLE: &str = "service-unavailable";
