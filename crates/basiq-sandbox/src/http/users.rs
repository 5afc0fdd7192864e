//! `/users`.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Map, Value, json};

use crate::{
    Sandbox,
    error::ApiError,
    http::{
        data::accounts_of,
        extract::{BaseUrl, JsonBody, ServerToken},
    },
    state::{SandboxUser, new_id},
};

/// The fields of a person that are stored.
const PROFILE: &[&str] = &[
    "email",
    "mobile",
    "firstName",
    "middleName",
    "lastName",
    "businessName",
    "businessIdNo",
    "businessIdNoType",
    "businessAddress",
];

/// Creates a user. An email address or a mobile number is required.
pub(super) async fn create(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    body: JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let given = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
    if !given("email") && !given("mobile") {
        return Err(ApiError::not_supplied("email"));
    }
    let (profile, now) = (profile(body)?, sandbox.now());
    let user = sandbox.memory().add_user(&new_id(), profile, now);
    Ok((
        StatusCode::CREATED,
        Json(Value::Object(brief(&user, &base))),
    ))
}

/// Changes the given fields of a user.
pub(super) async fn update(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
    body: JsonBody,
) -> Result<Json<Value>, ApiError> {
    let (profile, now) = (profile(body)?, sandbox.now());
    let user = sandbox.memory().update_user(&user_id, profile, now)?;
    Ok(Json(Value::Object(brief(&user, &base))))
}

/// Deletes a user with everything that belongs to the user.
pub(super) async fn delete(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    Path(user_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let now = sandbox.now();
    sandbox.memory().delete_user(&user_id, now)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the fields of the body that are stored.
fn profile(body: JsonBody) -> Result<Map<String, Value>, ApiError> {
    if let Some(email) = body.text("email")?
        && !email.contains('@')
    {
        return Err(ApiError::not_valid("email", "Email is not valid."));
    }
    let mut profile = body.into_fields();
    profile.retain(|name, _| PROFILE.contains(&name.as_str()));
    Ok(profile)
}

/// Returns a user with connections and accounts.
pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let now = sandbox.now();
    let memory = sandbox.memory();
    let user = memory.user(&user_id)?;
    let own = format!("{base}/users/{user_id}");
    let connections = memory.connections_of(user).into_iter();
    let connections = connections.map(|c| reference("connection", &c.id, &own));
    let accounts = accounts_of(&memory, user, now);
    let accounts = accounts.iter().map(|a| reference("account", &a.id, &own));
    let name = |field: &str| match user.profile.get(field) {
        Some(Value::String(text)) => text.as_str(),
        _ => "",
    };
    let full_name = format!("{} {}", name("firstName"), name("lastName"));
    let mut view = brief(user, &base);
    for field in ["email", "mobile", "firstName", "middleName", "lastName"] {
        view.entry(field).or_insert(json!(""));
    }
    view.insert("name".to_owned(), json!(full_name.trim()));
    view.insert(
        "connections".to_owned(),
        counted(&connections.collect::<Vec<_>>()),
    );
    view.insert(
        "accounts".to_owned(),
        counted(&accounts.collect::<Vec<_>>()),
    );
    view.insert(
        "links".to_owned(),
        json!({
            "accounts": format!("{own}/accounts"),
            "connections": format!("{own}/connections"),
            "self": own,
            "transactions": format!("{own}/transactions"),
        }),
    );
    Ok(Json(Value::Object(view)))
}

/// Lists every user.
pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
) -> Json<Value> {
    let memory = sandbox.memory();
    let users = memory.users.values();
    let users: Vec<_> = users
        .map(|user| Value::Object(brief(user, &base)))
        .collect();
    Json(json!({
        "type": "list",
        "size": users.len(),
        "data": users,
        "links": {"self": format!("{base}/users")},
    }))
}

fn brief(user: &SandboxUser, base: &str) -> Map<String, Value> {
    let mut view = Map::new();
    view.insert("type".to_owned(), json!("user"));
    view.insert("id".to_owned(), json!(user.id));
    view.extend(user.profile.clone());
    let own = format!("{base}/users/{}", user.id);
    view.insert("links".to_owned(), json!({"self": own}));
    view
}

fn reference(kind: &str, id: &str, user: &str) -> Value {
    json!({"type": kind, "id": id, "links": {"self": format!("{user}/{kind}s/{id}")}})
}

fn counted(data: &[Value]) -> Value {
    json!({"type": "list", "count": data.len(), "data": data})
}
