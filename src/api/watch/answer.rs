//! `POST /watch/{watchId}/mfa`: passes the person's answer to Basiq.

use std::time::Duration;

use axum::extract::State;
use basiq_client::{AnswerError, BasiqError};
use http::StatusCode;
use relay_domain::{ErrorChain, JobId, MfaAnswer, WatchId, clock::later};
use relay_store::{AnswerClaim, AnswerEnd};
use serde::Serialize;
use serde_json::Value;
use tracing::{info, warn};
use utoipa::openapi::{Array, ArrayBuilder, ObjectBuilder, schema::Type};

use crate::{
    api::{
        ApiParts, ApiState, examples,
        watch::{NO_SUCH_WATCH, TAG},
    },
    web::{
        AuthenticatedClient, BodyFields, FieldCode, PathId, Problem, ProblemCode, RawObject,
        SecretObject,
    },
};

const FIELDS: &[&str] = &["response"];

/// The lifetime of a claim to answer. The claim ends after this time even if its end could not be stored.
const CLAIM: Duration = Duration::from_secs(10);

/// How long a second answer to the same challenge is rejected after Basiq accepted one. The time ends early if the
/// job moves on.
const HOLD: Duration = Duration::from_secs(5);

/// Seconds after which an answer that was not taken may be sent again, unless Basiq asks for more.
const RETRY_SECONDS: u64 = 2;

/// The problems of this call in addition to those of every call.
pub(in crate::api) const ANSWER_PROBLEMS: &[ProblemCode] = &[
    ProblemCode::NoOpenChallenge,
    ProblemCode::BeingAnswered,
    ProblemCode::UserUnknown,
    ProblemCode::MfaRefused,
    ProblemCode::UpstreamFailed,
    ProblemCode::UpstreamUnavailable,
];

/// The person's answer to an open challenge.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MfaAnswer)]
pub(crate) struct MfaAnswerBody {
    /// One text of 1 to 256 characters for each of the challenge's `inputs`, in their order.
    #[schema(schema_with = response_schema)]
    pub response: Vec<String>,
}

fn response_schema() -> Array {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(256));
    ArrayBuilder::new()
        .items(text)
        .min_items(Some(1))
        .max_items(Some(10))
        .description(Some(
            "One text of 1 to 256 characters for each of the challenge's `inputs`, in their order.",
        ))
        .build()
}

/// Answer an open challenge
///
/// Passes the person's answer to Basiq, so that a frontend needs no access to Basiq. The answer is neither stored
/// nor logged. A 202 response means that Basiq accepted the answer. The next event reports the result of the job.
/// The relay never sends an answer twice if it may have reached Basiq. After `upstream-failed`, read the watch
/// before you send the answer again.
#[utoipa::path(
    post,
    path = "/watch/{watchId}/mfa",
    operation_id = "answerChallenge",
    tag = TAG,
    params(("watchId" = String, Path, description = "The watch", example = json!(examples::WATCH_ID))),
    request_body(content = MfaAnswerBody, description = "The person's answers",
        example = json!(examples::mfa_answer())),
    responses((status = 202, description = "Basiq accepted the answer")),
    security(("apiKey" = [])),
)]
pub(super) async fn answer_challenge(
    State(state): State<ApiState>,
    AuthenticatedClient(client): AuthenticatedClient,
    PathId(id): PathId<WatchId>,
    SecretObject(body): SecretObject,
) -> Result<StatusCode, Problem> {
    let parts = &state.parts;
    let answer = parse(body)?;
    let now = parts.clock.now();
    let until = later(now, CLAIM);
    let claim = parts.store.claim_answer(client.id, id, now, until);
    match claim.await? {
        AnswerClaim::Claimed { job_id, user_id } => {
            let passed = parts.basiq.answer_challenge(&job_id, &user_id, &answer);
            let result = passed.await;
            conclude(parts, &job_id, &result).await;
            tell(id, &job_id, result)
        }
        AnswerClaim::NoSuchWatch => Err(Problem::not_found(NO_SUCH_WATCH)),
        AnswerClaim::NoOpenChallenge => Err(no_open_challenge()),
        AnswerClaim::Answering => Err(being_answered()),
        AnswerClaim::UserUnknown => Err(user_unknown()),
    }
}

