//! Deliveries as their clients see them: lists them, and puts them back in the queue.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{AuditAct, ClientId, DeliveryId, Requester, WatchId};
use rusqlite::{Connection, params};

use crate::{
    AuditEntry, DeliveryEntry, DeliveryQuery, DeliveryStore, Redelivery, StoreError,
    audit::AuditedAct,
    rows::{self, IdBytes},
    sqlite::{
        SqliteStore, delivery_lists, hosts,
        statement::{execute, execute_each, fetch_each, fetch_optional},
    },
};

/// Joins the source of the callback of `events e`: the watch, the subscription or the message of Basiq's.
macro_rules! callback_joins {
    () => {
        " LEFT JOIN watches w ON w.watch_id = e.source_id \
         LEFT JOIN subscriptions s ON e.kind = 'notice' AND s.subscription_id = e.source_id \
         LEFT JOIN messages m ON e.kind = 'message' AND m.event_id = e.event_id "
    };
}
pub(super) use callback_joins;

/// Selects the facts that decide whether an event of a watch may be queued once more.
macro_rules! latest {
    () => {
        "SELECT w.watch_id, w.state, \
         (SELECT max(e.event_id) FROM events e WHERE e.source_id = w.watch_id) AS latest, \
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
    ", a.event_id AS asked FROM events a CROSS JOIN watches w ON w.watch_id = a.source_id \
     WHERE a.event_id = ?1 AND a.client_id = ifnull(?2, a.client_id)"
);

/// Finds a notice or a message of Basiq's that may be queued once more.
pub(super) const FROM_BASIQ: &str = "SELECT e.event_id, e.state, \
    EXISTS (SELECT 1 FROM clients c WHERE c.client_id = e.client_id \
        AND c.revoked_at IS NOT NULL) AS revoked \
    FROM events e WHERE e.event_id = ?1 AND e.kind <> 'job' AND e.client_id = ifnull(?2, e.client_id)";

/// A pending event is only tried sooner. An event in flight keeps its claim.
pub(super) const TRY_SOONER: &str = "UPDATE outbox SET next_attempt_at = ?2 \
    WHERE source_id = (SELECT source_id FROM events WHERE event_id = ?1) AND event_id = ?1";

/// Queues events once more, each in a new round. A deadline that has passed no longer counts. A notice waits if the
/// outbox has another one of its subscription. That one is tried at once, because the other can go only after it.
macro_rules! requeue {
    ($now:literal, $which:expr) => {
        concat!(
            "INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, \
             pending_since, deadline, attempts) \
             SELECT e.source_id, e.event_id, e.client_id, \
                 coalesce(w.callback_host, s.callback_host, m.callback_host), ",
            $now,
            ", ",
            $now,
            ", iif(e.deadline <= ",
            $now,
            ", NULL, e.deadline), ifnull(json_extract(e.attempts, '$[#-1].number'), 0) \
             FROM events e",
            callback_joins!(),
            "WHERE ",
            $which,
            " ORDER BY e.event_id ON CONFLICT (source_id) DO UPDATE SET \
             next_attempt_at = excluded.next_attempt_at"
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
                " AND e.state = 'dead' \
                 AND e.updated_at >= ?2 AND (e.kind <> 'job' OR w.state <> 'cancelled' \
                 AND NOT EXISTS (SELECT 1 FROM events n WHERE n.source_id = e.source_id \
                     AND n.event_id > e.event_id))"
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
            " AND state = 'dead' \
             AND updated_at >= ?2 AND (kind <> 'job' OR EXISTS (SELECT 1 FROM outbox o \
             WHERE o.source_id = events.source_id AND o.event_id = events.event_id))"
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
    reopen_dead!(
        "?1 IS NULL AND NOT EXISTS (SELECT 1 FROM clients c \
         WHERE c.client_id = events.client_id AND c.revoked_at IS NOT NULL)"
    ),
];

/// Finds a dead event that may be queued once more.
pub(super) const SENDABLE: &str = "SELECT e.event_id FROM events e \
    LEFT JOIN watches w ON w.watch_id = e.source_id \
    WHERE e.event_id = ?1 AND e.state || '' = 'dead' \
    AND NOT EXISTS (SELECT 1 FROM clients c WHERE c.client_id = e.client_id \
        AND c.revoked_at IS NOT NULL) \
    AND (e.kind <> 'job' OR w.state <> 'cancelled' AND NOT EXISTS (SELECT 1 FROM events n \
        WHERE n.source_id = e.source_id AND n.event_id > e.event_id))";

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn list_deliveries(
        &self,
        query: &DeliveryQuery,
    ) -> Result<Vec<DeliveryEntry>, StoreError> {
        delivery_lists::list(&mut *self.read().await?, query).await
    }

    async fn redeliver_watch(
        &self,
        by: &Requester,
        id: WatchId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::Redelivered, id.to_string(), now);
        let act = AuditedAct::new(entry, Redelivery::is_queued);
        let (id, owner) = (id.to_bytes(), by.owner());
        self.write_act(act, move |connection| {
            redeliver(connection, LATEST_OF_WATCH, id, owner, now)
        })
        .await
    }

    async fn redeliver_one(
        &self,
        by: &Requester,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Redelivery, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::Redelivered, id.to_string(), now);
        let act = AuditedAct::new(entry, Redelivery::is_queued);
        let (id, owner) = (id.to_bytes(), by.owner());
        self.write_act(act, move |connection| {
            redeliver(connection, LATEST_OF_DELIVERY, id, owner, now)
        })
        .await
    }

    async fn redeliver_dead(
        &self,
        by: &Requester,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::DeadRedelivered, since.to_string(), now);
        let (act, owner) = (AuditedAct::always(entry), by.owner());
        self.write_act(act, move |connection| {
            redeliver_dead(connection, owner, since, now)
        })
        .await
    }
}

