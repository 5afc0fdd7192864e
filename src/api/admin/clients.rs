//! `/admin/clients`: the commands of `basiq-relay client`, over HTTP. A key or secret is shown once, in the
//! response to the call that created it.

use axum::{Json, extract::State};
use http::StatusCode;
use jiff::Timestamp;
use relay_domain::{
    ApiKey, CallbackAuth, CallbackAuthPart, ClientCertificate, ClientName, ROTATION_OVERLAP,
    SigningSecret,
};
use serde::Serialize;
use tracing::info;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiState, admin::TAG, examples},
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
    /// The client's name. No other client, current or revoked, may have it.
    #[schema(example = "app", pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub name: String,
}

/// A client, without its secrets.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientItem {
    /// The client's name.
    #[schema(example = "app")]
    pub name: String,
    /// When the client was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Until when the previous signing secret also signs. Null if only the current one signs.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub previous_secret_until: Option<Timestamp>,
    /// When the client was revoked. Null if the client is not revoked.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub revoked_at: Option<Timestamp>,
    /// What the client's callbacks get beside the signature. Null if they get nothing.
    #[schema(required = true)]
    pub callback_auth: Option<CallbackAuthItem>,
}

/// The credentials that the relay presents to a client's callbacks, without secrets.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallbackAuthItem {
    /// The earliest end of validity in the chain of the TLS client certificate. Null without a client certificate.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub certificate_expires_at: Option<Timestamp>,
    /// The names of the static headers, in lower case.
    #[schema(example = json!(["x-api-key"]))]
    pub headers: Vec<String>,
    /// The stored parts that cannot be read. While there are any, the client's events wait.
    pub unreadable: Vec<CallbackAuthPart>,
}

impl CallbackAuthItem {
    fn of(auth: &CallbackAuth) -> Option<Self> {
        let certificate = auth.certificate.as_ref();
        (!auth.is_empty()).then(|| Self {
            certificate_expires_at: certificate.map(ClientCertificate::expires_at),
            headers: auth.headers.names().map(ToOwned::to_owned).collect(),
            unreadable: auth.unreadable.clone(),
        })
    }
}

/// All clients.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct ClientList {
    /// The clients, including revoked ones, ordered by name.
    pub items: Vec<ClientItem>,
}

// The following types hold secrets for the operator, so they do not implement `Debug`.

/// The added client and its secrets.
#[derive(Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewClient {
    /// The client's name.
    #[schema(example = "app")]
    pub name: String,
    /// The client's API key. The relay shows it only once.
    pub api_key: String,
    /// The secret that signs the client's events. The relay shows it only once.
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
    /// The new API key. The relay shows it only once.
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
    /// The new signing secret. The relay shows it only once.
    pub signing_secret: String,
    /// Until when the previous secret also signs.
    #[schema(value_type = String, format = DateTime)]
    pub previous_secret_until: Timestamp,
}

/// The result of ending a rotation.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct RetiredSecret {
    /// The client's name.
    #[schema(example = "app")]
    pub name: String,
    /// Whether a previous secret was retired. False if only one secret was signing.
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
    /// The number of open watches that were cancelled.
    pub cancelled_watches: u64,
}

/// List clients
///
/// Returns all clients, including revoked ones, without keys and secrets.
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
        callback_auth: CallbackAuthItem::of(&client.callback_auth),
    });
    Ok(Json(ClientList {
        items: items.collect(),
    }))
}