/// Ends the claim. If the answer may have changed the job, the relay looks at the job at once.
async fn conclude(parts: &ApiParts, job_id: &JobId, result: &Result<(), AnswerError>) {
    let now = parts.clock.now();
    let end = AnswerEnd {
        held_until: result.is_ok().then(|| later(now, HOLD)),
        look_at: (!matches!(result, Err(AnswerError::NotTaken(_)))).then_some(now),
    };
    match parts.store.end_answer(job_id, end).await {
        Ok(()) if end.look_at.is_some() => parts.tracker_wake.notify(),
        Ok(()) => {}
        // The claim expires by itself and the job is looked at often. So the caller still gets Basiq's response.
        Err(error) => {
            warn!(job.id = %job_id, error = %ErrorChain(&error), "the end of an answer is not stored");
        }
    }
}

fn tell(
    id: WatchId,
    job_id: &JobId,
    result: Result<(), AnswerError>,
) -> Result<StatusCode, Problem> {
    match result {
        Ok(()) => {
            info!(watch.id = %id, job.id = %job_id, "an answer was passed on");
            Ok(StatusCode::ACCEPTED)
        }
        Err(error) => {
            warn!(watch.id = %id, job.id = %job_id, %error, "an answer was not accepted");
            Err(problem_of(error))
        }
    }
}

/// Parses an answer, or returns all its faults. No message repeats a value.
fn parse(object: RawObject) -> Result<MfaAnswer, Problem> {
    let mut fields = BodyFields::new(object);
    let texts = texts(&mut fields);
    fields.finish(FIELDS)?;
    texts
        .and_then(MfaAnswer::new)
        .ok_or_else(|| Problem::internal("an answer is missing although no fault was found"))
}

fn texts(fields: &mut BodyFields) -> Option<Vec<String>> {
    let most = MfaAnswer::MOST_TEXTS;
    let Some(given) = fields.optional("response") else {
        let message = "`response` is required";
        fields.fault("response", FieldCode::Required, message.to_owned());
        return None;
    };
    let Value::Array(list) = given else {
        let message = "`response` must be a list of strings";
        fields.fault("response", FieldCode::WrongType, message.to_owned());
        return None;
    };
    if list.is_empty() || list.len() > most {
        let code = if list.is_empty() {
            FieldCode::InvalidValue
        } else {
            FieldCode::TooLong
        };
        let message = format!(
            "`response` must have 1 to {most} texts; it has {}",
            list.len()
        );
        fields.fault("response", code, message);
        return None;
    }
    let texts = list.into_iter().enumerate();
    let texts: Vec<_> = texts
        .filter_map(|(index, value)| text(fields, &format!("response/{index}"), value))
        .collect();
    Some(texts)
}

fn text(fields: &mut BodyFields, place: &str, value: Value) -> Option<String> {
    let Value::String(text) = value else {
        let message = format!("`{place}` must be a string");
        fields.fault(place, FieldCode::WrongType, message);
        return None;
    };
    if MfaAnswer::is_text(&text) {
        return Some(text);
    }
    let code = if text.is_empty() {
        FieldCode::InvalidValue
    } else {
        FieldCode::TooLong
    };
    let longest = MfaAnswer::LONGEST_TEXT;
    let message = format!("`{place}` must have 1 to {longest} characters");
    fields.fault(place, code, message);
    None
}

fn no_open_challenge() -> Problem {
    Problem::new(
        ProblemCode::NoOpenChallenge,
        "The job asks nothing now, or the watch has ended.",
    )
}

fn being_answered() -> Problem {
    Problem::new(
        ProblemCode::BeingAnswered,
        "An answer to this challenge is on its way or was just taken; wait for the next event.",
    )
}

fn user_unknown() -> Problem {
    Problem::new(
        ProblemCode::UserUnknown,
        "Basiq does not tell whose job this is; send the answer to `challenge.respondTo`.",
    )
}

