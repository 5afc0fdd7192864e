//! Reads watches with their events: two statements for any number of watches.

use std::collections::HashMap;

use relay_domain::{ClientId, WatchId};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use crate::{EventDetails, StoreError, WatchDetails, rows, sqlite::row::id_list};

/// The columns of a watch, from `watches w` and `jobs j`.
macro_rules! watch_columns {
    () => {
        "w.watch_id, w.client_id, j.job_id, w.callback_url, w.operation, w.events, w.until_step, \
         w.locale, w.metadata, w.state, w.progress, w.created_at, w.updated_at, w.settled_at, \
         w.traceparent, w.subscription_id"
    };
}
pub(super) use watch_columns;

/// Selects the columns that [`with_events`] reads, from `watches w`.
pub(super) const SELECT: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, d.next_look_at FROM watches w CROSS JOIN jobs j ON j.job_no = w.job_no \
     LEFT JOIN due_jobs d ON d.job_no = w.job_no "
);

pub(super) const ONE: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, d.next_look_at FROM watches w CROSS JOIN jobs j ON j.job_no = w.job_no \
     LEFT JOIN due_jobs d ON d.job_no = w.job_no \
     WHERE w.watch_id = ?1 AND w.client_id = ifnull(?2, w.client_id)"
);

pub(super) const MANY: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, d.next_look_at FROM json_each(?1) i \
     CROSS JOIN watches w ON w.watch_id = unhex(i.value) \
     CROSS JOIN jobs j ON j.job_no = w.job_no LEFT JOIN due_jobs d ON d.job_no = w.job_no"
);

pub(super) const EVENTS: &str = "SELECT e.source_id, e.event_id, e.body, e.state, e.attempts, \
    o.next_attempt_at FROM json_each(?1) i CROSS JOIN events e ON e.source_id = unhex(i.value) \
    LEFT JOIN outbox o ON o.source_id = e.source_id AND o.event_id = e.event_id ORDER BY e.event_id";

/// Finds one watch with its details. If `owner` is given, only a watch of that client is found.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    owner: Option<ClientId>,
    id: WatchId,
) -> Result<Option<WatchDetails>, StoreError> {
    let row = sqlx::query(ONE)
        .bind(id.to_bytes().to_vec())
        .bind(owner.map(|client| client.0))
        .fetch_optional(&mut *connection)
        .await?;
    let details = with_events(connection, row.as_slice()).await?;
    Ok(details.into_iter().next())
}

/// Finds watches with their details. Leaves out ids that do not exist.
pub(super) async fn find_all(
    connection: &mut SqliteConnection,
    ids: &[WatchId],
) -> Result<Vec<WatchDetails>, StoreError> {
    let rows = sqlx::query(MANY)
        .bind(id_list(ids.iter().map(|id| id.to_bytes())))
        .fetch_all(&mut *connection)
        .await?;
    with_events(connection, &rows).await
}

/// Adds the events to rows of [`SELECT`].
pub(super) async fn with_events(
    connection: &mut SqliteConnection,
    rows: &[SqliteRow],
) -> Result<Vec<WatchDetails>, StoreError> {
    let mut details = rows
        .iter()
        .map(|row| rows::without_events(row))
        .collect::<Result<Vec<_>, _>>()?;
    let mut events = events(connection, details.iter().map(|one| one.watch.id)).await?;
    for one in &mut details {
        one.events = events.remove(&one.watch.id).unwrap_or_default();
    }
    Ok(details)
}

async fn events(
    connection: &mut SqliteConnection,
    watches: impl Iterator<Item = WatchId>,
) -> Result<HashMap<WatchId, Vec<EventDetails>>, StoreError> {
    let rows = sqlx::query(EVENTS)
        .bind(id_list(watches.map(WatchId::to_bytes)))
        .fetch_all(&mut *connection)
        .await?;
    rows::events(&rows)
}
