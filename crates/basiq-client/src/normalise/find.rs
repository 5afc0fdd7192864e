//! Derives the state of a job from its steps.

use relay_domain::{Challenge, JobSnapshot, Step, StepStatus};

use crate::normalise::{
    catalogue::{FailureClass, class_of},
    read::MFA_STEP,
    text::{canonical_code, canonical_word},
};

/// The state of a job according to its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The job has not settled.
    Running,
    /// The job is paused until the person answers.
    Challenge(Challenge),
    /// All steps that the watch waits for are done.
    Succeeded,
    /// A step failed, or Basiq reports that the whole job failed.
    Failed(JobFailure),
}

/// How a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFailure {
    /// The title of the first failed step. `None` if Basiq reports only that the job failed.
    pub step: Option<String>,
    /// Basiq's code in its canonical spelling, at most 128 characters.
    pub code: Option<String>,
    /// Basiq's title of the failure.
    pub title: Option<String>,
    /// The bank's own text, cleaned and at most 1,000 characters.
    pub detail: Option<String>,
}

impl Finding {
    /// Returns whether the bank, or Basiq's connector to it, could not serve the job. This covers
    /// `service-unavailable` and the codes that are treated the same.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.error_code()
            .is_some_and(|code| class_of(code) == Some(FailureClass::Unavailable))
    }

    /// Returns Basiq's code of the failure, if the job failed with one.
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        match self {
            Self::Failed(failure) => failure.code.as_deref(),
            Self::Running | Self::Challenge(_) | Self::Succeeded => None,
        }
    }
}

/// Returns the state of a job for a watch. The watch waits for the step `until`, or for the whole job if that
/// is `None`.
///
/// The top-level status is used only as a tie-breaker. `failed` is trusted, and `success` settles a job that
/// lists no steps.
#[must_use]
pub fn find(snapshot: &JobSnapshot, until: Option<&str>) -> Finding {
    let steps = &snapshot.steps;
    let enough = until.and_then(|title| steps_until(steps, title));
    if enough.is_some_and(all_done) {
        return Finding::Succeeded;
    }
    if let Some(failed) = steps.iter().find(|step| step.status == StepStatus::Failed) {
        return Finding::Failed(failure(failed));
    }
    if snapshot.status == Some(StepStatus::Failed) {
        return Finding::Failed(JobFailure::default());
    }
    if let Some(challenge) = steps.iter().find_map(open_challenge) {
        return Finding::Challenge(challenge.clone());
    }
    let settled = if steps.is_empty() {
        snapshot.status == Some(StepStatus::Success)
    } else {
        all_done(steps)
    };
    if settled {
        Finding::Succeeded
    } else {
        Finding::Running
    }
}

/// Returns whether Basiq asks the person something, or may do so soon. This needs a challenge step that is
/// pending or in progress. The job must not have settled or begun a later step.
#[must_use]
pub fn expects_challenge(snapshot: &JobSnapshot) -> bool {
    let open = match find(snapshot, None) {
        Finding::Running | Finding::Challenge(_) => true,
        Finding::Succeeded | Finding::Failed(_) => false,
    };
    let mut from_challenge = snapshot
        .steps
        .iter()
        .skip_while(|step| !(is_challenge(step) && is_waiting(step)));
    open && from_challenge.next().is_some()
        && from_challenge.all(|later| is_challenge(later) || !has_begun(later))
}

/// Returns the `url`s of the successful steps, in order.
#[must_use]
pub fn resources(snapshot: &JobSnapshot) -> Vec<String> {
    snapshot
        .steps
        .iter()
        .filter(|step| step.status == StepStatus::Success)
        .filter_map(|step| step.url.clone())
        .collect()
}

/// Returns the steps up to and including the one with this title. Returns `None` if the job has no such step.
fn steps_until<'a>(steps: &'a [Step], title: &str) -> Option<&'a [Step]> {
    let title = canonical_word(title);
    let last = steps
        .iter()
        .rposition(|step| canonical_word(&step.title) == title)?;
    steps.get(..=last)
}

fn all_done(steps: &[Step]) -> bool {
    steps.iter().all(|step| step.status.is_done())
}

fn open_challenge(step: &Step) -> Option<&Challenge> {
    step.challenge
        .as_ref()
        .filter(|_| step.status == StepStatus::InProgress)
}

fn is_challenge(step: &Step) -> bool {
    step.title == MFA_STEP
}

fn is_waiting(step: &Step) -> bool {
    matches!(step.status, StepStatus::Pending | StepStatus::InProgress)
}

fn has_begun(step: &Step) -> bool {
    !matches!(step.status, StepStatus::Pending | StepStatus::Unknown(_))
}

