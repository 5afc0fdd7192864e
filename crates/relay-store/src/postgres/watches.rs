//! Watches for the clients' API: register, find, list and cancel.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ClientId, WatchId};
use sqlx::{Postgres, QueryBuilder, Row};

use crate::{
    NewWatch, Registration, StoreError, WatchDetails, WatchQuery, WatchStore,
    postgres::{
        PgSession, PgStore, details,
        indexes::{is_open, is_watched, none},
    },
    rows::int,
};

/// Locks jobs. Data that depends on a job is read only after its job is locked.
pub(super) const LOCK_JOBS: &str =
    "SELECT job_id FROM jobs WHERE job_id = ANY($1) ORDER BY job_id FOR UPDATE";

pub(super) const OWN: &str = "SELECT job_id FROM watches WHERE watch_id = $1 \
    AND ($2::bigint IS NULL OR client_id = $2)";

pub(super) const CANCEL_WATCHES: &str = concat!(
    "UPDATE watches SET state = 'cancelled', updated_at = $2, settled_at = $2 \
     WHERE watch_id = ANY($1) AND ",
    is_open!("watches")
);

/// Locks the pending deliveries of watches. A pending delivery has a next attempt, and no other has. The
/// condition on `next_attempt_at` keeps PostgreSQL from searching all pending deliveries.
pub(super) const LOCK_DELIVERIES: &str = "SELECT d.delivery_id \
    FROM unnest($1::text[]) w (watch_id) JOIN deliveries d ON d.watch_id = w.watch_id \
    WHERE d.next_attempt_at IS NOT NULL ORDER BY d.delivery_id FOR UPDATE OF d";

pub(super) const CANCEL_DELIVERIES: &str = "UPDATE deliveries SET state = 'cancelled', \
    next_attempt_at = NULL, updated_at = $2 WHERE watch_id = ANY($1) AND next_attempt_at IS NOT NULL";

pub(super) const REST_JOBS: &str = concat!(
    "UPDATE jobs SET next_look_at = NULL WHERE job_id = ANY($1) AND ",
    is_watched!("jobs"),
    " AND ",
    none!("watches w WHERE w.job_id = jobs.job_id AND w.settled_at IS NULL")
);

pub(super) const OPEN_OF_CLIENT: &str = "SELECT watch_id, job_id FROM watches \
    WHERE client_id = $1 AND state IN ('watching', 'awaiting-user', 'delayed')";

pub(super) const LOCK_OF_CLIENT: &str = "SELECT delivery_id FROM deliveries \
    WHERE client_id = $1 AND state = 'pending' ORDER BY delivery_id FOR UPDATE";

pub(super) const CANCEL_OF_CLIENT: &str = "UPDATE deliveries SET state = 'cancelled', \
    next_attempt_at = NULL, updated_at = $2 WHERE client_id = $1 AND state = 'pending'";

#[async_trait]
impl WatchStore for PgStore {
    async fn register_watches(&self, new: Vec<NewWatch>) -> Result<Vec<Registration>, StoreError> {
        let registered = self.0.registrations.submit(new).await?;
        self.notify_of_registrations(&registered);
        Ok(registered)
    }

    async fn find_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
    ) -> Result<Option<WatchDetails>, StoreError> {
        details::find(&mut self.read().await?.session(), owner, id).await
    }

    async fn list_watches(&self, query: &WatchQuery) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let rows = list(query).build().fetch_all(&mut session).await?;
        details::tell(&mut session, &rows).await
    }

    async fn cancel_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write((owner, id, now), |connection, (owner, id, now)| {
            Box::pin(cancel_own(connection, *owner, *id, *now))
        })
        .await
    }
}

/// Returns the statement that lists watches. Each combination of filters has an index of its own. With a job id,
/// only that id is looked up in an index, because a job has few watches. `+ 0` and `|| ''` keep the other columns
/// from being looked up.
pub(super) fn list(query: &WatchQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(details::SELECT);
    let (owned, in_state) = match query.job_id {
        Some(_) => (" AND w.client_id + 0 = ", " AND w.state || '' = "),
        None => (" AND w.client_id = ", " AND w.state = "),
    };
    statement.push("WHERE TRUE");
    if let Some(owner) = query.owner {
        statement.push(owned).push_bind(owner.0);
    }
    if let Some(job_id) = &query.job_id {
        statement
            .push(" AND w.job_id = ")
            .push_bind(job_id.to_string());
    }
    if let Some(state) = query.state {
        statement.push(in_state).push_bind(state.as_str());
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

/// Cancels a watch if it is open, and its pending deliveries in any case. If an owner is given, the watch must be
/// that client's. Returns false if there is no such watch.
async fn cancel_own(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    id: WatchId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let job_id: Option<String> = sqlx::query_scalar(OWN)
        .bind(id.to_string())
        .bind(owner.map(|client| client.0))
        .fetch_optional(&mut *connection)
        .await?;
    let Some(job_id) = job_id else {
        return Ok(false);
    };
    let jobs = [job_id];
    lock_jobs(connection, &jobs).await?;
    cancel(connection, &[id.to_string()], &jobs, now).await?;
    Ok(true)
}

/// Locks jobs, so that the transaction can read and change data that depends on them.
pub(super) async fn lock_jobs(
    connection: &mut PgSession<'_>,
    jobs: &[String],
) -> Result<(), StoreError> {
    sqlx::query(LOCK_JOBS)
        .bind(jobs)
        .execute(connection)
        .await?;
    Ok(())
}

/// Cancels the open ones among these watches, and the pending deliveries of all of them. The caller has locked
/// their jobs.
pub(super) async fn cancel(
    connection: &mut PgSession<'_>,
    watches: &[String],
    jobs: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(CANCEL_WATCHES)
        .bind(watches)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(LOCK_DELIVERIES)
        .bind(watches)
        .execute(&mut *connection)
        .await?;
    sqlx::query(CANCEL_DELIVERIES)
        .bind(watches)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(REST_JOBS)
        .bind(jobs)
        .execute(connection)
        .await?;
    Ok(())
}

/// Cancels all open watches and pending deliveries of a client, whose row the caller has locked. Returns the
/// number of watches.
pub(super) async fn cancel_all(
    connection: &mut PgSession<'_>,
    client: ClientId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let rows = sqlx::query(OPEN_OF_CLIENT)
        .bind(client.0)
        .fetch_all(&mut *connection)
        .await?;
    let (mut watches, mut jobs) = (Vec::new(), Vec::new());
    for row in &rows {
        watches.push(row.try_get::<String, _>("watch_id")?);
        jobs.push(row.try_get::<String, _>("job_id")?);
    }
    lock_jobs(connection, &jobs).await?;
    cancel(connection, &watches, &jobs, now).await?;
    sqlx::query(LOCK_OF_CLIENT)
        .bind(client.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query(CANCEL_OF_CLIENT)
        .bind(client.0)
        .bind(now.as_millisecond())
        .execute(connection)
        .await?;
    Ok(u64::try_from(watches.len()).unwrap_or(u64::MAX))
}
