//! Deliveries as their clients see them: lists them, and puts them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, DeliveryId, DeliveryState, WatchId};
use rusqlite::{Connection, params};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::{
    DeliveryEntry, DeliveryQuery, DeliveryStore, Redelivery, StoreError,
    rows::{self, IdBytes, int},
    sqlite::{
        SqliteStore, hosts,
        statement::{execute, fetch_optional},
    },
};

/// Selects what a list tells of a delivery, from `events e` and `watches w`. The first part is followed by the time
/// of the next attempt.
macro_rules! listed {
    ($next_attempt_at:literal, $from:literal) => {
        concat!(
            "SELECT e.event_id, e.client_id, e.state, e.updated_at, e.attempts, e.body, w.watch_id, \
             w.callback_url, ",
            $next_attempt_at,
            " AS next_attempt_at FROM ",
            $from
        )
    };
}

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
    ", a.event_id AS asked FROM events a CROSS JOIN watches w ON w.watch_id = a.watch_id \
     WHERE a.event_id = ?1 AND a.client_id = ifnull(?2, a.client_id)"
);

/// A pending event is only tried sooner. An event in flight keeps its claim.
pub(super) const TRY_SOONER: &str = "UPDATE outbox SET next_attempt_at = ?2 \
    WHERE watch_id = (SELECT watch_id FROM events WHERE event_id = ?1) AND event_id = ?1";

/// Queues events once more, each in a new round. A deadline that has passed no longer counts.
macro_rules! requeue {
    ($now:literal, $which:expr) => {
        concat!(
            "INSERT INTO outbox (watch_id, event_id, client_id, host, next_attempt_at, \
             pending_since, deadline, attempts) \
             SELECT e.watch_id, e.event_id, e.client_id, w.callback_host, ",
            $now,
            ", ",
            $now,
            ", iif(e.deadline <= ",
            $now,
            ", NULL, e.deadline), ifnull(json_extract(e.attempts, '$[#-1].number'), 0) \
             FROM events e CROSS JOIN watches w ON w.watch_id = e.watch_id WHERE ",
            $which
        )
    };
}

pub(super) const REQUEUE: &str = requeue!("?2", "e.event_id = ?1");

pub(super) const REOPEN: &str = "UPDATE events SET state = 'pending', updated_at = ?2, \
    deadline = iif(deadline <= ?2, NULL, deadline) WHERE event_id = ?1";

macro_rules! requeue_dead {
    ($owned:literal) => {
        requeue!(
            "?3",
            concat!(
                $owned,
                " AND e.state = 'dead' AND e.state IN ('dead', 'expired', 'superseded', 'cancelled') \
                 AND e.updated_at >= ?2 AND w.state <> 'cancelled' \
                 AND NOT EXISTS (SELECT 1 FROM events n WHERE n.watch_id = e.watch_id \
                     AND n.event_id > e.event_id)"
            )
        )
    };
}

macro_rules! reopen_dead {
    ($owned:literal) => {
        concat!(
            "UPDATE events SET state = 'pending', updated_at = ?3, \
             deadline = iif(deadline <= ?3, NULL, deadline) WHERE ",
            $owned,
            " AND state = 'dead' AND state IN ('dead', 'expired', 'superseded', 'cancelled') \
             AND updated_at >= ?2 AND EXISTS (SELECT 1 FROM outbox o \
             WHERE o.watch_id = events.watch_id AND o.event_id = events.event_id)"
        )
    };
}

/// Queues one client's dead events once more.
pub(super) const OF_CLIENT: [&str; 2] = [
    requeue_dead!("e.client_id = ?1"),
    reopen_dead!("client_id = ?1"),
];

/// Queues all clients' dead events once more, except those of revoked clients.
pub(super) const OF_ALL: [&str; 2] = [
    requeue_dead!(
        "?1 IS NULL AND NOT EXISTS (SELECT 1 FROM clients c \
         WHERE c.client_id = e.client_id AND c.revoked_at IS NOT NULL)"
    ),
    reopen_dead!("?1 IS NULL"),
];

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
        let id = id.to_bytes();
        self.write(move |connection| redeliver(connection, LATEST_OF_WATCH, id, owner, now))
            .await
    }

    async fn redeliver_one(
        &self,
        owner: Option<ClientId>,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let id = id.to_bytes();
        self.write(move |connection| redeliver(connection, LATEST_OF_DELIVERY, id, owner, now))
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
    rows.iter().map(|row| rows::entry(row)).collect()
}

