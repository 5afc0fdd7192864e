//! Deliveries for the clients' API: list them, and put them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, DeliveryId, DeliveryState, WatchId};
use sqlx::{Postgres, QueryBuilder};

use crate::{
    DeliveryEntry, DeliveryQuery, DeliveryStore, Redelivery, StoreError,
    postgres::{
        PgSession, PgStore, hosts,
        indexes::{each, is_listed, matching, none},
    },
    rows::{self, IdBytes, int},
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

/// Locks a watch, which is named by its id or by an event, so that no look adds an event to it.
pub(super) const LOCK_WATCH: &str = "SELECT watch_id FROM watches WHERE watch_id = \
        coalesce($1::bytea, (SELECT e.watch_id FROM events e WHERE e.event_id = $2)) \
    AND ($3::bigint IS NULL OR client_id = $3) FOR NO KEY UPDATE";

/// Reads what decides whether an event of a watch may be queued again. `$2` is the requested event, if there is one.
pub(super) const LATEST: &str = "SELECT w.watch_id, w.state, $2::bytea AS asked, \
    (SELECT e.event_id FROM events e WHERE e.watch_id = w.watch_id \
        ORDER BY e.event_id DESC LIMIT 1) AS latest, \
    EXISTS (SELECT 1 FROM clients c WHERE c.client_id = w.client_id \
        AND c.revoked_at IS NOT NULL) AS revoked \
    FROM watches w WHERE w.watch_id = $1";

/// Tries a pending event sooner. An event in flight keeps its lease.
pub(super) const TRY_SOONER: &str =
    "UPDATE outbox SET next_attempt_at = $3 WHERE watch_id = $1 AND event_id = $2";

/// Queues ended events again, each in a new round. A deadline that has passed no longer counts. The number of the
/// latest attempt is the last one in the list of attempts: texts in the list cannot contain this pattern.
macro_rules! requeue {
    ($which:expr, $now:literal) => {
        concat!(
            "WITH former AS (SELECT e.event_id, e.state, e.updated_at FROM ",
            $which,
            " FOR NO KEY UPDATE OF e), \
             again AS (UPDATE events e SET state = 'pending', updated_at = ",
            $now,
            ", deadline = CASE WHEN e.deadline <= ",
            $now,
            " THEN NULL ELSE e.deadline END FROM former f WHERE ",
            each!("e.event_id", "f.event_id"),
            " RETURNING e.event_id, e.watch_id, e.client_id, e.deadline, e.attempts, \
                 f.state AS former_state, f.updated_at AS former_change), \
             unlisted AS (DELETE FROM undelivered_events WHERE ",
            matching!("undelivered_events", "again", is_listed!()),
            ") INSERT INTO outbox (watch_id, event_id, client_id, host, next_attempt_at, \
                 pending_since, deadline, attempts) \
             SELECT e.watch_id, e.event_id, e.client_id, \
                 (SELECT w.callback_host FROM watches w WHERE w.watch_id = e.watch_id), ",
            $now,
            ", ",
            $now,
            ", e.deadline, \
                 coalesce(substring(e.attempts from '.*\"number\":([0-9]+)')::bigint, 0) FROM again e"
        )
    };
}

pub(super) const REQUEUE: &str = requeue!("events e WHERE e.event_id = $1", "$2");

/// The dead events of a client, or of all clients, since a time. Of a watch only the latest event is taken.
macro_rules! dead {
    () => {
        concat!(
            "clients c CROSS JOIN LATERAL (SELECT u.event_id FROM undelivered_events u \
                 WHERE u.client_id = c.client_id AND u.state = 'dead' AND u.updated_at >= $1 OFFSET 0) u \
             JOIN events e ON ",
            each!("e.event_id", "u.event_id"),
            " WHERE ($2::bigint IS NULL OR c.client_id = $2) AND c.revoked_at IS NULL \
             AND e.state = 'dead' AND ",
            none!("events n WHERE n.watch_id = e.watch_id AND n.event_id > e.event_id"),
            " AND (SELECT w.state FROM watches w WHERE w.watch_id = e.watch_id) <> 'cancelled'"
        )
    };
}

pub(super) const LOCK_DEAD: &str = concat!(
    "SELECT 1 FROM watches w WHERE w.watch_id = ANY(ARRAY(SELECT e.watch_id FROM ",
    dead!(),
    ")) ORDER BY w.watch_id FOR NO KEY UPDATE"
);

pub(super) const REQUEUE_DEAD: &str = requeue!(dead!(), "$3");

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
        let request = RedeliveryRequest {
            watch: Some(id.to_bytes()),
            event: None,
            owner,
        };
        self.redeliver(request, now).await
    }

    async fn redeliver_one(
        &self,
        owner: Option<ClientId>,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let request = RedeliveryRequest {
            watch: None,
            event: Some(id.to_bytes()),
            owner,
        };
        self.redeliver(request, now).await
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
struct RedeliveryRequest {
    /// The watch whose latest event is requested.
    watch: Option<IdBytes>,
    /// The requested event. It is queued only if it is the latest of its watch.
    event: Option<IdBytes>,
    owner: Option<ClientId>,
}

impl PgStore {
    async fn redeliver(
        &self,
        request: RedeliveryRequest,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let done = self
            .write((request, now), |connection, (request, now)| {
                Box::pin(redeliver(connection, *request, *now))
            })
            .await?;
        self.notify_of_deliveries();
        Ok(done)
    }
}

async fn list(
    connection: &mut PgSession<'_>,
    query: &DeliveryQuery,
) -> Result<Vec<DeliveryEntry>, StoreError> {
    let rows = list_statement(query).build().fetch_all(connection).await?;
    rows.iter().map(|row| rows::entry(row)).collect()
}

/// Queues the latest event of a watch again.
async fn redeliver(
    connection: &mut PgSession<'_>,
    request: RedeliveryRequest,
    now: Timestamp,
) -> Result<Redelivery, StoreError> {
    let watch: Option<IdBytes> = sqlx::query_scalar(LOCK_WATCH)
        .bind(request.watch)
        .bind(request.event)
        .bind(request.owner.map(|client| client.0))
        .fetch_optional(&mut *connection)
        .await?;
    let Some(watch) = watch else {
        return Ok(Redelivery::NotFound);
    };
    let row = sqlx::query(LATEST)
        .bind(watch)
        .bind(request.event)
        .fetch_one(&mut *connection)
        .await?;
    let event = match rows::redeliverable(&row)? {
        Ok(event) => event,
        Err(refused) => return Ok(refused),
    };
    let now_millis = now.as_millisecond();
    let sooner = sqlx::query(TRY_SOONER)
        .bind(watch)
        .bind(event.to_bytes())
        .bind(now_millis)
        .execute(&mut *connection)
        .await?;
    if sooner.rows_affected() == 0 {
        sqlx::query(REQUEUE)
            .bind(event.to_bytes())
            .bind(now_millis)
            .execute(&mut *connection)
            .await?;
    }
    hosts::lift(connection, now).await?;
    Ok(Redelivery::Queued(event))
}

async fn redeliver_dead(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let owner = owner.map(|client| client.0);
    sqlx::query(LOCK_DEAD)
        .bind(since.as_millisecond())
        .bind(owner)
        .execute(&mut *connection)
        .await?;
    let queued = sqlx::query(REQUEUE_DEAD)
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
fn list_pending(query: &DeliveryQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(listed!(
        "o.next_attempt_at",
        "outbox o JOIN events e ON e.event_id = o.event_id \
         JOIN watches w ON w.watch_id = o.watch_id WHERE TRUE"
    ));
    if let Some(owner) = query.owner {
        statement.push(" AND o.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        statement
            .push(" AND o.watch_id < (SELECT a.watch_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes())
            .push(")");
    }
    statement
        .push(" ORDER BY o.watch_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Lists delivered events, by watch. They are found among all events of the watches, of which most are delivered.
fn list_delivered(query: &DeliveryQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(listed!(
        "NULL::bigint",
        "watches w CROSS JOIN LATERAL (SELECT * FROM events e \
         WHERE e.watch_id = w.watch_id AND e.state = 'delivered' OFFSET 0) e WHERE TRUE"
    ));
    if let Some(owner) = query.owner {
        statement.push(" AND w.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        statement
            .push(" AND w.watch_id <= (SELECT a.watch_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes())
            .push(") AND (w.watch_id, e.event_id) < (SELECT a.watch_id, a.event_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes())
            .push(")");
    }
    statement
        .push(" ORDER BY w.watch_id DESC, e.event_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Lists events that ended undelivered, the latest end first: the latest of each client, and the latest of these.
fn list_undelivered(query: &DeliveryQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(listed!(
        "NULL::bigint",
        "(SELECT u.updated_at, u.event_id FROM clients c CROSS JOIN LATERAL \
         (SELECT u.updated_at, u.event_id FROM undelivered_events u \
             WHERE u.client_id = c.client_id AND u.state = "
    ));
    statement.push_bind(query.state.as_str());
    if let Some((updated_at, id)) = query.after {
        statement
            .push(" AND (u.updated_at, u.event_id) < (")
            .push_bind(updated_at.as_millisecond())
            .push(", ")
            .push_bind(id.to_bytes())
            .push(")");
    }
    let newest = " ORDER BY u.updated_at DESC, u.event_id DESC LIMIT ";
    statement
        .push(newest)
        .push_bind(int(query.limit))
        .push(") u");
    if let Some(owner) = query.owner {
        statement.push(" WHERE c.client_id = ").push_bind(owner.0);
    }
    statement.push(newest).push_bind(int(query.limit)).push(
        ") u JOIN events e ON e.event_id = u.event_id \
             JOIN watches w ON w.watch_id = e.watch_id \
             ORDER BY u.updated_at DESC, u.event_id DESC",
    );
    statement
}
