//! Watches with their events, deliveries and attempts, read in three statements however many they are.

use std::collections::HashMap;

use relay_domain::{Attempt, ClientId, DeliveryId, WatchId};
use sqlx::postgres::PgRow;

use crate::{
    EventDetails, StoreError, WatchDetails,
    postgres::{PgSession, row::list},
    rows,
};

/// The columns of a watch, from `watches w`.
macro_rules! watch_columns {
    () => {
        "w.watch_id, w.client_id, w.job_id, w.callback_url, w.operation, w.events, w.until_step, \
         w.locale, w.metadata, w.state, w.progress, w.created_at, w.updated_at, w.settled_at, \
         w.traceparent"
    };
}
pub(super) use watch_columns;

/// Selects the columns that [`tell`] reads, from `watches w`.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            watch_columns!(),
            ", j.memory, j.next_look_at FROM watches w JOIN jobs j ON j.job_id = w.job_id ",
            $rest
        )
    };
}

pub(super) const SELECT: &str = select!("");

pub(super) const ONE: &str =
    select!("WHERE w.watch_id = $1 AND ($2::bigint IS NULL OR w.client_id = $2)");

pub(super) const MANY: &str = select!("WHERE w.watch_id = ANY($1)");

pub(super) const EVENTS: &str = "SELECT e.watch_id, e.event_id, e.body, d.delivery_id, d.state, \
    d.next_attempt_at FROM unnest($1::text[]) i (watch_id) \
    JOIN events e ON e.watch_id = i.watch_id JOIN deliveries d ON d.event_id = e.event_id \
    ORDER BY e.event_id";

pub(super) const ATTEMPTS: &str = "SELECT a.delivery_id, a.number, a.started_at, a.duration, \
    a.status, a.error, a.response, a.error_detail FROM attempts a WHERE a.delivery_id = ANY($1) \
    ORDER BY a.delivery_id, a.number";

/// Returns one watch with its details, if it exists and belongs to the given owner.
pub(super) async fn find(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    id: WatchId,
) -> Result<Option<WatchDetails>, StoreError> {
    let row = sqlx::query(ONE)
        .bind(id.to_string())
        .bind(owner.map(|client| client.0))
        .fetch_optional(&mut *connection)
        .await?;
    let details = tell(connection, row.as_slice()).await?;
    Ok(details.into_iter().next())
}

/// Returns those of these watches that exist, with their details.
pub(super) async fn find_all(
    connection: &mut PgSession<'_>,
    ids: &[WatchId],
) -> Result<Vec<WatchDetails>, StoreError> {
    let rows = sqlx::query(MANY)
        .bind(list(ids))
        .fetch_all(&mut *connection)
        .await?;
    tell(connection, &rows).await
}

/// Reads the details of the watches in rows of [`SELECT`].
pub(super) async fn tell(
    connection: &mut PgSession<'_>,
    rows: &[PgRow],
) -> Result<Vec<WatchDetails>, StoreError> {
    let details = rows.iter().map(|row| rows::without_events(row));
    let mut details = details.collect::<Result<Vec<_>, _>>()?;
    let mut events = events(connection, details.iter().map(|story| story.watch.id)).await?;
    for story in &mut details {
        story.events = events.remove(&story.watch.id).unwrap_or_default();
    }
    Ok(details)
}

/// Returns the attempts of deliveries, oldest first.
pub(super) async fn attempts(
    connection: &mut PgSession<'_>,
    deliveries: impl IntoIterator<Item = DeliveryId>,
) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError> {
    let rows = sqlx::query(ATTEMPTS)
        .bind(list(deliveries))
        .fetch_all(connection)
        .await?;
    rows::attempts(&rows)
}

async fn events(
    connection: &mut PgSession<'_>,
    watches: impl Iterator<Item = WatchId>,
) -> Result<HashMap<WatchId, Vec<EventDetails>>, StoreError> {
    let rows = sqlx::query(EVENTS)
        .bind(list(watches))
        .fetch_all(&mut *connection)
        .await?;
    let mut events = rows::events(&rows)?;
    let told = events.values().flatten();
    let deliveries: Vec<_> = told.map(|event| event.delivery.id).collect();
    let mut attempts = attempts(connection, deliveries).await?;
    for event in events.values_mut().flatten() {
        event.delivery.attempts = attempts.remove(&event.delivery.id).unwrap_or_default();
    }
    Ok(events)
}
