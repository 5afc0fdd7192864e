//! `/events` and `/events/types`.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use relay_domain::clock::later;
use serde_json::{Value, json};

use crate::{
    Sandbox,
    error::ApiError,
    event::{SandboxEvent, SandboxEventType},
    http::{
        extract::{BaseUrl, ServerToken},
        filter::ListQuery,
    },
    life::scaled,
};

/// How long an event can be read.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// Returns one event.
pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let memory = sandbox.memory();
    let event = memory.events.get(&id).filter(|e| is_kept(&sandbox, e));
    let event = event.ok_or_else(|| ApiError::not_found("Event does not exist."))?;
    Ok(Json(event.view(&base)))
}

/// Lists the events of the last seven days, newest first.
pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let filter = query.filter(&["user.id", "event.entity", "event.type"])?;
    let memory = sandbox.memory();
    let wanted = |event: &&SandboxEvent| {
        let (entity, event_type) = event.event_type.parts();
        is_kept(&sandbox, event)
            && filter.lets("user.id", &event.user_id)
            && filter.lets("event.entity", entity)
            && filter.lets("event.type", event_type)
    };
    let events = memory.events.values().filter(wanted);
    let mut data: Vec<_> = events.map(|event| event.view(&base)).collect();
    data.reverse();
    let links = json!({"self": format!("{base}/events")});
    Ok(Json(json!({"type": "list", "data": data, "links": links})))
}

/// Lists the types of events for which there are webhooks.
pub(super) async fn types(
    State(_): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
) -> Json<Value> {
    let data = SandboxEventType::ALL.map(|event_type| type_view(event_type, &base));
    let own = format!("{base}/events/types");
    Json(json!({
        "type": "list",
        "size": data.len(),
        "count": data.len(),
        "data": data,
        "links": {"self": own},
    }))
}

/// Returns one type of events.
pub(super) async fn show_type(
    State(_): State<Sandbox>,
    _token: ServerToken,
    BaseUrl(base): BaseUrl,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let unknown = |_| ApiError::not_found("Requested event type does not exist.");
    let event_type = id.parse().map_err(unknown)?;
    Ok(Json(type_view(event_type, &base)))
}

fn type_view(event_type: SandboxEventType, base: &str) -> Value {
    json!({
        "type": "eventType",
        "id": event_type.as_str(),
        "description": event_type.description(),
        "links": {"self": format!("{base}/events/types/{event_type}")},
    })
}

fn is_kept(sandbox: &Sandbox, event: &SandboxEvent) -> bool {
    later(event.created, scaled(KEPT, sandbox.speed())) > sandbox.now()
}