/// Queues the latest event of a watch once more, or any event from Basiq. The statement `find` finds it by the id of
/// the watch or of a delivery. A delivery's id only counts if it is that of the latest event.
fn redeliver(
    connection: &Connection,
    find: &'static str,
    id: IdBytes,
    owner: Option<ClientId>,
    now: Timestamp,
) -> Result<Redelivery, StoreError> {
    let row = fetch_optional(connection, find, params![id, owner.map(|client| client.0)])?;
    let found = if let Some(row) = row {
        rows::redeliverable(&row)?
    } else {
        let values = params![id, owner.map(|client| client.0)];
        match fetch_optional(connection, FROM_BASIQ, values)? {
            Some(row) => rows::redeliverable_from_basiq(&row)?,
            None => return Ok(Redelivery::NotFound),
        }
    };
    let event = match found {
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

/// Returns those of these deliveries that may be queued once more.
pub(super) fn filter_redeliverable(
    connection: &Connection,
    ids: &[DeliveryId],
) -> Result<Vec<DeliveryId>, StoreError> {
    let ids = ids.iter().map(|id| (id.to_bytes(),));
    let found = fetch_each(connection, SENDABLE, ids)?;
    let found = found.iter().map(|row| rows::delivery_id(row));
    found.collect()
}

/// Queues those of these deliveries once more that may be, and returns their number.
pub(super) fn redeliver_chosen(
    connection: &Connection,
    ids: &[DeliveryId],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut chosen = filter_redeliverable(connection, ids)?;
    // of the notices of one subscription, the oldest one goes first
    chosen.sort_unstable();
    let at = now.as_millisecond();
    for statement in [REQUEUE, REOPEN] {
        let values = chosen.iter().map(|id| (id.to_bytes(), at));
        execute_each(connection, statement, values)?;
    }
    hosts::lift(connection, now)?;
    Ok(chosen.len() as u64)
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
