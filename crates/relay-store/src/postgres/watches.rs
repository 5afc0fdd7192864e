//! Watches for the clients' API: register, find, list and cancel.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{AuditAct, ClientId, Requester, WatchId, WatchState};
use sqlx::{Postgres, QueryBuilder};

use crate::{
    AuditEntry, NewWatch, Registration, StoreError, WatchDetails, WatchQuery, WatchStore,
    audit::AuditedAct,
    postgres::{
        PgSession, PgStore, details,
        indexes::{each, is_listed, is_open, is_unwatched, matching},
    },
    rows::{IdBytes, int},
};

/// Locks jobs that are watched. Data that depends on a job is read only after its job is locked.
pub(super) const LOCK_JOBS: &str =
    "SELECT job_id FROM due_jobs WHERE job_id = ANY($1) ORDER BY job_id FOR UPDATE";

pub(super) const OWN: &str = "SELECT job_id FROM watches WHERE watch_id = $1 \
    AND ($2::bigint IS NULL OR client_id = $2)";

/// Cancels those of these watches that are open.
pub(super) const CANCEL_WATCHES: &str = concat!(
    "WITH cancelled AS (UPDATE watches SET state = 'cancelled', updated_at = $2, settled_at = $2 \
         WHERE watch_id = ANY($1) AND settled_at IS NULL \
         RETURNING job_id, client_id, callback_url) \
     UPDATE unsettled_watches SET state = 'cancelled' WHERE ",
    matching!("unsettled_watches", "cancelled", is_open!("c"))
);

/// Locks the outbox's rows of watches. All transactions lock them in the order of their events.
pub(super) const LOCK_QUEUED: &str =
    "SELECT 1 FROM outbox WHERE source_id = ANY($1) ORDER BY event_id FOR UPDATE";

/// Locks watches, so that none of their events is queued again meanwhile.
pub(super) const LOCK_WATCHES: &str =
    "SELECT 1 FROM watches WHERE watch_id = ANY($1) ORDER BY watch_id FOR NO KEY UPDATE";

/// Cancels the events of watches or of subscriptions that were not delivered. A dead one could be queued again.
pub(super) const CANCEL_EVENTS: &str = concat!(
    "WITH unqueued AS (DELETE FROM outbox WHERE source_id = ANY($1)), \
     former AS (SELECT event_id, state, updated_at FROM events \
         WHERE source_id = ANY($1) AND state IN ('pending', 'dead') FOR NO KEY UPDATE), \
     ended AS (UPDATE events e SET state = 'cancelled', updated_at = $2 FROM former f WHERE ",
    each!("e.event_id", "f.event_id"),
    " RETURNING e.client_id, e.state, e.updated_at, e.event_id, f.state AS former_state, \
         f.updated_at AS former_change), \
     unlisted AS (DELETE FROM undelivered_events WHERE ",
    matching!(
        "undelivered_events",
        "(SELECT * FROM ended WHERE former_state = 'dead')",
        is_listed!()
    ),
    ") INSERT INTO undelivered_events SELECT client_id, state, updated_at, event_id FROM ended"
);

pub(super) const REST_JOBS: &str = concat!(
    "DELETE FROM due_jobs d WHERE job_id = ANY($1) AND lease_id IS NULL AND ",
    is_unwatched!("d.job_id")
);

/// Returns the open watches of a client, each with its job, and the other watches with a pending event.
pub(super) const ALL_OF_CLIENT: &str = "SELECT watch_id, job_id FROM unsettled_watches \
        WHERE client_id = $1 AND state = ANY ('{watching,awaiting-user,delayed}') \
    UNION ALL SELECT o.source_id, NULL FROM outbox o WHERE o.client_id = $1 \
        AND (SELECT w.settled_at FROM watches w WHERE w.watch_id = o.source_id) IS NOT NULL";

/// The newest watches of each client in a state that few watches have.
const UNSETTLED: &str = " AND w.watch_id = ANY(ARRAY(SELECT u.watch_id FROM clients c \
    CROSS JOIN LATERAL (SELECT u.watch_id FROM unsettled_watches u \
        WHERE u.client_id = c.client_id AND u.state = ";

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
        details::with_events(&mut session, &rows).await
    }

    async fn cancel_watch(
        &self,
        by: &Requester,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::WatchCancelled, id.to_string(), now);
        let act = AuditedAct::new(entry, |changed| *changed == Some(true));
        let input = (by.owner(), id, now);
        let cancelled = self.write_act(act, input, |connection, (owner, id, now)| {
            Box::pin(cancel_own(connection, *owner, *id, *now))
        });
        Ok(cancelled.await?.is_some())
    }
}

