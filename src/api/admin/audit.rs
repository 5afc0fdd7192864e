//! `/admin/audit`: the audit log.

use axum::{Json, extract::State};
use jiff::Timestamp;
use relay_domain::{AuditAct, AuditId, OperatorName};
use relay_store::{AuditEntry, AuditQuery};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        ApiState,
        admin::TAG,
        cursor::{page, take_cursor, take_limit},
        examples,
    },
    web::{Operator, Problem, QueryParams},
};

/// The maximum number of characters of an operator's name in a query: `cli:` and the name of a user.
const LONGEST_NAME: usize = 68;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(list_audit))
}

/// What an operator did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[schema(as = AuditEntry)]
pub(crate) struct AuditView {
    /// The id of the entry. Ids sort by time.
    #[schema(value_type = String, example = "aud_01KAR2D3CV9Z8X7W6V5T4S3R2Q")]
    pub id: AuditId,
    /// The time of the act.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who did it. `admin` has `RELAY_ADMIN_TOKEN`. `cli:USER` ran a command on the relay's machine, and `signal` is a
    /// signal to the process. `unknown` had no valid token.
    #[schema(example = "alice")]
    pub operator: String,
    /// The act.
    pub act: AuditAct,
    /// The object of the act: an id, a name or a time. Empty if it was the relay itself.
    #[schema(example = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q")]
    pub subject: String,
    /// The address that the request came from. Behind a proxy, this is the proxy's. Null for commands and signals.
    #[schema(example = "192.0.2.7", required = true)]
    pub from: Option<String>,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            operator: entry.operator.to_string(),
            act: entry.act,
            subject: entry.subject,
            from: entry.from.map(|from| from.to_string()),
        }
    }
}

/// A page of the audit log.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditPage {
    /// The entries, newest first.
    pub items: Vec<AuditView>,
    /// The cursor of the next page. Null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Read the audit log
///
/// Returns the acts of operators in pages, newest first. Each change by an operator has an entry, and so has each
/// log-in to the console. Nobody can change an entry. The relay deletes entries after `RELAY_AUDIT_RETENTION`.
#[utoipa::path(
    get,
    path = "/admin/audit",
    operation_id = "listAudit",
    tag = TAG,
    params(
        ("operator" = Option<String>, Query, description = "Only acts of this operator",
            min_length = 1, max_length = 68, example = json!("alice")),
        ("act" = Option<AuditAct>, Query, description = "Only acts of this kind", example = json!("watch-cancelled")),
        ("limit" = Option<u16>, Query, description = "Maximum number of entries on a page; 50 by default", minimum = 1, maximum = 200, example = json!(20)),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of the previous page",
            min_length = 1, pattern = "^[A-Za-z0-9_-]+$", example = json!(examples::AUDIT_CURSOR)),
    ),
    responses((status = 200, description = "A page of the audit log", body = AuditPage,
        example = json!(examples::audit_page()))),
    security(("adminToken" = [])),
)]
async fn list_audit(
    State(state): State<ApiState>,
    _: Operator,
    params: QueryParams,
) -> Result<Json<AuditPage>, Problem> {
    let (query, limit) = take_query(params)?;
    let entries = state.parts.store.list_acts(&query).await?;
    let (entries, next_cursor) = page(entries, limit, |entry| entry.id.to_string());
    Ok(Json(AuditPage {
        items: entries.into_iter().map(AuditView::from).collect(),
        next_cursor,
    }))
}

/// Parses the query parameters. The query asks for one entry more than the page holds.
fn take_query(mut params: QueryParams) -> Result<(AuditQuery, usize), Problem> {
    let limit = take_limit(&mut params);
    let words = AuditAct::ALL.iter().map(|act| act.as_str());
    let words = format!("one of {}", words.collect::<Vec<_>>().join(", "));
    let query = AuditQuery {
        operator: params.take("operator", "a name of 1 to 68 characters", name),
        act: params.take("act", &words, AuditAct::from_word),
        before: take_cursor(&mut params),
        limit: limit + 1,
    };
    params.finish()?;
    Ok((query, limit))
}

/// Returns the operator's name in a query. Any text may be one, because the names of users are in the log too.
fn name(text: &str) -> Option<OperatorName> {
    let is_allowed = (1..=LONGEST_NAME).contains(&text.chars().count());
    is_allowed.then(|| OperatorName::recorded(text))
}
