//! Watches as their clients see them.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, WatchId, WatchState};
use rusqlite::{Connection, params};
use sqlx::{QueryBuilder, Sqlite};

use crate::{
    NewWatch, Registration, StoreError, WatchDetails, WatchQuery, WatchStore,
    rows::{ColumnReader, int},
    sqlite::{
        SqliteStore,
        counts::WatchCounts,
        details,
        statement::{execute, fetch_all, fetch_optional, scalar},
    },
};

const STATE: &str = "SELECT watch_id, client_id, state FROM watches WHERE watch_id = ?1";

const CANCEL_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = ?2, \
    settled_at = ?2 WHERE watch_id = ?1 AND settled_at IS NULL";

const CANCEL_DELIVERIES: &str = "UPDATE deliveries SET state = 'cancelled', \
    next_attempt_at = NULL, updated_at = ?2 WHERE watch_id = ?1 AND state = 'pending'";

const REST_JOB: &str = "UPDATE jobs SET next_look_at = NULL \
    WHERE job_no = (SELECT job_no FROM watches WHERE watch_id = ?1) AND NOT EXISTS \
    (SELECT 1 FROM watches w WHERE w.job_no = jobs.job_no AND w.settled_at IS NULL)";

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
        details::tell(&mut view, &rows).await
    }

    async fn cancel_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| cancel_own(connection, owner, id, now))
            .await
    }
}

/// Returns the statement that lists watches. Each combination of filters has an index of its own.
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
    if let Some(state) = query.state {
        statement.push(" AND w.state = ").push_bind(state.as_str());
    }
    if let Some(before) = query.before {
        statement
            .push(" AND w.watch_id < ")
            .push_bind(before.to_string());
    }
    statement
        .push(" ORDER BY w.watch_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Stops a watch: cancels it if it is open, and cancels its pending deliveries in any case. If `owner` is given, only
/// a watch of that client is stopped. Returns whether there is such a watch.
fn cancel_own(
    connection: &Connection,
    owner: Option<ClientId>,
    id: WatchId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let found: Option<i64> = scalar(
        connection,
        "SELECT 1 FROM watches WHERE watch_id = ?1 AND client_id = ifnull(?2, client_id)",
        params![id.to_string(), owner.map(|client| client.0)],
    )?;
    if found.is_none() {
        return Ok(false);
    }
    cancel(connection, &id.to_string(), now)?;
    Ok(true)
}

/// Cancels a watch if it is open, and its pending deliveries.
pub(super) fn cancel(
    connection: &Connection,
    watch_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    end(connection, CANCEL_WATCH, watch_id, now)?;
    let values = params![watch_id, now.as_millisecond()];
    execute(connection, CANCEL_DELIVERIES, values)?;
    execute(connection, REST_JOB, params![watch_id])?;
    Ok(())
}

/// Runs a statement that may cancel this watch, and updates the counts if it did.
pub(super) fn end(
    connection: &Connection,
    statement: &'static str,
    watch_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(was) = fetch_optional(connection, STATE, params![watch_id])? else {
        return Ok(());
    };
    if execute(
        connection,
        statement,
        params![watch_id, now.as_millisecond()],
    )? > 0
    {
        let mut counts = WatchCounts::default();
        counts.changes(&was, WatchState::Cancelled.as_str())?;
        counts.write(connection)?;
    }
    Ok(())
}

/// Cancels all open watches of a client and all its pending deliveries. Returns the number of watches.
pub(super) fn cancel_all(
    connection: &Connection,
    client: ClientId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let open = fetch_all(
        connection,
        "SELECT watch_id FROM watches WHERE client_id = ?1 \
         AND state IN ('watching', 'awaiting-user', 'delayed')",
        params![client.0],
    )?;
    let mut cancelled = 0;
    for row in &open {
        let watch = ColumnReader::of("watches", "watch_id", row);
        cancel(connection, watch.get("watch_id")?, now)?;
        cancelled += 1;
    }
    execute(
        connection,
        "UPDATE deliveries SET state = 'cancelled', next_attempt_at = NULL, updated_at = ?2 \
         WHERE client_id = ?1 AND state = 'pending'",
        params![client.0, now.as_millisecond()],
    )?;
    Ok(cancelled)
}
