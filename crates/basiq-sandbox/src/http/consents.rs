//! `/users/{userId}/consents`.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Map, Value, json};

use crate::{
    Sandbox,
    consent::{ConsentChange, ConsentStatus, SandboxConsent},
    error::ApiError,
    http::extract::{BaseUrl, ServerToken},
    view::date,
};

/// What a person lets Basiq read: scope, kind of entity, name.
const PERMISSIONS: &[(&str, &str, &str)] = &[
    ("account.basic", "account", "Accounts and balances"),
    ("transaction.detail", "transaction", "Transactions"),
];

/// Lists a user's consents, newest first.
pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(user_id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let memory = sandbox.memory();
    let consents = memory.consents_of(&user_id)?.into_iter();
    let data: Vec<_> = consents.map(|consent| view(consent, &base)).collect();
    let own = format!("{base}/users/{user_id}/consents");
    let body = json!({"type": "list", "size": data.len(), "data": data, "links": {"self": own}});
    Ok(Json(body))
}

/// Revokes a consent. It stays in the list.
pub(super) async fn delete(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    let is_theirs = memory.consents_of(&user_id)?.iter().any(|c| c.id == id);
    if is_theirs && memory.change_consent(&id, ConsentChange::Revoked, now) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::not_found("Consent does not exist."))
}

/// Writes a consent in Basiq's form.
pub(super) fn view(consent: &SandboxConsent, base: &str) -> Value {
    let user = format!("{base}/users/{}", consent.user_id);
    let purpose = json!({"title": "Try the sandbox", "description": "No data is real."});
    let permission = |(scope, entity, name): &(&str, &str, &str)| {
        let information = json!({"name": name, "description": name, "attributeList": [name]});
        json!({
            "scope": scope,
            "required": true,
            "consented": true,
            "entity": entity,
            "information": information,
            "purpose": purpose,
        })
    };
    let permissions: Vec<_> = PERMISSIONS.iter().map(permission).collect();
    let mut view = Map::new();
    let mut add = |name: &str, value: Value| view.insert(name.to_owned(), value);
    add("type", json!("consent"));
    add("id", json!(consent.id));
    add("created", json!(date(consent.created)));
    add("updated", json!(date(consent.updated)));
    add("expiryDate", json!(date(consent.expires())));
    add("origin", json!("user"));
    add("status", json!(consent.status.as_str()));
    add("purpose", json!({"primary": purpose, "other": null}));
    add(
        "data",
        json!({
            "retainData": false,
            "initialRetrievalDays": 365,
            "organisation": null,
            "permissions": permissions,
        }),
    );
    if consent.status == ConsentStatus::Revoked {
        add("revoked", json!(date(consent.updated)));
    }
    add(
        "links",
        json!({"self": format!("{user}/consents/{}", consent.id)}),
    );
    Value::Object(view)
}