/// Add a client
///
/// The response contains the API key and the signing secret. The relay shows them only once.
#[utoipa::path(
    post,
    path = "/admin/clients",
    operation_id = "addClient",
    tag = TAG,
    request_body(content = ClientRequest, description = "The client to add",
        example = json!(examples::client_request())),
    responses((status = 201, description = "The client is added", body = NewClient,
        example = json!(examples::new_client()))),
    security(("adminToken" = [])),
)]
async fn add_client(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<NewClient>), Problem> {
    let name = parse_name(body)?;
    let (key, secret) = (ApiKey::generate(), SigningSecret::generate());
    let parts = &state.parts;
    let now = parts.clock.now();
    let hash = key.hash();
    let added = parts
        .store
        .add_client(&name, &hash, &secret, &actor, now)
        .await?;
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
    let name = text
        .as_ref()
        .and_then(|text| ClientName::parse_new(text).ok());
    if let (Some(text), None) = (text, &name) {
        fields.invalid(
            "name",
            "must be 1 to 64 of `A-Z a-z 0-9 . _ -`, but not `.` or `..` alone",
            &text.into(),
        );
    }
    fields.finish(&["name"])?;
    name.ok_or_else(|| Problem::internal("a field is missing although no fault was found"))
}

/// Revoke a client
///
/// The client's key stops working at once, and its open watches are cancelled.
#[utoipa::path(
    delete,
    path = "/admin/clients/{name}",
    operation_id = "revokeClient",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "The client is revoked", body = RevokedClient,
        example = json!(examples::revoked_client()))),
    security(("adminToken" = [])),
)]
async fn revoke_client(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<RevokedClient>, Problem> {
    let now = state.parts.clock.now();
    let cancelled = state.parts.store.revoke_client(&name, &actor, now).await?;
    state.parts.follows.notify_any();
    let cancelled_watches = cancelled.ok_or_else(no_such_client)?;
    info!(client.name = %name, watches = cancelled_watches, "client revoked by the operator");
    Ok(Json(RevokedClient {
        name: name.to_string(),
        cancelled_watches,
    }))
}

/// Give a client a new signing secret
///
/// The response contains the new secret, which the relay shows only once. The previous secret also signs for 24
/// hours, or until you retire it.
#[utoipa::path(
    post,
    path = "/admin/clients/{name}/rotate-secret",
    operation_id = "rotateSecret",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "The client has a new signing secret", body = NewSecret,
        example = json!(examples::new_secret()))),
    security(("adminToken" = [])),
)]
async fn rotate_secret(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<NewSecret>, Problem> {
    let secret = SigningSecret::generate();
    let now = state.parts.clock.now();
    let until = now.checked_add(ROTATION_OVERLAP);
    let until = until.map_err(Problem::internal)?;
    let store = &state.parts.store;
    let rotated = store.rotate_secret(&name, &secret, until, &actor, now);
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
/// The previous signing secret stops signing at once.
#[utoipa::path(
    post,
    path = "/admin/clients/{name}/retire-secret",
    operation_id = "retireSecret",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "Only one secret signs now", body = RetiredSecret,
        example = json!(examples::retired_secret()))),
    security(("adminToken" = [])),
)]
async fn retire_secret(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<RetiredSecret>, Problem> {
    let now = state.parts.clock.now();
    let store = &state.parts.store;
    let retired = store.retire_previous_secret(&name, &actor, now).await?;
    let retired = retired.ok_or_else(no_such_client)?;
    info!(client.name = %name, retired, "rotation ended by the operator");
    Ok(Json(RetiredSecret {
        name: name.to_string(),
        retired,
    }))
}

/// Give a client a new API key
///
/// The response contains the new key, which the relay shows only once. The previous key stops working at once.
#[utoipa::path(
    post,
    path = "/admin/clients/{name}/rotate-key",
    operation_id = "rotateKey",
    tag = TAG,
    params(("name" = String, Path, description = "The client", example = "app")),
    responses((status = 200, description = "The client has a new API key", body = NewKey,
        example = json!(examples::new_key()))),
    security(("adminToken" = [])),
)]
async fn rotate_key(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    PathId(name): PathId<ClientName>,
) -> Result<Json<NewKey>, Problem> {
    let key = ApiKey::generate();
    let (hash, now) = (key.hash(), state.parts.clock.now());
    let rotated = state.parts.store.rotate_key(&name, &hash, &actor, now);
    if !rotated.await? {
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
