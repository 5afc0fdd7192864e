//! Writes a job as a document in Basiq's form.

use jiff::Timestamp;
use relay_domain::StepFailure;
use serde_json::{Map, Value, json};

use crate::{
    bank::find_bank,
    life::{JobAtTime, ScriptedJob, StepState},
    script::{Origin, ScriptChallenge, ScriptStep, StepEnd},
};

/// The step that tries the login.
pub(super) const VERIFY: &str = "verify-credentials";
/// The step that asks the person a challenge.
pub(super) const MFA: &str = "mfa-challenge";
/// The step that reads accounts.
pub(super) const ACCOUNTS: &str = "retrieve-accounts";
/// The step that reads transactions.
pub(super) const TRANSACTIONS: &str = "retrieve-transactions";
/// The step that reads statements, at government banks only.
pub(super) const STATEMENTS: &str = "retrieve-statements";
/// The only step of a report.
pub(super) const REPORT: &str = "create-report";

/// Formats a time as Basiq does.
pub(super) fn date(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Returns the answer to a call that creates a job. It has no steps yet.
pub(super) fn job_created(id: &str, base: &str) -> Value {
    json!({"type": "job", "id": id, "links": {"self": format!("{base}/jobs/{id}")}})
}

/// Returns the job's document at `now`. Absolute links begin with `base`.
pub(super) fn job_view(job: &ScriptedJob, now: Timestamp, base: &str) -> Value {
    let seen = job.at(now);
    let mut document = Map::new();
    document.insert("type".to_owned(), json!("job"));
    document.insert("id".to_owned(), json!(job.id));
    document.insert("created".to_owned(), json!(date(job.created)));
    document.insert("updated".to_owned(), json!(date(seen.updated)));
    let is_report = job.script.origin == Origin::Report;
    let job_type = if is_report { "report" } else { "connection" };
    document.insert("jobType".to_owned(), json!(job_type));
    if is_report {
        document.insert("status".to_owned(), json!(overall(&seen)));
    }
    let steps = job.script.steps.iter().zip(&seen.steps).enumerate();
    let steps: Vec<Value> = steps
        .map(|(index, (step, &state))| {
            let result = result(job, index, step, state, base);
            json!({"title": step.title, "status": state.as_str(), "result": result})
        })
        .collect();
    document.insert("steps".to_owned(), Value::Array(steps));
    document.insert("links".to_owned(), links(job, &seen, now, base));
    Value::Object(document)
}

/// Returns the job as an item of a user's list, which also names the bank.
pub(super) fn job_list_item(job: &ScriptedJob, now: Timestamp, base: &str) -> Value {
    let mut item = job_view(job, now, base);
    if let Value::Object(fields) = &mut item {
        fields.insert(
            "institution".to_owned(),
            institution(&job.script.institution_id, base),
        );
    }
    item
}

/// Returns the bank in the form that jobs and connections use.
pub(super) fn institution(id: &str, base: &str) -> Value {
    let own = format!("{base}/institutions/{id}");
    json!({"type": "institution", "id": id, "links": {"self": own}})
}

fn overall(seen: &JobAtTime) -> &'static str {
    let done = |state: &StepState| matches!(state, StepState::Success | StepState::Skipped);
    if seen.steps.contains(&StepState::Failed) {
        "failed"
    } else if seen.steps.iter().all(done) {
        "success"
    } else if seen.steps.iter().all(|&s| s == StepState::Pending) {
        "pending"
    } else {
        "in-progress"
    }
}

fn links(job: &ScriptedJob, seen: &JobAtTime, now: Timestamp, base: &str) -> Value {
    let own = format!("{base}/jobs/{}", job.id);
    let connection = job
        .connection_id
        .as_ref()
        .map(|id| format!("{base}/users/{}/connections/{id}", job.user_id));
    let login_was_tried = !matches!(
        job.state_of(VERIFY, now),
        Some(StepState::Pending | StepState::InProgress)
    );
    let source = match job.script.origin {
        Origin::Report if seen.steps.contains(&StepState::Failed) => return Value::Null,
        Origin::Report => Some(format!("{base}/reports/{}", job.id)),
        Origin::Create => connection.filter(|_| login_was_tried),
        Origin::Update | Origin::Refresh => connection,
        Origin::Statement => None,
    };
    match source {
        Some(source) => json!({"self": own, "source": source}),
        None => json!({"self": own}),
    }
}

