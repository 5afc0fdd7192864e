//! Deliveries for the clients' API: list them, and put them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, DeliveryId, WatchId};
use sqlx::{Postgres, QueryBuilder};

use crate::{
    DeliveryEntry, DeliveryQuery, DeliveryStore, Redelivery, StoreError,
    postgres::{PgSession, PgStore, details, hosts},
    rows::{self, int},
};

const LIST: &str = "SELECT d.delivery_id, d.client_id, d.state, d.next_attempt_at, d.updated_at, \
    d.event_id, e.body, w.watch_id, w.callback_url FROM deliveries d \
    JOIN events e ON e.event_id = d.event_id \
    JOIN watches w ON w.watch_id = d.watch_id WHERE d.state = ";

/// Locks a watch, so that no look adds an event to it.
pub(super) const LOCK_WATCH: &str = "SELECT 1 FROM watches \
    WHERE watch_id = $1 AND ($2::bigint IS NULL OR client_id = $2) FOR NO KEY UPDATE";

pub(super) const WATCH_OF_DELIVERY: &str = "SELECT watch_id FROM deliveries WHERE delivery_id = $1";

/// Reads what decides whether an event of a watch may be queued again. `$2` is the requested delivery, if there
/// is one.
pub(super) const LATEST: &str = "SELECT w.watch_id, w.state, \
    (SELECT max(e.event_id) FROM events e WHERE e.watch_id = w.watch_id) AS latest, \
    (SELECT d.event_id FROM deliveries d WHERE d.delivery_id = $2) AS asked, \
    EXISTS (SELECT 1 FROM clients c WHERE c.client_id = w.client_id \
        AND c.revoked_at IS NOT NULL) AS revoked \
    FROM watches w WHERE w.watch_id = $1";

/// Queues a delivery again. A pending delivery is only tried sooner. A delivery in flight keeps its lease.
pub(super) const REDELIVER: &str = "UPDATE deliveries SET \
    round_attempts = CASE WHEN state = 'pending' THEN round_attempts ELSE 0 END, \
    deadline = CASE WHEN state <> 'pending' AND deadline <= $2 THEN NULL ELSE deadline END, \
    updated_at = CASE WHEN state = 'pending' THEN updated_at ELSE $2 END, \
    next_attempt_at = $2, state = 'pending' WHERE event_id = $1";

macro_rules! dead {
    ($owned:literal) => {
        concat!("d.state = 'dead' AND d.updated_at >= $1 AND ", $owned)
    };
}

macro_rules! lock_dead {
    ($owned:literal) => {
        concat!(
            "SELECT 1 FROM watches w WHERE w.watch_id IN \
             (SELECT d.watch_id FROM deliveries d WHERE ",
            dead!($owned),
            ") ORDER BY w.watch_id FOR NO KEY UPDATE"
        )
    };
}

macro_rules! redeliver_dead {
    ($owned:literal) => {
        concat!(
            "UPDATE deliveries d SET state = 'pending', round_attempts = 0, \
             next_attempt_at = $3, updated_at = $3, \
             deadline = CASE WHEN deadline <= $3 THEN NULL ELSE deadline END WHERE ",
            dead!($owned),
            " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.watch_id = d.watch_id \
                 AND e.event_id > d.event_id) \
             AND EXISTS (SELECT 1 FROM watches w WHERE w.watch_id = d.watch_id \
                 AND w.state <> 'cancelled')"
        )
    };
}

/// Statements for the dead deliveries of one client.
pub(super) const LOCK_DEAD: &str = lock_dead!("d.client_id = $2");
pub(super) const REDELIVER_DEAD: &str = redeliver_dead!("d.client_id = $2");

/// Statements for the dead deliveries of all clients.
pub(super) const LOCK_ALL_DEAD: &str = lock_dead!("$2::bigint IS NULL");
pub(super) const REDELIVER_ALL_DEAD: &str = redeliver_dead!(
    "$2::bigint IS NULL AND (SELECT c.revoked_at FROM clients c \
         WHERE c.client_id = d.client_id) IS NULL"
);