/// Queues the latest event of a watch once more. `find` is the statement that finds it by the id of the watch or of a
/// delivery. A delivery's id only counts if it is that of the latest event.
fn redeliver(
    connection: &Connection,
    find: &'static str,
    id: IdBytes,
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
    let values = (event.to_bytes(), now.as_millisecond());
    if execute(connection, TRY_SOONER, values)? == 0 {
        execute(connection, REQUEUE, values)?;
        execute(connection, REOPEN, values)?;
    }
    hosts::lift(connection, now)?;
    Ok(Redelivery::Queued(event))
}

fn redeliver_dead(
    connection: &Connection,
    owner: Option<ClientId>,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let [requeue, reopen] = if owner.is_some() { OF_CLIENT } else { OF_ALL };
    let values = (
        owner.map(|client| client.0),
        since.as_millisecond(),
        now.as_millisecond(),
    );
    execute(connection, requeue, values)?;
    let queued = execute(connection, reopen, values)?;
    hosts::lift(connection, now)?;
    Ok(queued)
}

/// Returns the statement that lists deliveries. SQLite uses a partial index only for a statement that repeats the
/// index's condition.
pub(super) fn list_statement(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    match query.state {
        DeliveryState::Pending => list_pending(query),
        DeliveryState::Delivered => list_delivered(query),
        DeliveryState::Dead
        | DeliveryState::Expired
        | DeliveryState::Superseded
        | DeliveryState::Cancelled => list_undelivered(query),
    }
}

/// Lists what waits in the outbox, by watch.
fn list_pending(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(listed!(
        "o.next_attempt_at",
        "outbox o CROSS JOIN events e ON e.event_id = o.event_id \
         CROSS JOIN watches w ON w.watch_id = o.watch_id WHERE 1"
    ));
    if let Some(owner) = query.owner {
        statement.push(" AND o.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        statement
            .push(" AND o.watch_id < (SELECT a.watch_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes().to_vec())
            .push(")");
    }
    statement
        .push(" ORDER BY o.watch_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Lists delivered events, by watch. They are found among all events of the watches, of which most are delivered.
fn list_delivered(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(listed!(
        "NULL",
        "watches w CROSS JOIN events e ON e.watch_id = w.watch_id WHERE e.state = 'delivered'"
    ));
    if let Some(owner) = query.owner {
        statement.push(" AND w.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        let id = id.to_bytes().to_vec();
        statement
            .push(" AND w.watch_id <= (SELECT a.watch_id FROM events a WHERE a.event_id = ")
            .push_bind(id.clone())
            .push(") AND (w.watch_id < (SELECT a.watch_id FROM events a WHERE a.event_id = ")
            .push_bind(id.clone())
            .push(") OR e.event_id < ")
            .push_bind(id)
            .push(")");
    }
    statement
        .push(" ORDER BY w.watch_id DESC, e.event_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Lists events that ended undelivered, the latest end first.
fn list_undelivered(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(listed!(
        "NULL",
        "events e CROSS JOIN watches w ON w.watch_id = e.watch_id \
         WHERE e.state IN ('dead', 'expired', 'superseded', 'cancelled') AND e.state = '"
    ));
    statement.push(query.state.as_str()).push("'");
    if let Some(owner) = query.owner {
        statement.push(" AND e.client_id = ").push_bind(owner.0);
    }
    if let Some((updated_at, id)) = query.after {
        statement
            .push(" AND (e.updated_at, e.event_id) < (")
            .push_bind(updated_at.as_millisecond())
            .push(", ")
            .push_bind(id.to_bytes().to_vec())
            .push(")");
    }
    statement
        .push(" ORDER BY e.updated_at DESC, e.event_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}
