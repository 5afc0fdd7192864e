//! Deliveries for the clients' API: list them, and put them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{AuditAct, ClientId, DeliveryId, EventId, Requester, WatchId};
use sqlx::Row;

use crate::{
    AuditEntry, DeliveryEntry, DeliveryQuery, DeliveryStore, Redelivery, StoreError,
    audit::AuditedAct,
    postgres::{
        PgSession, PgStore, delivery_lists, hosts,
        indexes::{each, is_listed, matching, none},
        row::columns,
    },
    rows::{self, IdBytes},
};

/// Locks a watch, which is named by its id or by an event, so that no look adds an event to it.
pub(super) const LOCK_WATCH: &str = "SELECT watch_id FROM watches WHERE watch_id = \
        coalesce($1::bytea, (SELECT e.source_id FROM events e WHERE e.event_id = $2)) \
    AND ($3::bigint IS NULL OR client_id = $3) FOR NO KEY UPDATE";

/// Reads what decides whether an event of a watch may be queued again. `$2` is the requested event, if there is one.
pub(super) const LATEST: &str = "SELECT w.watch_id, w.state, $2::bytea AS asked, \
    (SELECT e.event_id FROM events e WHERE e.source_id = w.watch_id \
        ORDER BY e.event_id DESC LIMIT 1) AS latest, \
    EXISTS (SELECT 1 FROM clients c WHERE c.client_id = w.client_id \
        AND c.revoked_at IS NOT NULL) AS revoked \
    FROM watches w WHERE w.watch_id = $1";

/// Finds a notice or a message of Basiq's that may be queued again, and locks its subscription.
pub(super) const FROM_BASIQ: &str = "SELECT e.event_id, e.source_id, e.state, \
    EXISTS (SELECT 1 FROM clients c WHERE c.client_id = e.client_id \
        AND c.revoked_at IS NOT NULL) AS revoked \
    FROM events e LEFT JOIN LATERAL (SELECT 1 FROM subscriptions s \
        WHERE s.subscription_id = e.source_id FOR NO KEY UPDATE) s ON TRUE \
    WHERE e.event_id = $1 AND e.kind || '' <> 'job' AND ($2::bigint IS NULL OR e.client_id = $2)";

/// Tries a pending event sooner. An event in flight keeps its lease.
pub(super) const TRY_SOONER: &str =
    "UPDATE outbox SET next_attempt_at = $3 WHERE source_id = $1 AND event_id = $2";

/// Queues ended events again, each in a new round. A deadline that has passed no longer counts. The number of the
/// latest attempt is the last one in the list of attempts: texts in the list cannot contain this pattern. A notice
/// waits if the outbox has another one of its subscription. That one is tried at once, because the other can go only
/// after it.
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
            " RETURNING e.event_id, e.source_id, e.client_id, e.deadline, e.attempts, \
                 f.state AS former_state, f.updated_at AS former_change), \
             unlisted AS (DELETE FROM undelivered_events WHERE ",
            matching!("undelivered_events", "again", is_listed!()),
            "), sooner AS (UPDATE outbox o SET next_attempt_at = ",
            $now,
            " FROM again a WHERE ",
            each!("o.source_id", "a.source_id"),
            "), queued AS (INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, \
                 pending_since, deadline, attempts) \
             SELECT e.source_id, e.event_id, e.client_id, \
                 coalesce((SELECT w.callback_host FROM watches w WHERE w.watch_id = e.source_id), \
                     (SELECT s.callback_host FROM subscriptions s WHERE s.subscription_id = e.source_id), \
                     (SELECT m.callback_host FROM messages m WHERE m.event_id = e.event_id)), ",
            $now,
            ", ",
            $now,
            ", e.deadline, \
                 coalesce(substring(e.attempts from '.*\"number\":([0-9]+)')::bigint, 0) FROM again e \
             ORDER BY e.event_id ON CONFLICT (source_id) DO NOTHING) SELECT count(*) FROM again"
        )
    };
}

pub(super) const REQUEUE: &str = requeue!("events e WHERE e.event_id = $1", "$2");

