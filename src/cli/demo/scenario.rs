//! The scenarios: who connects which bank, what the person does, and which events the relay must deliver.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cli::demo::{report::ArrivedEvent, stage::DemoStage};

/// One scenario: a person connects a bank.
#[derive(Debug)]
pub(super) struct DemoScenario {
    /// A short description.
    pub(super) title: &'static str,
    /// A part of the callback's path; each scenario has its own.
    pub(super) slug: &'static str,
    /// A documented test user of Basiq's sandbox: login and password.
    pub(super) login: (&'static str, &'static str),
    /// A documented test bank.
    pub(super) bank: &'static str,
    /// What the backend does after the first job ended.
    pub(super) flow: DemoFlow,
    /// The person's answer to a challenge, if the person answers.
    pub(super) answer: Option<&'static str>,
    /// Whether the callback fails twice before it accepts.
    pub(super) flaky: bool,
    /// The expected events, in order.
    pub(super) expected: &'static [Expected],
    /// The number of attempts that the last event must take.
    pub(super) attempts: usize,
}

/// What a backend does after its first job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DemoFlow {
    /// The backend does nothing more.
    Once,
    /// The event asks for new credentials, and the backend sends the right ones.
    Resubmits,
    /// The backend sends new credentials while the bank is unavailable.
    Updates,
    /// The event says to try again, and the backend refreshes after each failure.
    TriesThreeTimes,
    /// The backend waits for the bank, whose outage ends after the first event.
    WaitsForBank,
    /// The backend subscribes to the person. Basiq refreshes the connection by itself, and nobody learns the job's id.
    Subscribes,
}

/// The expected fields of one event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) status: &'static str,
    pub(super) error_code: Option<&'static str>,
    pub(super) action: &'static str,
    pub(super) is_final: bool,
}

const fn tells(
    status: &'static str,
    error_code: Option<&'static str>,
    action: &'static str,
    is_final: bool,
) -> Expected {
    Expected {
        status,
        error_code,
        action,
        is_final,
    }
}

const SUCCESS: Expected = tells("success", None, "none", true);
const CHALLENGE: Expected = tells("action-required", None, "answer-mfa", false);
const UNAVAILABLE: Option<&str> = Some("service-unavailable");
const RETRY: Expected = tells("failed", UNAVAILABLE, "retry", true);

