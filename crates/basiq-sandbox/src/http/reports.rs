//! `/reports` and the upload of statements.

use std::{path::Path as StdPath, time::Duration};

use axum::{
    Json,
    extract::{Multipart, Path, State, multipart::MultipartError},
    http::StatusCode,
};
use serde_json::{Value, json};

use crate::{
    Sandbox,
    bank::{self, ConnectionMethod, QUEUED, UploadResult},
    error::ApiError,
    http::{
        connections::job_answer,
        extract::{BaseUrl, JsonBody, ServerToken},
    },
    life::{ScriptedJob, StepState},
    login::BankLogin,
    plan,
    script::{JobScript, Origin, ScriptStep, StepEnd},
    state::{NewConnection, SandboxState, StoredJob},
    view::{REPORT, date},
};

/// How long a report takes at speed 1.
const REPORT_TAKES: Duration = Duration::from_secs(5);

/// Creates a report on a user. Without a connection whose accounts were read, the report's job fails.
pub(super) async fn create(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    body: JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    body.required_text("reportType")?;
    let user_id = user_of(&body).ok_or_else(|| ApiError::not_supplied("filters"))?;
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    let user = memory.user(&user_id)?;
    let connections = memory.sources_of(user);
    let has_data = |c| memory.gained(c, now).accounts;
    let end = if connections.into_iter().any(has_data) {
        StepEnd::Succeeds
    } else {
        StepEnd::Fails(None)
    };
    let step = ScriptStep::new(REPORT, REPORT_TAKES, end);
    let script = JobScript {
        origin: Origin::Report,
        user_id: Some(user_id),
        ..JobScript::new(vec![step])
    };
    Ok(job_answer(&memory.start(script, now), &base))
}

/// Returns a finished report.
pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let now = sandbox.now();
    let is_done = |job: &&ScriptedJob| job.state_of(REPORT, now) == Some(StepState::Success);
    let memory = sandbox.memory();
    let job = life(&memory, &id).filter(is_done);
    let job = job.ok_or_else(|| ApiError::not_found("Report does not exist."))?;
    Ok(Json(json!({
        "type": "report",
        "id": id,
        "createdDate": date(job.created),
        "createdBy": job.user_id,
        "data": [],
        "links": {"self": format!("{base}/reports/{id}")},
    })))
}

/// Accepts a bank statement. The result depends on the bank.
pub(super) async fn upload(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
    form: Multipart,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    sandbox.memory().user(&user_id)?;
    let (institution_id, method) = read_form(form).await?;
    let unknown = || ApiError::not_valid("institutionId", "Institution does not exist.");
    let bank = bank::find_bank(&institution_id).ok_or_else(unknown)?;
    if bank.upload == UploadResult::Refused {
        return Err(ApiError::bank_not_supported());
    }
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    let connection = NewConnection {
        id: None,
        user_id: &user_id,
        institution_id: bank.id,
        method,
        login: BankLogin {
            id: String::new(),
            password: String::new(),
        },
        told_status: "pending",
    };
    let connection_id = memory.add_connection(connection, now);
    let script = JobScript {
        origin: Origin::Statement,
        user_id: Some(user_id),
        connection_id: Some(connection_id),
        institution_id,
        queued: QUEUED,
        retries: None,
        steps: plan::read_statement(bank.upload),
    };
    Ok(job_answer(&memory.start(script, now), &base))
}

fn life<'a>(memory: &'a SandboxState, id: &str) -> Option<&'a ScriptedJob> {
    match memory.jobs.get(id)? {
        StoredJob::Life(job) => Some(job),
        StoredJob::Document(_) => None,
    }
}

/// Returns the first user that the filters name.
fn user_of(body: &JsonBody) -> Option<String> {
    let filters = body.get("filters")?.as_array()?;
    let users = filters.iter().find(|filter| {
        let name = filter.get("name").and_then(Value::as_str);
        matches!(name, Some("users" | "userId" | "report.users"))
    })?;
    let value = users.get("value")?;
    let first = value.as_array().map_or(Some(value), |list| list.first())?;
    first.as_str().map(str::to_owned)
}

/// Reads the bank and the method of an upload.
async fn read_form(mut form: Multipart) -> Result<(String, ConnectionMethod), ApiError> {
    let bad = |error: MultipartError| ApiError::bad_file(&error.body_text());
    let (mut institution_id, mut method) = (None, None);
    while let Some(field) = form.next_field().await.map_err(bad)? {
        match field.name() {
            Some("institutionId") => institution_id = Some(field.text().await.map_err(bad)?),
            Some("statement") => {
                let name = StdPath::new(field.file_name().unwrap_or_default());
                let is_csv = name
                    .extension()
                    .is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
                if field.bytes().await.map_err(bad)?.is_empty() {
                    return Err(ApiError::bad_file("The file is empty."));
                }
                method = Some(if is_csv {
                    ConnectionMethod::Csv
                } else {
                    ConnectionMethod::Pdf
                });
            }
            _ => {}
        }
    }
    let missing = ApiError::not_supplied;
    Ok((
        institution_id.ok_or_else(|| missing("institutionId"))?,
        method.ok_or_else(|| missing("statement"))?,
    ))
}
