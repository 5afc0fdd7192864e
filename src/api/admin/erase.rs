//! `/admin/erase`: deletes what the relay holds about a person or a connection.

use axum::{Json, extract::State};
use relay_store::{ErasureCounts, ErasureSubject};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState,
        admin::TAG,
        examples,
        fields::{basiq_id, missing},
    },
    web::{BodyFields, FieldCode, JsonObject, Operator, Problem, RawObject},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(erase))
}

/// The user or the connection to erase; not both.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EraseRequest {
    /// Basiq's id of the user. The user's connections are erased as well.
    #[schema(
        required = false,
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9._-]+$"
    )]
    pub user_id: Option<String>,
    /// Basiq's id of the connection.
    #[schema(
        required = false,
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9._-]+$"
    )]
    pub connection_id: Option<String>,
}

/// How much was erased. All counts are 0 if the relay holds nothing about the id.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct ErasedData {
    /// The number of watches, open or not.
    pub watches: u64,
    /// The number of subscriptions, active or not.
    pub subscriptions: u64,
    /// The number of events of watches.
    pub events: u64,
    /// The number of notices.
    pub notices: u64,
    /// The number of Basiq's webhooks that waited to be passed on.
    pub messages: u64,
}

impl From<ErasureCounts> for ErasedData {
    fn from(counts: ErasureCounts) -> Self {
        Self {
            watches: counts.watches,
            subscriptions: counts.subscriptions,
            events: counts.events,
            notices: counts.notices,
            messages: counts.messages,
        }
    }
}

/// Erase a person's data
///
/// Deletes the watches, events, attempts, subscriptions, notices and forwarded webhooks of all clients that are about
/// this user or connection. A call or a delivery in flight may still end, but the relay drops its result.
#[utoipa::path(
    post,
    path = "/admin/erase",
    operation_id = "erase",
    tag = TAG,
    request_body(content = EraseRequest, description = "The user or the connection to erase",
        example = json!(examples::erase_request())),
    responses((status = 200, description = "The data is erased", body = ErasedData,
        example = json!(examples::erased_data()))),
    security(("adminToken" = [])),
)]
async fn erase(
    State(state): State<ApiState>,
    Operator(actor): Operator,
    JsonObject(body): JsonObject,
) -> Result<Json<ErasedData>, Problem> {
    let subject = parse(body)?;
    let parts = &state.parts;
    let erased = parts.store.erase(&subject, &actor, parts.clock.now());
    let counts = erased.await?;
    parts.follows.notify_any();
    Ok(Json(counts.into()))
}

fn parse(body: RawObject) -> Result<ErasureSubject, Problem> {
    let mut fields = BodyFields::new(body);
    let user = fields.optional_text("userId");
    let connection = fields.optional_text("connectionId");
    let subject = match (user, connection) {
        (Some(user), None) => basiq_id(&mut fields, "userId", &user).map(ErasureSubject::User),
        (None, Some(connection)) => {
            basiq_id(&mut fields, "connectionId", &connection).map(ErasureSubject::Connection)
        }
        (Some(_), Some(_)) => {
            let message = "`connectionId` must be left out where there is a `userId`";
            fields.fault("connectionId", FieldCode::InvalidValue, message.to_owned());
            None
        }
        (None, None) => {
            let message = "`userId` or `connectionId` is required";
            fields.fault("userId", FieldCode::Required, message.to_owned());
            None
        }
    };
    fields.finish(&["userId", "connectionId"])?;
    subject.ok_or_else(missing)
}