/// The dead events of a client, or of all clients and of none, since a time. Of a watch only the latest event is taken.
macro_rules! dead {
    () => {
        concat!(
            "(SELECT client_id, revoked_at FROM clients UNION ALL SELECT 0, NULL) c \
             CROSS JOIN LATERAL (SELECT u.event_id FROM undelivered_events u \
                 WHERE u.client_id = c.client_id AND u.state = 'dead' AND u.updated_at >= $1 OFFSET 0) u \
             JOIN events e ON ",
            each!("e.event_id", "u.event_id"),
            " WHERE ($2::bigint IS NULL OR c.client_id = $2) AND c.revoked_at IS NULL \
             AND e.state = 'dead' AND (e.kind <> 'job' OR ",
            none!("events n WHERE n.source_id = e.source_id AND n.event_id > e.event_id"),
            " AND (SELECT w.state FROM watches w WHERE w.watch_id = e.source_id) <> 'cancelled')"
        )
    };
}

pub(super) const LOCK_DEAD: &str = concat!(
    "SELECT 1 FROM watches w WHERE w.watch_id = ANY(ARRAY(SELECT e.source_id FROM ",
    dead!(),
    ")) ORDER BY w.watch_id FOR NO KEY UPDATE"
);

pub(super) const LOCK_DEAD_SUBSCRIPTIONS: &str = concat!(
    "SELECT 1 FROM subscriptions s WHERE s.subscription_id = ANY(ARRAY(SELECT e.source_id FROM ",
    dead!(),
    " AND e.kind = 'notice' AND c.client_id > 0)) ORDER BY s.subscription_id FOR NO KEY UPDATE"
);

pub(super) const REQUEUE_DEAD: &str = requeue!(dead!(), "$3");

/// Those of the events `$1` that are dead and may be queued again.
macro_rules! chosen {
    () => {
        concat!(
            "events e WHERE e.event_id = ANY($1) AND e.state = 'dead' AND ",
            none!("clients c WHERE c.client_id = e.client_id AND c.revoked_at IS NOT NULL"),
            " AND (e.kind <> 'job' OR ",
            none!("events n WHERE n.source_id = e.source_id AND n.event_id > e.event_id"),
            " AND (SELECT w.state FROM watches w WHERE w.watch_id = e.source_id) <> 'cancelled')"
        )
    };
}

pub(super) const SENDABLE: &str = concat!("SELECT e.event_id FROM ", chosen!());

pub(super) const LOCK_CHOSEN: &str = concat!(
    "SELECT 1 FROM watches w WHERE w.watch_id = ANY(ARRAY(SELECT e.source_id FROM ",
    chosen!(),
    ")) ORDER BY w.watch_id FOR NO KEY UPDATE"
);

pub(super) const LOCK_CHOSEN_SUBSCRIPTIONS: &str = concat!(
    "SELECT 1 FROM subscriptions s WHERE s.subscription_id = ANY(ARRAY(SELECT e.source_id FROM ",
    chosen!(),
    " AND e.kind || '' = 'notice')) ORDER BY s.subscription_id FOR NO KEY UPDATE"
);

pub(super) const REQUEUE_CHOSEN: &str = requeue!(chosen!(), "$2");

#[async_trait]
impl DeliveryStore for PgStore {
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError> {
        delivery_lists::list(&mut self.read().await?.session(), query).await
    }

    async fn redeliver_watch(
        &self,
        by: &Requester,
        id: WatchId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::Redelivered, id.to_string(), now);
        let act = AuditedAct::new(entry, Redelivery::is_queued);
        let request = RedeliveryRequest {
            watch: Some(id.to_bytes()),
            event: None,
            owner: by.owner(),
        };
        self.redeliver(act, request, now).await
    }

    async fn redeliver_one(
        &self,
        by: &Requester,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::Redelivered, id.to_string(), now);
        let act = AuditedAct::new(entry, Redelivery::is_queued);
        let request = RedeliveryRequest {
            watch: None,
            event: Some(id.to_bytes()),
            owner: by.owner(),
        };
        self.redeliver(act, request, now).await
    }

    async fn redeliver_dead(
        &self,
        by: &Requester,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::DeadRedelivered, since.to_string(), now);
        let (act, input) = (AuditedAct::always(entry), (by.owner(), since, now));
        let queued = self
            .write_act(act, input, |connection, (owner, since, now)| {
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
        act: AuditedAct<Redelivery>,
        request: RedeliveryRequest,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let done = self
            .write_act(act, (request, now), |connection, (request, now)| {
                Box::pin(redeliver(connection, *request, *now))
            })
            .await?;
        self.notify_of_deliveries();
        Ok(done)
    }
}

