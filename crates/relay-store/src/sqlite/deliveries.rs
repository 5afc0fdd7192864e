//! Deliveries as their clients see them: lists them, and puts them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, DeliveryId, WatchId};
use rusqlite::{Connection, params};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::{
    DeliveryEntry, DeliveryQuery, DeliveryStore, Redelivery, StoreError,
    rows::{self, int},
    sqlite::{
        SqliteStore, details, hosts,
        statement::{execute, fetch_optional},
    },
};

const LIST: &str = "SELECT d.delivery_id, d.client_id, d.state, d.next_attempt_at, d.updated_at, \
    d.event_id, e.body, w.watch_id, w.callback_url FROM deliveries d \
    CROSS JOIN events e ON e.event_id = d.event_id \
    CROSS JOIN watches w ON w.watch_id = d.watch_id WHERE d.state = ";

/// Selects the facts that decide whether an event of a watch may be queued once more.
macro_rules! latest {
    () => {
        "SELECT w.watch_id, w.state, \
         (SELECT max(e.event_id) FROM events e WHERE e.watch_id = w.watch_id) AS latest, \
         EXISTS (SELECT 1 FROM clients c WHERE c.client_id = w.client_id \
             AND c.revoked_at IS NOT NULL) AS revoked"
    };
}

pub(super) const LATEST_OF_WATCH: &str = concat!(
    latest!(),
    ", NULL AS asked FROM watches w \
     WHERE w.watch_id = ?1 AND w.client_id = ifnull(?2, w.client_id)"
);

pub(super) const LATEST_OF_DELIVERY: &str = concat!(
    latest!(),
    ", d.event_id AS asked FROM deliveries d CROSS JOIN watches w ON w.watch_id = d.watch_id \
     WHERE d.delivery_id = ?1 AND d.client_id = ifnull(?2, d.client_id)"
);

/// A delivery that waits already is only tried sooner. A delivery in flight keeps its claim.
const REDELIVER: &str = "UPDATE deliveries SET \
    round_attempts = iif(state = 'pending', round_attempts, 0), \
    deadline = iif(state <> 'pending' AND deadline <= ?2, NULL, deadline), \
    updated_at = iif(state = 'pending', updated_at, ?2), \
    next_attempt_at = ?2, state = 'pending' WHERE event_id = ?1";

macro_rules! redeliver_dead {
    ($owned:literal) => {
        concat!(
            "UPDATE deliveries SET state = 'pending', \
             round_attempts = 0, next_attempt_at = ?3, updated_at = ?3, \
             deadline = iif(deadline <= ?3, NULL, deadline) \
             WHERE state = 'dead' AND updated_at >= ?2 AND ",
            $owned,
            " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.watch_id = deliveries.watch_id \
                 AND e.event_id > deliveries.event_id) \
             AND EXISTS (SELECT 1 FROM watches w WHERE w.watch_id = deliveries.watch_id \
                 AND w.state <> 'cancelled')"
        )
    };
}

/// Queues one client's dead deliveries once more.
pub(super) const REDELIVER_DEAD: &str = redeliver_dead!("client_id = ?1");

/// Queues all clients' dead deliveries once more, except those of revoked clients.
pub(super) const REDELIVER_ALL_DEAD: &str = redeliver_dead!(
    "?1 IS NULL AND NOT EXISTS (SELECT 1 FROM clients c \
         WHERE c.client_id = deliveries.client_id AND c.revoked_at IS NOT NULL)"
);

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError> {
        list(&mut *self.read().await?, query).await
    }

    async fn redeliver_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let id = id.to_string();
        self.write(move |connection| redeliver(connection, LATEST_OF_WATCH, &id, owner, now))
            .await
    }

    async fn redeliver_one(
        &self,
        owner: Option<ClientId>,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let id = id.to_string();
        self.write(move |connection| redeliver(connection, LATEST_OF_DELIVERY, &id, owner, now))
            .await
    }

    async fn redeliver_dead(
        &self,
        owner: Option<ClientId>,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| redeliver_dead(connection, owner, since, now))
            .await
    }
}

async fn list(
    connection: &mut SqliteConnection,
    query: &DeliveryQuery,
) -> Result<Vec<DeliveryEntry>, StoreError> {
    let rows = list_statement(query)
        .build()
        .fetch_all(&mut *connection)
        .await?;
    let mut entries = rows
        .iter()
        .map(|row| rows::entry(row))
        .collect::<Result<Vec<_>, _>>()?;
    let ids = entries.iter().map(|entry| entry.delivery.id);
    let mut attempts = details::attempts(connection, ids).await?;
    for entry in &mut entries {
        entry.delivery.attempts = attempts.remove(&entry.delivery.id).unwrap_or_default();
    }
    Ok(entries)
}

/// Queues the latest event of a watch once more. `find` is the statement that finds it by the id of the watch or of a
/// delivery. A delivery's id only counts if it is that of the latest event.
fn redeliver(
    connection: &Connection,
    find: &'static str,
    id: &str,
    owner: Option<ClientId>,
    now: Timestamp,
) -> Result<Redelivery, StoreError> {
    let row = fetch_optional(connection, find, params![id, owner.map(|client| client.0)])?;
    let Some(row) = row else {
        return Ok(Redelivery::NotFound);
    };
    let event = match rows::redeliverable(&row)? {
        Ok(event) => event,
        Err(refused) => return Ok(refused),
    };
    execute(
        connection,
        REDELIVER,
        params![event.to_string(), now.as_millisecond()],
    )?;
    hosts::lift(connection, now)?;
    Ok(Redelivery::Queued(event))
}

fn redeliver_dead(
    connection: &Connection,
    owner: Option<ClientId>,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let statement = match owner {
        Some(_) => REDELIVER_DEAD,
        None => REDELIVER_ALL_DEAD,
    };
    let queued = execute(
        connection,
        statement,
        params![
            owner.map(|client| client.0),
            since.as_millisecond(),
            now.as_millisecond()
        ],
    )?;
    hosts::lift(connection, now)?;
    Ok(queued)
}

/// Returns the statement that lists deliveries.
pub(super) fn list_statement(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(LIST);
    statement.push_bind(query.state.as_str());
    if let Some(owner) = query.owner {
        statement.push(" AND d.client_id = ").push_bind(owner.0);
    }
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