fn problem_of(error: AnswerError) -> Problem {
    match error {
        AnswerError::Refused {
            code,
            correlation_id,
            ..
        } => {
            let detail = "It was wrong or too late; the next event tells what becomes of the job.";
            Problem::new(ProblemCode::MfaRefused, detail)
                .member("basiqCode", code)
                .member("correlationId", correlation_id)
        }
        AnswerError::NotTaken(error) => not_taken(&error),
        AnswerError::Unknown(_) => Problem::new(
            ProblemCode::UpstreamFailed,
            "The answer may have been taken or not; read the watch before it is sent again.",
        ),
    }
}

fn not_taken(error: &BasiqError) -> Problem {
    match error {
        BasiqError::Throttled { retry_after, .. } => unavailable(retry_after.unwrap_or_default()),
        BasiqError::Resting { remaining } => unavailable(*remaining),
        BasiqError::KeyRefused
        | BasiqError::TimedOut
        | BasiqError::NoResources(_)
        | BasiqError::Unreachable(_)
        | BasiqError::Unreadable(_)
        | BasiqError::Status { status: 500.., .. } => unavailable(Duration::ZERO),
        BasiqError::NotFound { .. } | BasiqError::Forbidden { .. } | BasiqError::Status { .. } => {
            Problem::new(
                ProblemCode::UpstreamFailed,
                "Basiq does not let the relay answer for this person; the answer was not taken.",
            )
        }
    }
}

fn unavailable(wait: Duration) -> Problem {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Problem::new(
        ProblemCode::UpstreamUnavailable,
        "The answer was not taken and may be sent again.",
    )
    .retry_after(whole.max(RETRY_SECONDS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<MfaAnswer, Problem> {
        let Value::Object(object) = value else {
            panic!("not an object")
        };
        parse(object.into())
    }

    #[test]
    fn each_fault_is_told_by_its_place_and_none_repeats_what_was_given() {
        use FieldCode::{InvalidValue, Required, TooLong, UnknownField, WrongType};
        let long = "s3cret".repeat(43);
        for (body, faults) in [
            (json!({}), vec![("/response", Required)]),
            (json!({"response": null}), vec![("/response", Required)]),
            (
                json!({"response": "s3cret"}),
                vec![("/response", WrongType)],
            ),
            (json!({"response": []}), vec![("/response", InvalidValue)]),
            (
                json!({"response": vec!["s3cret"; 11]}),
                vec![("/response", TooLong)],
            ),
            (
                json!({"response": ["", 7, long, "s3cret"], "x": "s3cret"}),
                vec![
                    ("/response/0", InvalidValue),
                    ("/response/1", WrongType),
                    ("/response/2", TooLong),
                    ("/x", UnknownField),
                ],
            ),
        ] {
            let problem = read(body.clone()).unwrap_err();
            let told: Vec<_> = problem
                .errors()
                .iter()
                .map(|fault| (fault.pointer.as_str(), fault.code))
                .collect();
            assert_eq!(told, faults, "{body}");
            assert!(!format!("{problem:?}").contains("s3cret"), "{problem:?}");
        }
        let whole = read(examples::mfa_answer()).unwrap();
        assert_eq!(whole.expose().collect::<Vec<_>>(), ["1234"]);
    }

    #[test]
    fn each_way_to_fail_has_its_problem() {
        let status = |status| BasiqError::Status {
            status,
            code: None,
            correlation_id: None,
        };
        let throttled = BasiqError::Throttled {
            status: 429,
            retry_after: Some(Duration::from_millis(6500)),
        };
        for (error, code) in [
            (
                AnswerError::NotTaken(throttled),
                ProblemCode::UpstreamUnavailable,
            ),
            (
                AnswerError::NotTaken(BasiqError::KeyRefused),
                ProblemCode::UpstreamUnavailable,
            ),
            (
                AnswerError::NotTaken(status(503)),
                ProblemCode::UpstreamUnavailable,
            ),
            (
                AnswerError::NotTaken(status(400)),
                ProblemCode::UpstreamFailed,
            ),
            (
                AnswerError::Unknown(BasiqError::TimedOut),
                ProblemCode::UpstreamFailed,
            ),
            (
                AnswerError::Refused {
                    status: 400,
                    code: None,
                    correlation_id: None,
                },
                ProblemCode::MfaRefused,
            ),
        ] {
            let shown = error.to_string();
            assert_eq!(problem_of(error).code(), code, "{shown}");
        }
    }
}