/// Every documented scenario.
pub(super) const SCENARIOS: &[DemoScenario] = &[
    DemoScenario {
        title: "a wrong password, corrected",
        slug: "invalid-credentials",
        login: ("gavinBelson", "hooli2015"),
        bank: "AU00000",
        flow: DemoFlow::Resubmits,
        answer: None,
        flaky: false,
        expected: &[
            tells(
                "failed",
                Some("invalid-credentials"),
                "resubmit-credentials",
                true,
            ),
            SUCCESS,
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "all goes well",
        slug: "success",
        login: ("gavinBelson", "hooli2016"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[SUCCESS],
        attempts: 1,
    },
    DemoScenario {
        title: "the account is locked",
        slug: "locked",
        login: ("bighead", "password"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[tells(
            "failed",
            Some("invalid-credentials"),
            "resolve-at-bank",
            true,
        )],
        attempts: 1,
    },
    DemoScenario {
        title: "the bank needs the person",
        slug: "action-at-bank",
        login: ("erlich", "aviato"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[tells(
            "failed",
            Some("account-not-accessible-requires-user-action"),
            "resolve-at-bank",
            true,
        )],
        attempts: 1,
    },
    DemoScenario {
        title: "the bank is unavailable",
        slug: "unavailable",
        login: ("jianYang", "nothotdog"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[RETRY],
        attempts: 1,
    },
    DemoScenario {
        title: "a challenge, answered",
        slug: "mfa-answered",
        login: ("jared", "django"),
        bank: "AU00002",
        flow: DemoFlow::Once,
        answer: Some("1234"),
        flaky: false,
        expected: &[CHALLENGE, SUCCESS],
        attempts: 1,
    },
    DemoScenario {
        title: "a challenge, left to expire",
        slug: "mfa-expired",
        login: ("richard", "tabsnotspaces"),
        bank: "AU00002",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[
            CHALLENGE,
            tells("failed", Some("mfa-failed"), "retry", true),
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "a receiver that fails twice",
        slug: "flaky-receiver",
        login: ("Gilfoyle", "PiedPiper"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: true,
        expected: &[SUCCESS],
        attempts: 3,
    },
    DemoScenario {
        title: "an update that Basiq retries",
        slug: "update",
        login: ("Whistler", "ShowBox"),
        bank: "AU00000",
        flow: DemoFlow::Updates,
        answer: None,
        flaky: false,
        expected: &[
            SUCCESS,
            tells("delayed", UNAVAILABLE, "wait", false),
            SUCCESS,
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "the third failure in a row",
        slug: "third-failure",
        login: UNLUCKY,
        bank: "AU00000",
        flow: DemoFlow::TriesThreeTimes,
        answer: None,
        flaky: false,
        expected: &[
            RETRY,
            RETRY,
            tells("failed", UNAVAILABLE, "contact-support", true),
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "a bank that is down for all",
        slug: "outage",
        login: ("gavinBelson", "hooli2016"),
        bank: BANK_THAT_IS_OUT,
        flow: DemoFlow::WaitsForBank,
        answer: None,
        flaky: false,
        expected: &[tells("failed", UNAVAILABLE, "wait-for-bank", false), RETRY],
        attempts: 1,
    },
    DemoScenario {
        title: "a nightly refresh that fails",
        slug: "night",
        login: ("monica", "raviga"),
        bank: "AU00000",
        flow: DemoFlow::Subscribes,
        answer: None,
        flaky: false,
        expected: &[
            SUCCESS,
            tells(
                "failed",
                Some("invalid-credentials"),
                "resubmit-credentials",
                true,
            ),
        ],
        attempts: 1,
    },
];

/// A documented test user with the right password.
const RIGHT: (&str, &str) = ("gavinBelson", "hooli2016");

/// The documented test user whose bank is never available.
const UNLUCKY: (&str, &str) = ("jianYang", "nothotdog");

/// The bank that is in a major outage when the demo begins.
pub(super) const BANK_THAT_IS_OUT: &str = "AU00004";

/// What happens in a scenario after a job has ended.
#[derive(Debug)]
enum NextStep {
    /// The backend starts another job, by this operation, and watches it.
    Watch(String, Option<&'static str>),
    /// Basiq starts another job by itself.
    Wait,
    /// Nothing more.
    End,
}

/// The maximum time from receiving the last attempt until the relay has recorded it.
const RECORD_PATIENCE: Duration = Duration::from_secs(3);

/// Plays a scenario until its final event. Returns the events that the callback accepted, in order.
pub(super) async fn play(
    scenario: &'static DemoScenario,
    stage: &DemoStage,
    told: &mpsc::Sender<ArrivedEvent>,
) -> Result<Vec<Value>> {
    let person = stage.basiq.create_user(scenario.slug).await?;
    let job_id = stage
        .basiq
        .connect_bank(&person, scenario.login, scenario.bank)
        .await?;
    let mut events = stage.events_of(scenario.slug);
    match scenario.flow {
        DemoFlow::Subscribes => stage.subscribe(scenario, &person).await?,
        _ => stage.watch(scenario, &job_id, None).await?,
    }
    let mut accepted = Vec::new();
    let watch_id = loop {
        let received = events.recv().await.context("the receiver stopped")?;
        if received.verified != Some(true) {
            bail!("an event came whose signature is not valid");
        }
        let telling = ArrivedEvent {
            at: received.at,
            scenario,
            answered: received.status_answered,
            body: received.body,
        };
        let body = telling.body.clone();
        told.send(telling).await.context("nobody prints")?;
        if !(200..300).contains(&received.status_answered) {
            continue;
        }
        let watch_id = body.get("watchId").and_then(Value::as_str);
        let watch_id = watch_id.context("the event names no watch")?.to_owned();
        react(scenario, stage, &watch_id, &body).await?;
        let is_final = body.get("final") == Some(&Value::Bool(true));
        accepted.push(body);
        if !is_final {
            continue;
        }
        match next_job(scenario, stage, &person, &accepted).await? {
            NextStep::Watch(job_id, operation) => {
                stage.watch(scenario, &job_id, operation).await?;
            }
            NextStep::Wait => {}
            NextStep::End => break watch_id,
        }
    };
    check_attempts(scenario, stage, &watch_id).await?;
    Ok(accepted)
}

/// Does what the person or the bank does after an event.
async fn react(
    scenario: &DemoScenario,
    stage: &DemoStage,
    watch_id: &str,
    event: &Value,
) -> Result<()> {
    match event.get("action").and_then(Value::as_str) {
        Some("answer-mfa") => match scenario.answer {
            Some(answer) => stage.answer(watch_id, answer).await,
            None => Ok(()),
        },
        Some("wait-for-bank") => {
            stage.end_outage();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Starts the next job of the scenario, if the backend starts one. Returns what happens next.
async fn next_job(
    scenario: &DemoScenario,
    stage: &DemoStage,
    person: &str,
    told: &[Value],
) -> Result<NextStep> {
    let connection = told
        .last()
        .and_then(|event| event.pointer("/context/connectionId"))
        .and_then(Value::as_str);
    let connection = || connection.context("the event does not tell its connection");
    Ok(match (scenario.flow, told.len()) {
        (DemoFlow::Resubmits, 1) => {
            let job = stage.basiq.update(person, connection()?, RIGHT).await?;
            NextStep::Watch(job, Some("update"))
        }
        (DemoFlow::Updates, 1) => {
            let job = stage.basiq.update(person, connection()?, UNLUCKY).await?;
            NextStep::Watch(job, Some("update"))
        }
        (DemoFlow::TriesThreeTimes, 1 | 2) => {
            let job = stage.basiq.refresh(person, connection()?).await?;
            NextStep::Watch(job, Some("refresh"))
        }
        (DemoFlow::Subscribes, 1) => NextStep::Wait,
        _ => NextStep::End,
    })
}

/// Checks that the relay has recorded the expected number of attempts for the last event.
async fn check_attempts(scenario: &DemoScenario, stage: &DemoStage, watch_id: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + RECORD_PATIENCE;
    loop {
        let (status, attempts) = stage.last_delivery(watch_id).await?;
        if status == "delivered" && attempts == scenario.attempts {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "its last event is {status} after {attempts} attempts, not delivered after {}",
                scenario.attempts
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