#[async_trait]
impl DeliveryStore for PgStore {
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError> {
        list(&mut self.read().await?.session(), query).await
    }

    async fn redeliver_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let watch = id.to_string();
        let asked = Asked {
            watch: &watch,
            delivery: None,
            owner,
        };
        let done = self
            .write((asked, now), |connection, (asked, now)| {
                Box::pin(redeliver(connection, *asked, *now))
            })
            .await?;
        self.notify_of_deliveries();
        Ok(done)
    }

    async fn redeliver_one(
        &self,
        owner: Option<ClientId>,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let delivery = id.to_string();
        let watch: Option<String> = sqlx::query_scalar(WATCH_OF_DELIVERY)
            .bind(&delivery)
            .fetch_optional(self.pool())
            .await?;
        let Some(watch) = watch else {
            return Ok(Redelivery::NotFound);
        };
        let asked = Asked {
            watch: &watch,
            delivery: Some(&delivery),
            owner,
        };
        let done = self
            .write((asked, now), |connection, (asked, now)| {
                Box::pin(redeliver(connection, *asked, *now))
            })
            .await?;
        self.notify_of_deliveries();
        Ok(done)
    }

    async fn redeliver_dead(
        &self,
        owner: Option<ClientId>,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let queued = self
            .write((owner, since, now), |connection, (owner, since, now)| {
                Box::pin(redeliver_dead(connection, *owner, *since, *now))
            })
            .await?;
        self.notify_of_deliveries();
        Ok(queued)
    }
}

/// A request to deliver an event again, and who made it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    watch: &'a str,
    /// The requested delivery. It is queued only if its event is the latest of the watch.
    delivery: Option<&'a str>,
    owner: Option<ClientId>,
}

async fn list(
    connection: &mut PgSession<'_>,
    query: &DeliveryQuery,
) -> Result<Vec<DeliveryEntry>, StoreError> {
    let rows = list_statement(query)
        .build()
        .fetch_all(&mut *connection)
        .await?;
    let entries = rows.iter().map(|row| rows::entry(row));
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<_> = entries.iter().map(|entry| entry.delivery.id).collect();
    let mut attempts = details::attempts(connection, ids).await?;
    for entry in &mut entries {
        entry.delivery.attempts = attempts.remove(&entry.delivery.id).unwrap_or_default();
    }
    Ok(entries)
}

/// Queues the latest event of a watch again.
async fn redeliver(
    connection: &mut PgSession<'_>,
    asked: Asked<'_>,
    now: Timestamp,
) -> Result<Redelivery, StoreError> {
    let locked = sqlx::query(LOCK_WATCH)
        .bind(asked.watch)
        .bind(asked.owner.map(|client| client.0))
        .execute(&mut *connection)
        .await?;
    if locked.rows_affected() == 0 {
        return Ok(Redelivery::NotFound);
    }
    let row = sqlx::query(LATEST)
        .bind(asked.watch)
        .bind(asked.delivery)
        .fetch_one(&mut *connection)
        .await?;
    let event = match rows::redeliverable(&row)? {
        Ok(event) => event,
        Err(refused) => return Ok(refused),
    };
    sqlx::query(REDELIVER)
        .bind(event.to_string())
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    hosts::lift(connection, now).await?;
    Ok(Redelivery::Queued(event))
}

async fn redeliver_dead(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (lock, redeliver) = match owner {
        Some(_) => (LOCK_DEAD, REDELIVER_DEAD),
        None => (LOCK_ALL_DEAD, REDELIVER_ALL_DEAD),
    };
    let owner = owner.map(|client| client.0);
    sqlx::query(lock)
        .bind(since.as_millisecond())
        .bind(owner)
        .execute(&mut *connection)
        .await?;
    let queued = sqlx::query(redeliver)
        .bind(since.as_millisecond())
        .bind(owner)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    hosts::lift(connection, now).await?;
    Ok(queued.rows_affected())
}

/// Returns the statement that lists deliveries.
pub(super) fn list_statement(query: &DeliveryQuery) -> QueryBuilder<Postgres> {
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