/// Returns the statement that lists watches.
pub(super) fn list(query: &WatchQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(details::SELECT);
    statement.push("WHERE TRUE");
    match (query.state, &query.job_id) {
        (Some(state), None) if state != WatchState::Settled => {
            push_unsettled(&mut statement, state, query);
        }
        _ => push_filters(&mut statement, query),
    }
    statement
        .push(" ORDER BY w.watch_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Restricts a list by filters. The watches are found by their job, their client, or their own ids. With a job id,
/// `+ 0` keeps PostgreSQL from searching all watches of the client, because a job has few.
fn push_filters(statement: &mut QueryBuilder<Postgres>, query: &WatchQuery) {
    if let Some(owner) = query.owner {
        let owned = match query.job_id {
            Some(_) => " AND w.client_id + 0 = ",
            None => " AND w.client_id = ",
        };
        statement.push(owned).push_bind(owner.0);
    }
    if let Some(job_id) = &query.job_id {
        statement
            .push(" AND w.job_id = ")
            .push_bind(job_id.to_string());
    }
    if let Some(state) = query.state {
        statement.push(" AND w.state = ").push_bind(state.as_str());
    }
    if let Some(before) = query.before {
        statement
            .push(" AND w.watch_id < ")
            .push_bind(before.to_bytes());
    }
}

/// Restricts a list to the watches in a state that few watches have.
fn push_unsettled(statement: &mut QueryBuilder<Postgres>, state: WatchState, query: &WatchQuery) {
    statement.push(UNSETTLED).push_bind(state.as_str());
    if let Some(before) = query.before {
        statement
            .push(" AND u.watch_id < ")
            .push_bind(before.to_bytes());
    }
    statement
        .push(" ORDER BY u.watch_id DESC LIMIT ")
        .push_bind(int(query.limit))
        .push(") u");
    if let Some(owner) = query.owner {
        statement.push(" WHERE c.client_id = ").push_bind(owner.0);
    }
    statement.push("))");
}

/// Cancels a watch if it is open, and its pending event in any case. If an owner is given, the watch must be
/// that client's. Returns whether something changed, or none if there is no such watch.
async fn cancel_own(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    id: WatchId,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let job_id: Option<String> = sqlx::query_scalar(OWN)
        .bind(id.to_bytes())
        .bind(owner.map(|client| client.0))
        .fetch_optional(&mut *connection)
        .await?;
    let Some(job_id) = job_id else {
        return Ok(None);
    };
    let jobs = [job_id];
    lock_jobs(connection, &jobs).await?;
    let is_changed = cancel(connection, &[id.to_bytes()], &jobs, now).await?;
    Ok(Some(is_changed))
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

/// Cancels the open ones among these watches, and the undelivered events of all of them. The caller has locked their
/// jobs. Returns whether a watch or an event changed.
pub(super) async fn cancel(
    connection: &mut PgSession<'_>,
    watches: &[IdBytes],
    jobs: &[String],
    now: Timestamp,
) -> Result<bool, StoreError> {
    sqlx::query(LOCK_WATCHES)
        .bind(watches)
        .execute(&mut *connection)
        .await?;
    let cancelled = sqlx::query(CANCEL_WATCHES)
        .bind(watches)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(LOCK_QUEUED)
        .bind(watches)
        .execute(&mut *connection)
        .await?;
    let events = sqlx::query(CANCEL_EVENTS)
        .bind(watches)
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(REST_JOBS)
        .bind(jobs)
        .execute(connection)
        .await?;
    Ok(cancelled.rows_affected() + events.rows_affected() > 0)
}

/// Cancels all open watches and pending events of a client, whose row the caller has locked. Returns the number of
/// watches.
pub(super) async fn cancel_all(
    connection: &mut PgSession<'_>,
    client: ClientId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let all: Vec<(IdBytes, Option<String>)> = sqlx::query_as(ALL_OF_CLIENT)
        .bind(client.0)
        .fetch_all(&mut *connection)
        .await?;
    let (watches, jobs): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let jobs: Vec<String> = jobs.into_iter().flatten().collect();
    lock_jobs(connection, &jobs).await?;
    cancel(connection, &watches, &jobs, now).await?;
    Ok(u64::try_from(jobs.len()).unwrap_or(u64::MAX))
}
