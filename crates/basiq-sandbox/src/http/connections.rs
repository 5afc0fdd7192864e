//! `/users/{userId}/connections`: connect a bank, refresh a connection, update its credentials.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Sandbox,
    bank::{ConnectionMethod, SandboxBank, find_bank},
    error::ApiError,
    http::{
        extract::{BaseUrl, JsonBody, ServerToken},
        filter::ListQuery,
    },
    login::BankLogin,
    script::Origin,
    state::{NewConnection, SandboxConnection, SandboxState, StartedJob},
    view::{date, institution, job_created},
};

type JobAnswer = Result<(StatusCode, Json<Value>), ApiError>;

/// Connects a bank with a login, by its website or, with the `method` `openbanking`, by open banking.
pub(super) async fn create(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
    body: JsonBody,
) -> JobAnswer {
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    let user = memory.user(&user_id)?.clone();
    let institution_id = body.required_text("institution.id")?;
    let login = BankLogin {
        id: body.required_text("loginId")?,
        password: body.required_text("password")?,
    };
    let unknown = || ApiError::not_valid("institution.id", "Institution does not exist.");
    let bank = find_bank(&institution_id).ok_or_else(unknown)?;
    let method = wanted_method(&body, bank)?;
    if let Some(running) = memory.being_made(&user, bank.id, method, &login, now) {
        return Ok(job_answer(&running, &base));
    }
    let connection = NewConnection {
        id: None,
        user_id: &user_id,
        institution_id: bank.id,
        method,
        login,
        told_status: "pending",
    };
    let id = memory.add_connection(connection, now);
    let started = memory.read_bank(&id, Origin::Create, None, now)?;
    Ok(job_answer(&started, &base))
}

fn wanted_method(body: &JsonBody, bank: &SandboxBank) -> Result<ConnectionMethod, ApiError> {
    let Some(text) = body.text("method")? else {
        return Ok(ConnectionMethod::Web);
    };
    ConnectionMethod::of_connector(&text)
        .filter(|method| bank.methods().contains(method))
        .ok_or_else(|| ApiError::not_valid("method", "The institution has no such connector."))
}

/// Gives a connection new credentials. A login id that is left out stays the same. This renews the consent: an
/// open banking connection is authorised again.
pub(super) async fn update(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path((user_id, id)): Path<(String, String)>,
    body: JsonBody,
) -> JobAnswer {
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    let connection = memory.connection(&user_id, &id)?;
    let (known, method) = (connection.login().clone(), connection.method);
    let login = BankLogin {
        id: body.text("loginId")?.unwrap_or(known.id),
        password: body.required_text("password")?,
    };
    if method == ConnectionMethod::OpenBanking || !memory.has_consent(&user_id) {
        memory.consent_again(&user_id, now);
    }
    let started = memory.read_bank(&id, Origin::Update, Some(login), now)?;
    Ok(job_answer(&started, &base))
}

/// Reads the bank again with the known credentials.
pub(super) async fn refresh(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path((user_id, id)): Path<(String, String)>,
) -> JobAnswer {
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    memory.connection(&user_id, &id)?;
    let started = memory.read_bank(&id, Origin::Refresh, None, now)?;
    Ok(job_answer(&started, &base))
}

/// Reads each of the user's banks again, with one job per connection.
pub(super) async fn refresh_all(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
) -> JobAnswer {
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    let user = memory.user(&user_id)?.clone();
    let live = memory.connections_of(&user).into_iter();
    let live = live.filter(|connection| connection.method.is_live());
    let ids: Vec<String> = live.map(|connection| connection.id.clone()).collect();
    let mut jobs = Vec::new();
    for id in ids {
        let started = memory.read_bank(&id, Origin::Refresh, None, now)?;
        jobs.push(job_created(&started.id, &base));
    }
    let body = json!({"type": "list", "data": jobs});
    Ok((StatusCode::ACCEPTED, Json(body)))
}

/// Returns a connection, with the status that its jobs gave it.
pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let memory = sandbox.memory();
    let connection = memory.connection(&user_id, &id)?;
    let mut document = view(&memory, connection, sandbox.now(), &base);
    if let Value::Object(fields) = &mut document {
        let method = connection.method.as_documented();
        fields.insert("method".to_owned(), json!(method));
    }
    Ok(Json(document))
}

/// Deletes a connection. Its data stays.
pub(super) async fn delete(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let now = sandbox.now();
    sandbox.memory().delete_connection(&user_id, &id, now)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the user's connections.
pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let now = sandbox.now();
    let filter = query.filter(&["connection.id", "institution.id", "connection.status"])?;
    let memory = sandbox.memory();
    let user = memory.user(&user_id)?;
    let data: Vec<_> = memory
        .connections_of(user)
        .into_iter()
        .filter(|c| {
            filter.lets("connection.id", &c.id)
                && filter.lets("institution.id", &c.institution_id)
                && filter.lets("connection.status", memory.gained(c, now).status)
        })
        .map(|connection| view(&memory, connection, now, &base))
        .collect();
    let own = format!("{base}/users/{user_id}/connections");
    let body = json!({"type": "list", "size": data.len(), "data": data, "links": {"self": own}});
    Ok(Json(body))
}

/// Answers 202 for a new job, and 200 for a job that was already queued or running.
pub(super) fn job_answer(started: &StartedJob, base: &str) -> (StatusCode, Json<Value>) {
    let status = if started.is_new {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    (status, Json(job_created(&started.id, base)))
}

fn view(
    memory: &SandboxState,
    connection: &SandboxConnection,
    now: Timestamp,
    base: &str,
) -> Value {
    let user = format!("{base}/users/{}", connection.user_id);
    let bank = &connection.institution_id;
    json!({
        "type": "connection",
        "id": connection.id,
        "method": connection.method.as_str(),
        "status": memory.gained(connection, now).status,
        "createdDate": date(connection.created),
        "expiryDate": expiry(memory, connection),
        "lastUsed": date(connection.last_used),
        "institution": institution(bank, base),
        "links": {
            "accounts": format!("{user}/accounts?filter=institution.id.eq('{bank}')"),
            "institution": format!("{base}/institutions/{bank}"),
            "self": format!("{user}/connections/{}", connection.id),
            "transactions": format!("{user}/transactions?filter=institution.id.eq('{bank}')"),
            "user": user,
        },
    })
}

/// Returns when a connection ends. Only an open banking connection has an end, that of the consent.
fn expiry(memory: &SandboxState, connection: &SandboxConnection) -> String {
    let consent = memory.latest_consent(&connection.user_id);
    consent
        .filter(|_| connection.method == ConnectionMethod::OpenBanking)
        .map(|consent| date(consent.expires()))
        .unwrap_or_default()
}
