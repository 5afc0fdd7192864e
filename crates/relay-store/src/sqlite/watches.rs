//! Watches as their clients see them.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{AuditAct, ClientId, Requester, WatchId, WatchState};
use rusqlite::{Connection, params};
use sqlx::{QueryBuilder, Sqlite};

use crate::{
    AuditEntry, NewWatch, Registration, StoreError, WatchDetails, WatchQuery, WatchStore,
    audit::AuditedAct,
    rows::{IdBytes, int},
    sqlite::{
        SqliteStore,
        counts::WatchCounts,
        details,
        statement::{execute, fetch_optional, scalar, scalars},
    },
};

const STATE: &str = "SELECT watch_id, client_id, state FROM watches WHERE watch_id = ?1";

const CANCEL_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = ?2, \
    settled_at = ?2 WHERE watch_id = ?1 AND settled_at IS NULL";

/// Cancels the events of a watch or of a subscription that were not delivered. A dead one could be queued again.
pub(super) const CANCEL_EVENTS: &str = "UPDATE events SET state = 'cancelled', updated_at = ?2 \
    WHERE source_id = ?1 AND state IN ('pending', 'dead')";

const UNQUEUE: &str = "DELETE FROM outbox WHERE source_id = ?1";

/// Ends the work on the job of a watch, if no watch of the job is open. A look in flight is still recorded, and ends
/// the work itself.
const END_JOB_WITHOUT_WATCH: &str = "DELETE FROM due_jobs \
    WHERE job_no = (SELECT job_no FROM watches WHERE watch_id = ?1) AND lease_id IS NULL AND NOT EXISTS \
    (SELECT 1 FROM watches w WHERE w.job_no = due_jobs.job_no AND w.settled_at IS NULL)";

const OPEN_OF_CLIENT: &str = "SELECT watch_id FROM watches WHERE client_id = ?1 \
    AND state <> 'settled' AND state IN ('watching', 'awaiting-user', 'delayed')";

const QUEUED_OF_CLIENT: &str = "SELECT o.source_id FROM outbox o \
    CROSS JOIN watches w ON w.watch_id = o.source_id WHERE o.client_id = ?1";

#[async_trait]
impl WatchStore for SqliteStore {
    async fn register_watches(&self, new: Vec<NewWatch>) -> Result<Vec<Registration>, StoreError> {
        self.0.registrations.submit(new).await
    }

    async fn find_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
    ) -> Result<Option<WatchDetails>, StoreError> {
        details::find(&mut *self.read().await?, owner, id).await
    }

    async fn list_watches(&self, query: &WatchQuery) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let rows = list(query).build().fetch_all(&mut *view).await?;
        details::with_events(&mut view, &rows).await
    }

    async fn cancel_watch(
        &self,
        by: &Requester,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let owner = by.owner();
        let entry = AuditEntry::of_requester(by, AuditAct::WatchCancelled, id.to_string(), now);
        let act = AuditedAct::new(entry, |changed| *changed == Some(true));
        let cancelled = self.write_act(act, move |connection| {
            cancel_own(connection, owner, id, now)
        });
        Ok(cancelled.await?.is_some())
    }
}

/// Returns the statement that lists watches. SQLite uses the index of unsettled watches only for a statement that
/// repeats the index's condition. Without a client, that index alone finds the watches of a state, and none is read
/// that the list does not return.
pub(super) fn list(query: &WatchQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(details::SELECT);
    statement.push("WHERE 1");
    if let Some(owner) = query.owner {
        statement.push(" AND w.client_id = ").push_bind(owner.0);
    }
    if let Some(job_id) = &query.job_id {
        statement
            .push(" AND w.job_no = (SELECT job_no FROM jobs WHERE job_id = ")
            .push_bind(job_id.to_string())
            .push(")");
    }
    let is_rare = query
        .state
        .is_some_and(|state| state != WatchState::Settled);
    if is_rare && query.owner.is_none() && query.job_id.is_none() {
        statement.push(
            " AND w.watch_id IN (SELECT w.watch_id FROM clients c \
             CROSS JOIN watches w ON w.client_id = c.client_id",
        );
        push_page(&mut statement, query);
        statement.push(")");
    }
    push_page(&mut statement, query);
    statement
}

/// Adds what selects one page of the watches in a state, newest first.
fn push_page(statement: &mut QueryBuilder<Sqlite>, query: &WatchQuery) {
    if let Some(state) = query.state {
        statement.push(" AND w.state = ").push_bind(state.as_str());
        if state != WatchState::Settled {
            statement.push(" AND w.state <> 'settled'");
        }
    }
    if let Some(before) = query.before {
        statement
            .push(" AND w.watch_id < ")
            .push_bind(before.to_bytes().to_vec());
    }
    statement
        .push(" ORDER BY w.watch_id DESC LIMIT ")
        .push_bind(int(query.limit));
}

/// Stops a watch: cancels it if it is open, and cancels its undelivered events in any case. If `owner` is given, only
/// a watch of that client is stopped. Returns whether something changed, or none if there is no such watch.
fn cancel_own(
    connection: &Connection,
    owner: Option<ClientId>,
    id: WatchId,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let found: Option<i64> = scalar(
        connection,
        "SELECT 1 FROM watches WHERE watch_id = ?1 AND client_id = ifnull(?2, client_id)",
        params![id.to_bytes(), owner.map(|client| client.0)],
    )?;
    if found.is_none() {
        return Ok(None);
    }
    stop(connection, id, now).map(Some)
}

/// Cancels a watch if it is open, and its undelivered events.
pub(super) fn cancel(
    connection: &Connection,
    watch: WatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    stop(connection, watch, now).map(drop)
}

/// Cancels a watch if it is open, and its undelivered events. Returns whether the watch or an event changed.
fn stop(connection: &Connection, watch: WatchId, now: Timestamp) -> Result<bool, StoreError> {
    let is_ended = end(connection, CANCEL_WATCH, watch, now)?;
    let id = watch.to_bytes();
    let events = execute(connection, CANCEL_EVENTS, (id, now.as_millisecond()))?;
    execute(connection, UNQUEUE, (id,))?;
    execute(connection, END_JOB_WITHOUT_WATCH, (id,))?;
    Ok(is_ended || events > 0)
}

/// Runs a statement that may cancel this watch, and updates the counts if it did. Returns whether it did.
pub(super) fn end(
    connection: &Connection,
    statement: &'static str,
    watch: WatchId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let id = watch.to_bytes();
    let Some(was) = fetch_optional(connection, STATE, (id,))? else {
        return Ok(false);
    };
    let is_cancelled = execute(connection, statement, (id, now.as_millisecond()))? > 0;
    if is_cancelled {
        let mut counts = WatchCounts::default();
        counts.changes(&was, WatchState::Cancelled.as_str())?;
        counts.write(connection)?;
    }
    Ok(is_cancelled)
}

/// Cancels all open watches of a client and all its pending events. Returns the number of watches.
pub(super) fn cancel_all(
    connection: &Connection,
    client: ClientId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let open: Vec<IdBytes> = scalars(connection, OPEN_OF_CLIENT, (client.0,))?;
    for watch in &open {
        cancel(connection, WatchId::from(*watch), now)?;
    }
    let queued: Vec<IdBytes> = scalars(connection, QUEUED_OF_CLIENT, (client.0,))?;
    for watch in queued {
        cancel(connection, WatchId::from(watch), now)?;
    }
    Ok(u64::try_from(open.len()).unwrap_or(u64::MAX))
}
