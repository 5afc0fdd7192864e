//! Turns the state of a job into one outcome for a watch, as a pure function of its arguments.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{Action, Challenge, Operation, Outcome, Status, Verdict, WatchOptions};

use crate::normalise::{
    catalogue::{CodeEntry, FailureClass, code},
    find::{Finding, JobFailure},
    read::MFA_STEP,
    text::oauth_word,
    variant,
    verdict::{self, UNKNOWN_ERROR, failed, last},
};

/// The error code of an update that Basiq has queued because the bank did not serve it.
const SERVICE_UNAVAILABLE: &str = "service-unavailable";

/// The facts about a job that its document lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobFacts {
    /// Whether Basiq reports the bank's connector in major outage.
    pub major_outage: bool,
    /// How many jobs of this connection in a row found the bank unavailable, including this one. Updates are
    /// not counted.
    pub failures_in_a_row: u32,
    /// The start of the job's age: its creation time, or that of the watch if the former is unknown.
    pub started_at: Timestamp,
    /// When Basiq next retries a queued update, if known.
    pub next_retry_at: Option<Timestamp>,
}

/// The settings that affect the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JudgeSettings {
    /// How long a client should wait before it tries again at an unavailable bank.
    pub bank_retry_after: Duration,
    /// How often Basiq retries an update that found the bank unavailable.
    pub update_retry_interval: Duration,
    /// The age at which the relay gives up a job.
    pub job_max_age: Duration,
    /// The number of failures in a row from which the advice is to contact support.
    pub support_after_failures: u32,
}

impl JobFacts {
    /// Returns whether the job has exceeded the maximum age.
    fn is_too_old(&self, settings: &JudgeSettings, now: Timestamp) -> bool {
        self.started_at
            .checked_add(settings.job_max_age)
            .is_ok_and(|end| end <= now)
    }
}

/// Returns what a finding means at the time `now` for a watch with these options.
#[must_use]
pub fn judge(
    finding: &Finding,
    options: &WatchOptions,
    facts: &JobFacts,
    settings: &JudgeSettings,
    now: Timestamp,
) -> Outcome {
    let too_old = facts.is_too_old(settings, now);
    let is_update = options.operation == Some(Operation::Update);
    let verdict = match finding {
        // Between its retries, an update in Basiq's queue has no failed step.
        Finding::Running if too_old && is_update && facts.next_retry_at.is_some() => Verdict {
            error_code: Some(SERVICE_UNAVAILABLE.to_owned()),
            ..update_unavailable(too_old, facts, settings, now)
        },
        Finding::Running | Finding::Challenge(_) if too_old => verdict::watch_expired(),
        Finding::Running => return Outcome::Running,
        Finding::Challenge(challenge) => asks(challenge),
        Finding::Succeeded => succeeded(),
        Finding::Failed(failure) if finding.is_unavailable() => {
            let verdict = if is_update {
                update_unavailable(too_old, facts, settings, now)
            } else {
                bank_unavailable(failure, facts, settings, now)
            };
            of_failure(failure, verdict)
        }
        Finding::Failed(failure) => of_failure(failure, failure_verdict(failure, settings, now)),
    };
    Outcome::Tell(Box::new(verdict))
}

fn succeeded() -> Verdict {
    last(Status::Success, Action::None, "success")
}

fn asks(challenge: &Challenge) -> Verdict {
    Verdict {
        is_final: false,
        challenge: Some(challenge.clone()),
        ..last(Status::ActionRequired, Action::AnswerMfa, "answer-mfa")
    }
}

/// Adds the details of the failure. A code that is already set stays.
fn of_failure(failure: &JobFailure, verdict: Verdict) -> Verdict {
    let error_code = verdict.error_code.or_else(|| failure.code.clone());
    Verdict {
        failed_step: failure.step.clone(),
        error_code: error_code.or_else(|| Some(UNKNOWN_ERROR.to_owned())),
        detail: failure.detail.clone().or_else(|| failure.title.clone()),
        ..verdict
    }
}

/// Returns the verdict on an update at an unavailable bank. Basiq queues the update and retries it until the
/// job is too old.
fn update_unavailable(
    too_old: bool,
    facts: &JobFacts,
    settings: &JudgeSettings,
    now: Timestamp,
) -> Verdict {
    if too_old {
        return failed(Action::ContactSupport, "update-given-up");
    }
    let usual = || now.checked_add(settings.update_retry_interval).ok();
    Verdict {
        is_final: false,
        retry_at: facts.next_retry_at.or_else(usual),
        ..last(Status::Delayed, Action::Wait, "bank-delayed")
    }
}

fn bank_unavailable(
    failure: &JobFailure,
    facts: &JobFacts,
    settings: &JudgeSettings,
    now: Timestamp,
) -> Verdict {
    if facts.major_outage {
        return Verdict {
            is_final: false,
            ..failed(Action::WaitForBank, "bank-outage")
        };
    }
    if facts.failures_in_a_row >= settings.support_after_failures {
        return failed(Action::ContactSupport, "bank-unavailable-support");
    }
    let message = failure.code.as_deref().and_then(code);
    Verdict {
        retry_at: now.checked_add(settings.bank_retry_after).ok(),
        ..failed(
            Action::Retry,
            message.map_or("bank-unavailable", |code| code.message.as_str()),
        )
    }
}

/// Returns the verdict on any failure except an unavailable bank.
fn failure_verdict(failure: &JobFailure, settings: &JudgeSettings, now: Timestamp) -> Verdict {
    let step = failure.step.as_deref();
    let Some(entry) = known_code(failure) else {
        let is_mfa = failure.code.is_none() && step == Some(MFA_STEP);
        return if is_mfa {
            verdict::mfa_failed()
        } else {
            unknown(step)
        };
    };
    match entry.class {
        FailureClass::Unknown => unknown(step),
        FailureClass::Credentials => variant::credentials_verdict(failure, entry),
        FailureClass::RetryLater => Verdict {
            retry_at: now.checked_add(settings.bank_retry_after).ok(),
            ..by_class(entry)
        },
        FailureClass::BankLock
        | FailureClass::MfaUnsupported
        | FailureClass::BankAction
        | FailureClass::Consent
        | FailureClass::Unavailable
        | FailureClass::Statement
        | FailureClass::Request
        | FailureClass::Retry
        | FailureClass::Support => by_class(entry),
    }
}

/// Returns the entry of the failure's code. If the code is unknown, the entry of an OAuth error code in the
/// detail is used.
fn known_code(failure: &JobFailure) -> Option<&'static CodeEntry> {
    let entry = failure.code.as_deref().and_then(code);
    if entry.is_some_and(|code| code.class != FailureClass::Unknown) {
        return entry;
    }
    let word = failure.detail.as_deref().and_then(oauth_word);
    word.and_then(code).or(entry)
}

fn by_class(code: &CodeEntry) -> Verdict {
    failed(code.class.action(), &code.message)
}

/// Returns the verdict on an unknown or missing code. New credentials may help if `verify-credentials` failed, and
/// another attempt if a later step did.
fn unknown(step: Option<&str>) -> Verdict {
    if step == Some("verify-credentials") {
        failed(Action::ResubmitCredentials, "login-not-confirmed")
    } else {
        failed(Action::Retry, UNKNOWN_ERROR)
    }
}