fn failure(step: &Step) -> JobFailure {
    let reported = step.failure.clone().unwrap_or_default();
    JobFailure {
        step: (!step.title.is_empty()).then(|| step.title.clone()),
        // Basiq's list of codes includes `success`. On a failed step it has no meaning.
        code: reported
            .code
            .and_then(|code| canonical_code(&code))
            .filter(|code| code != "success"),
        title: reported.title,
        detail: reported.detail,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::{normalise::read_job, wire::JobDocument};

    /// Builds a job from a short form such as `verify-credentials:success mfa-challenge:pending`.
    fn job(steps: &str) -> Value {
        let steps: Vec<Value> = steps
            .split_whitespace()
            .map(|step| {
                let (title, status) = step.split_once(':').unwrap();
                let result = match status {
                    "asks" => json!({"type": "mfa", "method": "token"}),
                    _ => Value::Null,
                };
                let status = if status == "asks" {
                    "in-progress"
                } else {
                    status
                };
                json!({"title": title, "status": status, "result": result})
            })
            .collect();
        json!({"steps": steps})
    }

    fn word(value: Value, until: Option<&str>) -> String {
        match find(&read_job(&JobDocument(value), Timestamp::MAX), until) {
            Finding::Running => "running".to_owned(),
            Finding::Challenge(_) => "challenge".to_owned(),
            Finding::Succeeded => "succeeded".to_owned(),
            Finding::Failed(failure) => format!("failed {}", failure.step.unwrap_or_default()),
        }
    }

    #[test]
    fn the_state_is_derived_from_the_steps() {
        for (steps, expected) in [
            ("", "running"),
            ("a:pending", "running"),
            ("a:success b:in-progress c:pending", "running"),
            ("a:failed b:pending c:pending", "failed a"),
            ("a:success b:failed c:failed", "failed b"),
            ("a:success mfa-challenge:asks c:pending", "challenge"),
            ("a:success mfa-challenge:in-progress c:pending", "running"),
            ("a:success mfa-challenge:asks c:failed", "failed c"),
            ("a:success mfa-challenge:skipped c:success", "succeeded"),
            ("a:success b:success", "succeeded"),
            ("a:success b:thinking", "running"),
        ] {
            assert_eq!(word(job(steps), None), expected, "{steps}");
        }
    }

    #[test]
    fn the_top_level_status_only_breaks_ties() {
        for (status, steps, expected) in [
            ("failed", "a:pending", "failed "),
            ("failed", "a:success", "failed "),
            ("failed", "", "failed "),
            ("failed", "mfa-challenge:asks", "failed "),
            ("success", "", "succeeded"),
            ("success", "a:success b:pending", "running"),
            ("success", "a:failed", "failed a"),
            ("in-progress", "a:success", "succeeded"),
            ("in-progress", "", "running"),
            ("dreaming", "a:success", "succeeded"),
        ] {
            let mut document = job(steps);
            document["status"] = json!(status);
            assert_eq!(word(document, None), expected, "{status} {steps}");
        }
    }

    #[test]
    fn a_watch_may_wait_for_a_part_of_the_job() {
        for (steps, until, expected) in [
            ("a:success b:success c:pending", "b", "succeeded"),
            ("a:success b:skipped c:pending", "B", "succeeded"),
            ("a:success b:in-progress c:pending", "b", "running"),
            ("a:success b:success c:failed", "b", "succeeded"),
            ("a:success b:failed c:pending", "b", "failed b"),
            ("a:success b:pending c:failed", "b", "failed c"),
            ("a:success b:success c:pending", "nowhere", "running"),
            ("a:success b:success c:failed", "nowhere", "failed c"),
            ("a:success mfa-challenge:asks b:pending", "a", "succeeded"),
            ("", "a", "running"),
        ] {
            assert_eq!(
                word(job(steps), Some(until)),
                expected,
                "{steps} until {until}"
            );
        }
    }

    #[test]
    fn a_challenge_is_expected_until_the_job_is_past_it() {
        for (steps, expected) in [
            ("a:in-progress mfa-challenge:pending c:pending", true),
            ("a:success mfa-challenge:in-progress c:pending", true),
            ("a:success mfa-challenge:asks c:pending", true),
            ("a:success mfa-challenge:success c:pending", false),
            ("a:success mfa-challenge:skipped c:pending", false),
            ("a:failed mfa-challenge:pending c:pending", false),
            ("a:success mfa-challenge:pending c:in-progress", false),
            ("a:in-progress c:pending", false),
            ("", false),
        ] {
            let snapshot = read_job(&JobDocument(job(steps)), Timestamp::MAX);
            assert_eq!(expects_challenge(&snapshot), expected, "{steps}");
        }
    }
}