/// Queues the latest event of a watch again, or any event from Basiq.
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
    let found = match watch {
        Some(watch) => latest_of_watch(connection, watch, request).await?,
        None => event_from_basiq(connection, request).await?,
    };
    let Some(FoundEvent { source, event }) = found else {
        return Ok(Redelivery::NotFound);
    };
    let event = match event {
        Ok(event) => event,
        Err(refused) => return Ok(refused),
    };
    let now_millis = now.as_millisecond();
    let sooner = sqlx::query(TRY_SOONER)
        .bind(source)
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

/// An event that is asked for again.
struct FoundEvent {
    source: IdBytes,
    /// The event to queue, or why it cannot be queued.
    event: Result<EventId, Redelivery>,
}

async fn latest_of_watch(
    connection: &mut PgSession<'_>,
    watch: IdBytes,
    request: RedeliveryRequest,
) -> Result<Option<FoundEvent>, StoreError> {
    let row = sqlx::query(LATEST)
        .bind(watch)
        .bind(request.event)
        .fetch_one(connection)
        .await?;
    Ok(Some(FoundEvent {
        source: watch,
        event: rows::redeliverable(&row)?,
    }))
}

async fn event_from_basiq(
    connection: &mut PgSession<'_>,
    request: RedeliveryRequest,
) -> Result<Option<FoundEvent>, StoreError> {
    let row = sqlx::query(FROM_BASIQ)
        .bind(request.event)
        .bind(request.owner.map(|client| client.0))
        .fetch_optional(connection)
        .await?;
    let found = row.map(|row| {
        Ok(FoundEvent {
            source: row.try_get("source_id")?,
            event: rows::redeliverable_from_basiq(&row)?,
        })
    });
    found.transpose()
}

/// Returns those of these deliveries that may be queued again.
pub(super) async fn filter_redeliverable(
    connection: &mut PgSession<'_>,
    ids: &[DeliveryId],
) -> Result<Vec<DeliveryId>, StoreError> {
    let rows = sqlx::query(SENDABLE)
        .bind(columns(ids, |id| id.to_bytes()))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| rows::delivery_id(row)).collect()
}

/// Queues those of these deliveries again that may be, and returns their number.
pub(super) async fn redeliver_chosen(
    connection: &mut PgSession<'_>,
    ids: &[DeliveryId],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let ids = columns(ids, |id| id.to_bytes());
    for lock in [LOCK_CHOSEN_SUBSCRIPTIONS, LOCK_CHOSEN] {
        let lock = sqlx::query(lock).bind(&ids);
        lock.execute(&mut *connection).await?;
    }
    let queued: i64 = sqlx::query_scalar(REQUEUE_CHOSEN)
        .bind(&ids)
        .bind(now.as_millisecond())
        .fetch_one(&mut *connection)
        .await?;
    hosts::lift(connection, now).await?;
    Ok(u64::try_from(queued).unwrap_or(0))
}

async fn redeliver_dead(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let owner = owner.map(|client| client.0);
    for lock in [LOCK_DEAD_SUBSCRIPTIONS, LOCK_DEAD] {
        sqlx::query(lock)
            .bind(since.as_millisecond())
            .bind(owner)
            .execute(&mut *connection)
            .await?;
    }
    let queued: i64 = sqlx::query_scalar(REQUEUE_DEAD)
        .bind(since.as_millisecond())
        .bind(owner)
        .bind(now.as_millisecond())
        .fetch_one(&mut *connection)
        .await?;
    hosts::lift(connection, now).await?;
    Ok(u64::try_from(queued).unwrap_or(0))
}