fn result(
    job: &ScriptedJob,
    index: usize,
    step: &ScriptStep,
    state: StepState,
    base: &str,
) -> Value {
    match (state, &step.end) {
        (StepState::Asking, StepEnd::Asks(first)) => {
            challenge_view(job, job.challenge_of(index, first), base)
        }
        // Basiq's document of a government bank still shows the challenge after it is answered.
        (StepState::Success, StepEnd::Asks(first)) if is_government(job) => {
            challenge_view(job, job.challenge_of(index, first), base)
        }
        (StepState::Failed, StepEnd::Fails(Some(failure))) => failure_view(failure),
        (StepState::Success, StepEnd::Succeeds | StepEnd::Fails(_)) => {
            match resource(job, &step.title) {
                Some(url) => json!({"type": "link", "url": url}),
                None => Value::Null,
            }
        }
        _ => Value::Null,
    }
}

fn is_government(job: &ScriptedJob) -> bool {
    find_bank(&job.script.institution_id).is_some_and(|bank| bank.kind == "Government")
}

fn challenge_view(job: &ScriptedJob, challenge: &ScriptChallenge, base: &str) -> Value {
    let window = job.scaled(challenge.window).as_millis();
    json!({
        "type": "mfa",
        "method": challenge.method,
        "description": challenge.description,
        "input": challenge.inputs,
        "expiryMs": u64::try_from(window).unwrap_or(u64::MAX),
        "links": {"response": format!("{base}/jobs/{}/mfa", job.id)},
    })
}

fn failure_view(failure: &StepFailure) -> Value {
    json!({"code": failure.code, "title": failure.title, "detail": failure.detail})
}

/// Returns the link to a successful step's result. It is relative, as in Basiq's own documents.
fn resource(job: &ScriptedJob, title: &str) -> Option<String> {
    let user = format!("/users/{}", job.user_id);
    let bank = &job.script.institution_id;
    match title {
        VERIFY => job
            .connection_id
            .as_ref()
            .map(|id| format!("{user}/connections/{id}")),
        ACCOUNTS => Some(format!(
            "{user}/accounts?filter=institution.id.eq('{bank}')"
        )),
        TRANSACTIONS => Some(format!(
            "{user}/transactions?filter=institution.id.eq('{bank}')"
        )),
        STATEMENTS => Some(format!("{user}/statements")),
        REPORT => Some(format!("/reports/{}", job.id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::script::JobScript;

    fn job(origin: Origin, steps: &[(&str, StepEnd)]) -> ScriptedJob {
        let step = |(title, end): &(&str, StepEnd)| {
            ScriptStep::new(title, Duration::from_secs(1), end.clone())
        };
        ScriptedJob {
            id: "j".to_owned(),
            user_id: "u".to_owned(),
            connection_id: (origin != Origin::Report).then(|| "c".to_owned()),
            created: at(0),
            speed: 1.0,
            script: JobScript {
                origin,
                ..JobScript::new(steps.iter().map(step).collect())
            },
            answers: BTreeMap::new(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_new_connection_is_linked_once_its_login_was_tried() {
        for (origin, before, after) in [
            (Origin::Create, false, true),
            (Origin::Refresh, true, true),
            (Origin::Update, true, true),
            (Origin::Statement, false, false),
        ] {
            let job = job(origin, &[(VERIFY, StepEnd::Fails(None))]);
            for (seconds, linked) in [(0, before), (1, after)] {
                let links = &job_view(&job, at(seconds), "http://s")["links"];
                assert_eq!(links["self"], "http://s/jobs/j");
                assert_eq!(links.get("source").is_some(), linked, "{origin:?}");
            }
        }
    }

    #[test]
    fn a_report_has_a_status_and_loses_its_links_when_it_fails() {
        let good = job(Origin::Report, &[(REPORT, StepEnd::Succeeds)]);
        let words = [(0, "in-progress"), (1, "success")];
        for (seconds, word) in words {
            let view = job_view(&good, at(seconds), "");
            assert_eq!(view["status"], word);
            assert_eq!(view["links"]["source"], "/reports/j");
        }
        let bad = job(Origin::Report, &[(REPORT, StepEnd::Fails(None))]);
        let view = job_view(&bad, at(1), "");
        assert_eq!(view["status"], "failed");
        assert_eq!(view["links"], Value::Null);
        assert_eq!(view["steps"][0]["result"], Value::Null);
    }

    #[test]
    fn a_challenge_tells_what_it_asks_and_where_the_answer_goes() {
        let ask = StepEnd::Asks(ScriptChallenge::token());
        let view = job_view(&job(Origin::Refresh, &[(MFA, ask)]), at(1), "http://s");
        let step = &view["steps"][0];
        assert_eq!(step["status"], "in-progress");
        assert_eq!(step["result"]["input"], json!(["OTP Password"]));
        assert_eq!(step["result"]["expiryMs"], 120_000);
        assert_eq!(step["result"]["links"]["response"], "http://s/jobs/j/mfa");
    }

    #[test]
    fn dates_are_written_to_the_millisecond() {
        assert_eq!(date(at(0)), "2027-01-15T08:00:00.000Z");
    }
}
