//! `/admin/clients`: what `basiq-relay client` does, over HTTP. A key or secret is told once, in the
//! answer to the call that made it.

use axum::{Json, extract::State};
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use tracing::info;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiState, admin::TAG, examples},
    domain::{ApiKey, ClientName, ROTATION_OVERLAP, SigningSecret},
    web::{BodyFields, JsonObject, Operator, PathId, Problem, ProblemCode, RawObject},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list_clients, add_client))
        .routes(routes!(revoke_client))
        .routes(routes!(rotate_secret))
        .routes(routes!(retire_secret))
        .routes(routes!(rotate_key))
}

/// A client to add.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientRequest {
    /// Its name, which nobody may have had before.
    #[schema(example = "app", pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub name: String,
}

/// A client, without its secrets.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientItem {
    /// Its name.
    #[schema(example = "app")]
    pub name: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Until when the signing secret before the last rotation signs as well; null if it does not.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub previous_secret_until: Option<Timestamp>,
    /// When it was revoked; null if it was not.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub revoked_at: Option<Timestamp>,
}

/// All clients.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct ClientList {
    /// By name, revoked ones too.
    pub items: Vec<ClientItem>,
}

// What follows carries secrets to the operator: none of it can be printed.

/// A client that was added, and its secrets.
#[derive(Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewClient {
    /// Its name.
    #[schema(example = "app")]
    pub name: String,
    /// Its API key; it is told this once.
    pub api_key: String,
    /// Signs its events; it is told this once.
    pub signing_secret: String,
}

/// A client's new API key.
#[derive(Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewKey {
    /// The client's name.
    #[schema(example = "app")]
    pub name: String,
    /// The new key; it is told this once.
    pub api_key: String,
}

/// A client's new signing secret.
#[derive(Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewSecret {
    /// The client's name.
    #[schema(example = "app")]
    pub name: String,
    /// The new secret; it is told this once.
    pub signing_secret: String,
    /// Until when the one before signs as well.
    #[schema(value_type = String, format = DateTime)]
    pub previous_secret_until: Timestamp,
}

/// What ending a rotation came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct RetiredSecret {
    /// The client's name.
    #[schema(example = "app")]
    pub name: String,
    /// False if only one secret signed already.
    pub retired: bool,
}

/// A client that was revoked.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevokedClient {
    /// The client's name.
    #[schema(example = "app")]
    pub name: String,
    /// How many open watches it had, which were cancelled.
    pub cancelled_watches: u64,
}

/// List clients
///
/// All there are, those that were revoked as well, without keys and secrets.
#[utoipa::path(
    get,
    path = "/admin/clients",
    operation_id = "listClients",
    tag = TAG,
    responses((status = 200, description = "All clients", body = ClientList,
        example = json!(examples::client_list()))),
    security(("adminToken" = [])),
)]
async fn list_clients(
    State(state): State<ApiState>,
    _: Operator,
) -> Result<Json<ClientList>, Problem> {
    let now = state.parts.clock.now();
    let clients = state.parts.store.list_clients().await?;
    let items = clients.into_iter().map(|client| ClientItem {
        name: client.name.to_string(),
        created_at: client.created_at,
        previous_secret_until: client
            .previous_secret
            .map(|(_, until)| until)
            .filter(|until| *until > now),
        revoked_at: client.revoked_at,
    });
    Ok(Json(ClientList {
        items: items.collect(),
    }))
}

/// Add a client
///
/// Its API key and signing secret are told this once.
#[utoipa::path(
    post,
    path = "/admin/clients",
    operation_id = "addClient",
    tag = TAG,
    request_body(content = ClientRequest, description = "The client to add",
        example = json!(examples::client_request())),
    responses((status = 201, description = "Added", body = NewClient,
        example = json!(examples::new_client()))),
    security(("adminToken" = [])),
)]
async fn add_client(
    State(state): State<ApiState>,
    _: Operator,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<NewClient>), Problem> {
    let name = parse_name(body)?;
    let (key, secret) = (ApiKey::generate(), SigningSecret::generate());
    let parts = &state.parts;
    let now = parts.clock.now();
    let hash = key.hash();
    let added = parts.store.add_client(&name, &hash, &secret, now).await?;
    if added.is_none() {
        return Err(Problem::new(
            ProblemCode::NameTaken,
            format!("There is or was a client `{name}`; choose another name."),
        ));
    }
    info!(client.name = %name, "client added by the operator");
    let client = NewClient {
        name: name.to_string(),
        api_key: key.expose().to_owned(),
        signing_secret: secret.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(client)))
}

