//! `/jobs/{jobId}`, its challenge, and a user's jobs.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use relay_domain::{JobId, clock::later};
use serde_json::{Value, json};

use crate::{
    Sandbox,
    error::ApiError,
    http::{
        extract::{BaseUrl, ClientToken, JsonBody, ServerToken},
        filter::ListQuery,
    },
    life::{ScriptedJob, scaled},
    state::StoredJob,
    view::{job_created, job_list_item, job_view},
};

/// How long a job stays in the list of its user's jobs.
const LISTED: Duration = Duration::from_hours(7 * 24);

/// Returns the present state of a job.
pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(job_id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    check_id(&job_id)?;
    match sandbox.memory().jobs.get(&job_id) {
        Some(StoredJob::Life(job)) => Ok(Json(job_view(job, sandbox.now(), &base))),
        Some(StoredJob::Document(document)) => Ok(Json(document.clone())),
        None => Err(unknown()),
    }
}

/// Accepts the answer to a job's challenge.
pub(super) async fn answer(
    State(sandbox): State<Sandbox>,
    ClientToken(user_id): ClientToken,
    BaseUrl(base): BaseUrl,
    Path(job_id): Path<String>,
    body: JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    check_id(&job_id)?;
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    match memory.jobs.get(&job_id) {
        Some(StoredJob::Life(job)) if job.user_id != user_id => {
            let detail = "Access to this resource is forbidden. The job is another user's.";
            return Err(ApiError::forbidden(detail));
        }
        Some(_) => {}
        None => return Err(unknown()),
    }
    let given = answers(&body)?;
    memory.answer(&job_id, &given, now)?;
    Ok((StatusCode::ACCEPTED, Json(job_created(&job_id, &base))))
}

/// Lists the user's jobs of the last seven days, newest first.
pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let now = sandbox.now();
    let filter = query.filter(&["connection.id"])?;
    let listed = scaled(LISTED, sandbox.speed());
    let memory = sandbox.memory();
    memory.user(&user_id)?;
    let wanted = |job: &&ScriptedJob| {
        job.user_id == user_id
            && later(job.created, listed) > now
            && filter.lets("connection.id", job.connection_id.as_deref().unwrap_or(""))
    };
    let lives = memory.jobs.values().filter_map(|stored| match stored {
        StoredJob::Life(job) => Some(&**job),
        StoredJob::Document(_) => None,
    });
    let mut data: Vec<_> = lives
        .filter(wanted)
        .map(|job| job_list_item(job, now, &base))
        .collect();
    data.reverse();
    let own = format!("{base}/users/{user_id}/jobs");
    let body = json!({"type": "list", "size": data.len(), "data": data, "links": {"self": own}});
    Ok(Json(body))
}

fn check_id(id: &str) -> Result<(), ApiError> {
    let misfit = |_| ApiError::not_valid("jobId", "Job ID value is not valid.");
    id.parse::<JobId>().map(|_| ()).map_err(misfit)
}

fn unknown() -> ApiError {
    ApiError::not_found("Requested job does not exist.")
}

fn answers(body: &JsonBody) -> Result<Vec<String>, ApiError> {
    let name = "mfa-response";
    let misfit = || ApiError::not_valid(name, "mfa-response must be a list of texts.");
    let given = body.get(name).ok_or_else(|| ApiError::not_supplied(name))?;
    let given = given.as_array().ok_or_else(misfit)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    given
        .iter()
        .map(text)
        .collect::<Option<_>>()
        .ok_or_else(misfit)
}
