//! Reads a job document of any shape. Unexpected values are coerced, and nothing is refused.

mod ids;
mod result;

pub use self::ids::ids_of_link;
pub(crate) use self::ids::{consent_of_link, event_of_link};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use relay_domain::{JobSnapshot, Step, StepStatus};
use serde_json::{Map, Value};

use crate::{
    normalise::text::{MAX_WORD, canonical_word, clean},
    wire::JobDocument,
};

/// The maximum number of steps kept of a job. The longest known job has five.
const MAX_STEPS: usize = 64;
/// The maximum length of a URL, in bytes. A longer URL is dropped, because a shortened one leads elsewhere.
const MAX_URL: usize = 2048;
/// The title of the step in which the bank asks the person something.
pub(crate) const MFA_STEP: &str = "mfa-challenge";
/// The spelling of that title in one of Basiq's own examples.
const MFA_STEP_MISSPELT: &str = "mfa-challenege";

/// Reads a job document. The function is total: any JSON gives a snapshot of limited size.
///
/// A time before 2015 or after `now` counts as unknown.
#[must_use]
pub fn read_job(document: &JobDocument, now: Timestamp) -> JobSnapshot {
    let empty = Map::new();
    let job = document.0.as_object().unwrap_or(&empty);
    let steps = read_steps(job.get("steps"));
    warn_of_unknown_status(&steps);
    JobSnapshot {
        steps,
        status: job
            .get("status")
            .and_then(short_text)
            .map(|text| status(&text)),
        created: first_time(job, &["created", "createdDate"], now),
        updated: first_time(job, &["updated", "updatedDate"], now),
        context: ids::context(job),
    }
}

fn read_steps(steps: Option<&Value>) -> Vec<Step> {
    let Some(Value::Array(listed)) = steps else {
        return Vec::new();
    };
    let mut rest = listed.iter().map(read_step);
    let mut kept: Vec<Step> = rest.by_ref().take(MAX_STEPS - 1).collect();
    kept.extend(most_telling(rest));
    kept
}

/// Returns one step that stands for those beyond the limit. A failed step comes first, then one that is not
/// done, so that omitted steps never make a job look better.
fn most_telling(steps: impl Iterator<Item = Step>) -> Option<Step> {
    let rank = |step: &Step| match step.status {
        StepStatus::Failed => 2,
        StepStatus::Pending | StepStatus::InProgress | StepStatus::Unknown(_) => 1,
        StepStatus::Success | StepStatus::Skipped => 0,
    };
    steps.reduce(|best, next| {
        if rank(&next) > rank(&best) {
            next
        } else {
            best
        }
    })
}

fn read_step(value: &Value) -> Step {
    let title = title(value.get("title").and_then(short_text).unwrap_or_default());
    let status = value.get("status").and_then(short_text).map_or_else(
        || StepStatus::Unknown("none".to_owned()),
        |text| status(&text),
    );
    let result = result::object(value.get("result"));
    let failure = (status == StepStatus::Failed)
        .then(|| result::failure(value))
        .flatten();
    Step {
        challenge: result.and_then(|result| result::challenge(&title, result)),
        url: result.and_then(|result| url(result.get("url"))),
        title,
        status,
        failure,
    }
}

fn title(text: String) -> String {
    match canonical_word(&text).as_str() {
        MFA_STEP | MFA_STEP_MISSPELT => MFA_STEP.to_owned(),
        _ => text,
    }
}

fn status(text: &str) -> StepStatus {
    match canonical_word(text).as_str() {
        "pending" => StepStatus::Pending,
        "in-progress" => StepStatus::InProgress,
        "success" => StepStatus::Success,
        "failed" => StepStatus::Failed,
        "skipped" => StepStatus::Skipped,
        _ => StepStatus::Unknown(text.to_owned()),
    }
}

fn warn_of_unknown_status(steps: &[Step]) {
    let unknown = steps.iter().find_map(|step| {
        if let StepStatus::Unknown(word) = &step.status {
            return Some((step, word));
        }
        None
    });
    if let Some((step, word)) = unknown {
        tracing::warn!(
            step.title = step.title,
            step.status = word,
            "unknown status of a step: it is taken as running"
        );
    }
}

/// Reads a short text and cleans it. Numbers count as text. Returns `None` if nothing is left.
fn short_text(value: &Value) -> Option<String> {
    text_of(value, MAX_WORD)
}