fn parse_name(body: RawObject) -> Result<ClientName, Problem> {
    let mut fields = BodyFields::new(body);
    let text = fields.required_text("name");
    let name = text.as_ref().and_then(|text| text.parse().ok());
    if let (Some(text), None) = (text, &name) {
        fields.invalid(
            "name",
            "must be 1 to 64 of `A-Z a-z 0-9 . _ -`",
            &text.into(),
        );
    }
    fields.finish(&["name"])?;
    name.ok_or_else(|| Problem::internal("a field is missing although no fault was found"))
}

/// Revoke a client
///
/// Its key stops working at once, and its open watches are cancelled.
#[utoipa::path(
    delete,
    path = "/admin/clients/{name}",
    operation_id = "revokeClient",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "Revoked", body = RevokedClient,
        example = json!(examples::revoked_client()))),
    security(("adminToken" = [])),
)]
async fn revoke_client(
    State(state): State<ApiState>,
    _: Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<RevokedClient>, Problem> {
    let now = state.parts.clock.now();
    let cancelled = state.parts.store.revoke_client(&name, now).await?;
    state.parts.follows.touch_any();
    let cancelled_watches = cancelled.ok_or_else(no_such_client)?;
    info!(client.name = %name, watches = cancelled_watches, "client revoked by the operator");
    Ok(Json(RevokedClient {
        name: name.to_string(),
        cancelled_watches,
    }))
}

/// Give a client a new signing secret
///
/// It is told this once. The one before signs as well for 24 hours, or until it is retired.
#[utoipa::path(
    post,
    path = "/admin/clients/{name}/rotate-secret",
    operation_id = "rotateSecret",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "Rotated", body = NewSecret,
        example = json!(examples::new_secret()))),
    security(("adminToken" = [])),
)]
async fn rotate_secret(
    State(state): State<ApiState>,
    _: Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<NewSecret>, Problem> {
    let secret = SigningSecret::generate();
    let until = state.parts.clock.now().checked_add(ROTATION_OVERLAP);
    let until = until.map_err(Problem::internal)?;
    let rotated = state.parts.store.rotate_secret(&name, &secret, until);
    if !rotated.await? {
        return Err(no_such_client());
    }
    info!(client.name = %name, "signing secret rotated by the operator");
    Ok(Json(NewSecret {
        name: name.to_string(),
        signing_secret: secret.expose().to_owned(),
        previous_secret_until: until,
    }))
}

/// End a rotation early
///
/// The signing secret before the last rotation signs no more.
#[utoipa::path(
    post,
    path = "/admin/clients/{name}/retire-secret",
    operation_id = "retireSecret",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "One secret signs", body = RetiredSecret,
        example = json!(examples::retired_secret()))),
    security(("adminToken" = [])),
)]
async fn retire_secret(
    State(state): State<ApiState>,
    _: Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<RetiredSecret>, Problem> {
    let now = state.parts.clock.now();
    let retired = state.parts.store.retire_previous_secret(&name, now).await?;
    let retired = retired.ok_or_else(no_such_client)?;
    info!(client.name = %name, retired, "rotation ended by the operator");
    Ok(Json(RetiredSecret {
        name: name.to_string(),
        retired,
    }))
}

/// Give a client a new API key
///
/// It is told this once; the one before stops working at once.
#[utoipa::path(
    post,
    path = "/admin/clients/{name}/rotate-key",
    operation_id = "rotateKey",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "Rotated", body = NewKey,
        example = json!(examples::new_key()))),
    security(("adminToken" = [])),
)]
async fn rotate_key(
    State(state): State<ApiState>,
    _: Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<NewKey>, Problem> {
    let key = ApiKey::generate();
    if !state.parts.store.rotate_key(&name, &key.hash()).await? {
        return Err(no_such_client());
    }
    info!(client.name = %name, "API key rotated by the operator");
    Ok(Json(NewKey {
        name: name.to_string(),
        api_key: key.expose().to_owned(),
    }))
}

fn no_such_client() -> Problem {
    Problem::not_found("There is no such client, or it is revoked.")
}
