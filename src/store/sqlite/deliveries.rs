//! Deliveries as their clients see them: listed, and put back in the queue.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use crate::{
    domain::{CallbackUrl, ClientId, EventId, WatchId, WatchState},
    store::{
        DeliveryEntry, DeliveryQuery, Redelivery, StoreError,
        sqlite::{
            row::{Cells, int},
            stories,
        },
    },
};

const LIST: &str = "SELECT d.delivery_id, d.state, d.next_attempt_at, d.updated_at, d.event_id, \
    e.body, w.watch_id, w.callback_url FROM deliveries d \
    CROSS JOIN events e ON e.event_id = d.event_id \
    CROSS JOIN watches w ON w.watch_id = d.watch_id \
    WHERE d.client_id = ";

const LATEST: &str = "SELECT w.watch_id, w.state, \
    (SELECT max(e.event_id) FROM events e WHERE e.watch_id = w.watch_id) AS event_id \
    FROM watches w WHERE w.watch_id = ?1 AND w.client_id = ?2";

/// A delivery that waits already is only tried sooner; one in flight is left to its claim.
const REDELIVER: &str = "UPDATE deliveries SET \
    round_attempts = iif(state = 'pending', round_attempts, 0), \
    deadline = iif(state <> 'pending' AND deadline <= ?2, NULL, deadline), \
    updated_at = iif(state = 'pending', updated_at, ?2), \
    next_attempt_at = ?2, state = 'pending' WHERE event_id = ?1";

pub(super) const REDELIVER_DEAD: &str = "UPDATE deliveries SET state = 'pending', \
    round_attempts = 0, next_attempt_at = ?3, updated_at = ?3, \
    deadline = iif(deadline <= ?3, NULL, deadline) \
    WHERE client_id = ?1 AND state = 'dead' AND updated_at >= ?2 \
    AND NOT EXISTS (SELECT 1 FROM events e WHERE e.watch_id = deliveries.watch_id \
        AND e.event_id > deliveries.event_id) \
    AND EXISTS (SELECT 1 FROM watches w WHERE w.watch_id = deliveries.watch_id \
        AND w.state <> 'cancelled')";

/// Deliveries of a client in one state, the latest change first.
pub(super) async fn list(
    connection: &mut SqliteConnection,
    query: &DeliveryQuery,
) -> Result<Vec<DeliveryEntry>, StoreError> {
    let rows = list_statement(query)
        .build()
        .fetch_all(&mut *connection)
        .await?;
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let ids = entries.iter().map(|entry| entry.delivery.id);
    let mut attempts = stories::attempts(connection, ids).await?;
    for entry in &mut entries {
        entry.delivery.attempts = attempts.remove(&entry.delivery.id).unwrap_or_default();
    }
    Ok(entries)
}

/// Queues a watch's latest event once more.
pub(super) async fn redeliver(
    connection: &mut SqliteConnection,
    owner: ClientId,
    id: WatchId,
    now: Timestamp,
) -> Result<Redelivery, StoreError> {
    let row = sqlx::query(LATEST)
        .bind(id.to_string())
        .bind(owner.0)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        return Ok(Redelivery::NoSuchWatch);
    };
    let cells = Cells::of("watches", "watch_id", &row);
    if cells.read("state", WatchState::from_word)? == WatchState::Cancelled {
        return Ok(Redelivery::Cancelled);
    }
    let latest: Option<EventId> = cells.read_opt("event_id", |text| text.parse().ok())?;
    let Some(event) = latest else {
        return Ok(Redelivery::NoEvent);
    };
    sqlx::query(REDELIVER)
        .bind(event.to_string())
        .bind(now.as_millisecond())
        .execute(connection)
        .await?;
    Ok(Redelivery::Queued(event))
}

/// Queues again what died at or after `since`, and says how much.
pub(super) async fn redeliver_dead(
    connection: &mut SqliteConnection,
    owner: ClientId,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let queued = sqlx::query(REDELIVER_DEAD)
        .bind(owner.0)
        .bind(since.as_millisecond())
        .bind(now.as_millisecond())
        .execute(connection)
        .await?;
    Ok(queued.rows_affected())
}

/// The statement that lists deliveries.
pub(super) fn list_statement(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(LIST);
    statement.push_bind(query.owner.0);
    statement
        .push(" AND d.state = ")
        .push_bind(query.state.as_str());
    if let Some((updated_at, id)) = query.after {
        statement
            .push(" AND (d.updated_at, d.delivery_id) < (")
            .push_bind(updated_at.as_millisecond())
            .push(", ")
            .push_bind(id.to_string())
            .push(")");
    }
    statement
        .push(" ORDER BY d.updated_at DESC, d.delivery_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

fn entry(row: &SqliteRow) -> Result<DeliveryEntry, StoreError> {
    let event = Cells::of("events", "event_id", row);
    Ok(DeliveryEntry {
        delivery: stories::delivery(row)?,
        updated_at: Cells::of("deliveries", "delivery_id", row).time("updated_at")?,
        event_id: event.parse("event_id")?,
        body: event.json("body")?,
        callback_url: Cells::of("watches", "watch_id", row)
            .read("callback_url", CallbackUrl::from_stored)?,
    })
}