/// Reads a text of at most `max` characters and cleans it. Of a list, the first item counts.
fn text_of(value: &Value, max: usize) -> Option<String> {
    let text = match value {
        Value::String(text) => clean(text, max),
        Value::Number(number) => number.to_string(),
        Value::Array(list) => match list.first()? {
            Value::String(text) => clean(text, max),
            _ => return None,
        },
        Value::Null | Value::Bool(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Reads a URL, absolute or relative, if it can be kept in full.
fn url(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?.trim();
    let fits = !text.is_empty() && text.len() <= MAX_URL && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

fn first_time(job: &Map<String, Value>, keys: &[&str], now: Timestamp) -> Option<Timestamp> {
    keys.iter()
        .filter_map(|key| job.get(*key)?.as_str().and_then(time))
        .find(|time| *time <= now)
}

/// The start of 2015, in seconds since 1970. No job of Basiq's is older. An earlier time, such as year 1 or
/// 1970, is a placeholder.
const EARLIEST: i64 = 1_420_070_400;

/// Parses a time in RFC 3339, or one without an offset as UTC. The result has whole milliseconds.
fn time(text: &str) -> Option<Timestamp> {
    if text.len() > MAX_WORD {
        return None;
    }
    let text = text.trim();
    let read = text.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    Timestamp::from_millisecond(read.as_millisecond())
        .ok()
        .filter(|time| time.as_second() >= EARLIEST)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> JobSnapshot {
        read_job(&JobDocument(value), "2026-11-23T09:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_document_without_steps_is_read_as_a_job_that_lists_none() {
        for odd in [
            json!(null),
            json!([]),
            json!("job"),
            json!({}),
            json!({"steps": null}),
            json!({"steps": {"title": "verify-credentials"}}),
            json!({"steps": "none"}),
        ] {
            assert_eq!(read(odd.clone()).steps, vec![], "{odd}");
        }
    }

    #[test]
    fn statuses_are_read_in_every_spelling() {
        for (written, status) in [
            ("in-progress", StepStatus::InProgress),
            ("In Progress", StepStatus::InProgress),
            ("in_progress", StepStatus::InProgress),
            ("SUCCESS", StepStatus::Success),
            ("skipped", StepStatus::Skipped),
            ("thinking", StepStatus::Unknown("thinking".to_owned())),
        ] {
            let job = read(json!({"status": written, "steps": [{"status": written}]}));
            assert_eq!(job.steps[0].status, status, "{written}");
            assert_eq!(job.status, Some(status), "{written}");
        }
        for odd in [json!({}), json!({"status": null}), json!(7), json!(null)] {
            let job = read(json!({"steps": [odd]}));
            assert!(matches!(job.steps[0].status, StepStatus::Unknown(_)));
        }
    }

    #[test]
    fn times_are_read_in_every_spelling_and_else_left_out() {
        let noon = "2024-03-21T12:00:00Z".parse::<Timestamp>().ok();
        for (written, expected) in [
            ("2024-03-21T12:00:00Z", noon),
            ("2024-03-21T12:00:00.000Z", noon),
            ("2024-03-21T12:00:00.000400Z", noon),
            ("2024-03-21T22:00:00+10:00", noon),
            ("2024-03-21t12:00:00z", noon),
            ("2024-03-21 12:00:00Z", noon),
            ("2024-03-21T12:00:00", noon),
            ("yesterday", None),
            ("0001-01-01T00:00:00Z", None),
            ("1970-01-01T00:00:00Z", None),
            ("2014-12-31T23:59:59Z", None),
            ("2026-11-23T09:00:01Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("", None),
        ] {
            assert_eq!(
                read(json!({"created": written})).created,
                expected,
                "{written}"
            );
            assert_eq!(
                read(json!({"updatedDate": written})).updated,
                expected,
                "{written}"
            );
        }
        for odd in ["soon", "0001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
            let both = json!({"created": odd, "createdDate": "2024-03-21T12:00:00Z"});
            assert_eq!(read(both).created, noon, "{odd}");
        }
        assert_eq!(read(json!({"created": 1_711_022_400})).created, None);
    }

    #[test]
    fn a_misspelt_challenge_step_counts_as_one() {
        let job = read(json!({"steps": [{"title": "mfa-challenege", "status": "skipped"}]}));
        assert_eq!(job.steps[0].title, MFA_STEP);
    }

    #[test]
    fn steps_beyond_the_limit_never_make_a_job_look_better() {
        for (last, kept) in [
            ("failed", StepStatus::Failed),
            ("pending", StepStatus::Pending),
        ] {
            let mut steps = vec![json!({"title": "t", "status": "success"}); 5000];
            steps.push(json!({"title": "t", "status": last}));
            steps.push(json!({"title": "t", "status": "success"}));
            let job = read(json!({"steps": steps}));
            assert_eq!(job.steps.len(), MAX_STEPS);
            assert_eq!(job.steps.last().unwrap().status, kept);
        }
    }

    #[test]
    fn a_megabyte_of_garbage_leaves_little_behind() {
        let long = "x ".repeat(500_000);
        let job = read(json!({"jobType": long, "status": long, "steps": [{
            "title": long, "status": "failed",
            "result": {"code": long, "title": long, "detail": long, "url": long,
                "type": "mfa", "description": long, "input": vec![long.clone(); 100]},
        }]}));
        assert!(format!("{job:?}").len() < 40_000);
    }
}
