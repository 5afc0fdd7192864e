//! Registers watches in one transaction, however many there are.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use relay_domain::{WatchId, WatchState};

use crate::{
    DueJob, NewJobs, NewWatch, Permit, Registration, StoreError,
    batch::{EachResult, RegisterBatch},
    dispatch::NewWorkClaim,
    error::collision,
    postgres::{
        LeaseClock, PgSession,
        clock::claim_now,
        details,
        indexes::{among, is_open, none},
        pool::ConnectionPool,
        row::columns,
    },
    rows::{IdBytes, millis},
    rules::{
        ClientStandings, DueRow, claimed_jobs, clients_of, decide, due_rows, existing_result,
        existing_watches, is_near_cap, memories_by_job, open_rows, result_of, standings,
        watch_rows,
    },
};

/// How many watches below its cap a client is when its row starts to be locked exclusively. Transactions then count
/// the watches of that client one after the other. The same holds for subscriptions.
pub(super) const NEAR_CAP: u64 = 2048;

/// Locks clients in share mode. A client cannot be revoked while its row is locked.
pub(super) const SHARE_CLIENTS: &str =
    "SELECT 1 FROM clients WHERE client_id = ANY($1) ORDER BY client_id FOR SHARE";

pub(super) const LOCK_CLIENTS: &str =
    "SELECT 1 FROM clients WHERE client_id = ANY($1) ORDER BY client_id FOR NO KEY UPDATE";

pub(super) const CLIENTS: &str = "SELECT c.client_id, c.revoked_at IS NOT NULL AS revoked, \
    (SELECT coalesce(sum(n), 0)::bigint FROM watch_counts n WHERE n.client_id = c.client_id \
     AND n.state IN ('watching', 'awaiting-user', 'delayed')) AS open \
    FROM clients c WHERE c.client_id = ANY($1)";

/// Finds the open watch with the same job, client and URL.
pub(super) const OPEN_WATCHES: &str = concat!(
    "SELECT q.place, w.watch_id \
     FROM unnest($1::text[], $2::bigint[], $3::text[]) WITH ORDINALITY \
         q (job_id, client_id, callback_url, place) \
     CROSS JOIN LATERAL (SELECT t.watch_id FROM unsettled_watches t WHERE ",
    is_open!("q"),
    " OFFSET 0) w"
);

/// Locks and returns the jobs that no watch is open for. A job that another transaction registers or deletes now is
/// left out.
pub(super) const RESTING: &str = concat!(
    "SELECT job_id, memory FROM jobs WHERE job_id = ANY($1) AND ",
    none!("due_jobs d WHERE d.job_id = jobs.job_id"),
    " ORDER BY job_id FOR NO KEY UPDATE SKIP LOCKED"
);

/// Adds jobs, or makes existing ones due. A job that is watched already keeps its lease and its memory. The returned
/// lease shows which jobs this transaction claimed as it added them. `xmax` is 0 in a row that was added, not updated.
pub(super) const ADD_JOBS: &str = concat!(
    "WITH due AS (INSERT INTO due_jobs AS d (job_id, next_look_at, urgency, joined, lease_id, lease_until) \
     SELECT job_id, at, 0, lease_id IS NULL, lease_id, CASE WHEN lease_id IS NOT NULL THEN ",
    claim_now!("$5"),
    " + $6 END FROM unnest($1::text[], $2::bigint[], $4::bytea[]) n (job_id, at, lease_id) \
     ON CONFLICT (job_id) DO UPDATE SET \
         next_look_at = least(d.next_look_at, excluded.next_look_at), urgency = 0, joined = TRUE \
     RETURNING d.job_id, d.lease_id, d.xmax = 0 AS is_new), \
     known AS (INSERT INTO jobs (job_id, memory) \
     SELECT job_id, memory FROM unnest($1::text[], $3::text[]) n (job_id, memory) WHERE ",
    among!("n.job_id", "SELECT d.job_id FROM due d WHERE d.is_new"),
    " ON CONFLICT (job_id) DO UPDATE SET memory = excluded.memory) \
     SELECT job_id, lease_id FROM due"
);

/// Adds watches, except those that repeat an open one.
pub(super) const ADD_WATCHES: &str = concat!(
    "WITH new AS (SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::text[], $5::text[], \
         $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], \
         $13::bigint[], $14::text[], $15::bytea[]) \
         n (watch_id, client_id, job_id, callback_url, callback_host, operation, events, \
            until_step, locale, metadata, state, progress, created_at, traceparent, subscription_id)), \
     open AS (INSERT INTO unsettled_watches (watch_id, client_id, job_id, url_hash, state) \
         SELECT watch_id, client_id, job_id, decode(md5(callback_url), 'hex'), state FROM new \
         ON CONFLICT DO NOTHING RETURNING watch_id) \
     INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, operation, \
         events, until_step, locale, metadata, state, progress, created_at, traceparent, subscription_id, updated_at) \
     SELECT *, created_at FROM new WHERE ",
    among!("new.watch_id", "SELECT watch_id FROM open"),
    " RETURNING watch_id"
);

/// Makes a watch that a subscription found the client's own, so that it stays when the subscription ends.
pub(super) const OWN: &str = "UPDATE watches SET subscription_id = NULL \
    WHERE watch_id = $1 AND subscription_id IS NOT NULL AND settled_at IS NULL";

/// Registers watches in the database, and dispatches new jobs to the tracker.
pub(super) struct PostgresRegistration {
    pub(super) pool: ConnectionPool,
    pub(super) lease_clock: LeaseClock,
    pub(super) new_jobs: NewJobs,
}

/// What a transaction needs to claim new jobs for the tracker.
#[derive(Clone, Copy)]
pub(super) struct JobDispatchContext<'d> {
    /// The dispatch to the tracker.
    pub(super) dispatch: &'d NewJobs,
    /// The clock that claims are judged by.
    pub(super) lease_clock: LeaseClock,
}

#[async_trait]
impl RegisterBatch for PostgresRegistration {
    const AT_ONCE: usize = 1;

    async fn register_all(
        &self,
        new: Arc<[NewWatch]>,
    ) -> Result<EachResult<Registration>, StoreError> {
        let context = JobDispatchContext {
            dispatch: &self.new_jobs,
            lease_clock: self.lease_clock,
        };
        for lock in [SHARE_CLIENTS, LOCK_CLIENTS] {
            let registered = self
                .pool
                .write(
                    (&*new, lock, context),
                    |connection, (new, lock, context)| {
                        Box::pin(register(connection, new, lock, *context))
                    },
                )
                .await?;
            if let Some((answers, claim)) = registered {
                if let Some(claim) = claim {
                    claim.send();
                }
                return Ok(answers.into_iter().map(Ok).collect());
            }
        }
        Ok(Vec::new())
    }
}

/// Registers watches. Returns `None` if a client is so close to its cap that its row must be locked exclusively.
pub(super) async fn register(
    connection: &mut PgSession<'_>,
    new: &[NewWatch],
    lock: &'static str,
    context: JobDispatchContext<'_>,
) -> Result<Option<(Vec<Registration>, Option<NewWorkClaim<DueJob>>)>, StoreError> {
    if new.is_empty() {
        return Ok(Some((Vec::new(), None)));
    }
    let clients = clients(connection, new, lock).await?;
    if lock == SHARE_CLIENTS && is_near_cap(new, &clients, NEAR_CAP) {
        return Ok(None);
    }
    let (decisions, fresh) = decide(new, &open_watches(connection, new).await?, clients);
    let (added, claim) = add(connection, &fresh, context).await?;
    let mut answers = Vec::with_capacity(new.len());
    for (new, decision) in new.iter().zip(decisions) {
        answers.push(match result_of(new, decision, &added) {
            Ok(answer) => answer,
            Err(known) => existing(connection, new, known).await?,
        });
    }
    Ok(Some((answers, claim)))
}

/// Returns the result of a registration whose watch exists already. Without its id, another relay or another entry of the
/// batch registered it first. If it was cancelled meanwhile, the transaction runs again, and registers the watch afresh.
async fn existing(
    connection: &mut PgSession<'_>,
    new: &NewWatch,
    known: Option<WatchId>,
) -> Result<Registration, StoreError> {
    let id = match known {
        Some(id) => Some(id),
        None => open_watches(connection, std::slice::from_ref(new))
            .await?
            .pop()
            .flatten(),
    };
    let Some(id) = id else {
        return existing_result(new, None);
    };
    if new.subscription_id.is_none() {
        sqlx::query(OWN)
            .bind(id.to_bytes())
            .execute(&mut *connection)
            .await?;
    }
    let details = details::find(connection, Some(new.client_id), id).await?;
    if details
        .as_ref()
        .is_some_and(|details| details.watch.state == WatchState::Cancelled)
    {
        return Err(collision("the watch was cancelled meanwhile"));
    }
    existing_result(new, details)
}

async fn clients(
    connection: &mut PgSession<'_>,
    new: &[NewWatch],
    lock: &'static str,
) -> Result<ClientStandings, StoreError> {
    let ids = clients_of(new);
    sqlx::query(lock)
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query(CLIENTS).bind(&ids).fetch_all(connection);
    standings(&rows.await?)
}

/// Returns the open watch that each registration repeats, if there is one.
async fn open_watches(
    connection: &mut PgSession<'_>,
    new: &[NewWatch],
) -> Result<Vec<Option<WatchId>>, StoreError> {
    let open = open_rows(new);
    let rows = sqlx::query(OPEN_WATCHES)
        .bind(columns(&open, |row| row.job_id))
        .bind(columns(&open, |row| row.client_id))
        .bind(columns(&open, |row| row.callback_url))
        .fetch_all(connection)
        .await?;
    existing_watches(&rows, new.len(), 1)
}

/// Makes jobs due and adds their watches. Returns the watches that are new, and the jobs that were claimed at
/// once.
async fn add(
    connection: &mut PgSession<'_>,
    new: &[&NewWatch],
    context: JobDispatchContext<'_>,
) -> Result<(HashSet<WatchId>, Option<NewWorkClaim<DueJob>>), StoreError> {
    if new.is_empty() {
        return Ok((HashSet::new(), None));
    }
    let mut claim = context.dispatch.claim();
    let permits = add_jobs(connection, new, claim.as_ref(), context.lease_clock).await?;
    let rows = watch_rows(new)?;
    let added: Vec<IdBytes> = sqlx::query_scalar(ADD_WATCHES)
        .bind(columns(&rows, |row| row.watch_id))
        .bind(columns(&rows, |row| row.client_id))
        .bind(columns(&rows, |row| row.job_id))
        .bind(columns(&rows, |row| row.callback_url))
        .bind(columns(&rows, |row| row.callback_host))
        .bind(columns(&rows, |row| row.operation))
        .bind(columns(&rows, |row| row.events))
        .bind(columns(&rows, |row| row.until_step))
        .bind(columns(&rows, |row| row.locale))
        .bind(columns(&rows, |row| row.metadata.as_str()))
        .bind(columns(&rows, |row| row.state))
        .bind(columns(&rows, |row| row.progress.as_str()))
        .bind(columns(&rows, |row| row.created_at))
        .bind(columns(&rows, |row| row.traceparent.as_deref()))
        .bind(columns(&rows, |row| row.subscription_id))
        .fetch_all(connection)
        .await?;
    let added = added.into_iter().map(WatchId::from).collect();
    if let Some(claim) = &mut claim {
        claim.claimed = claimed_jobs(new, &added, permits, claim.lease);
    }
    Ok((added, claim))
}

/// Makes jobs due. Returns the permits of the jobs that were claimed as they were added.
async fn add_jobs<'n>(
    connection: &mut PgSession<'_>,
    new: &[&'n NewWatch],
    claim: Option<&NewWorkClaim<DueJob>>,
    lease_clock: LeaseClock,
) -> Result<HashMap<&'n str, Permit>, StoreError> {
    let jobs: Vec<_> = new.iter().map(|new| new.request.job_id.as_str()).collect();
    let resting = sqlx::query(RESTING)
        .bind(jobs)
        .fetch_all(&mut *connection)
        .await?;
    let rows = due_rows(new, memories_by_job(&resting)?, claim)?;
    let leases: Vec<(String, Option<IdBytes>)> = sqlx::query_as(ADD_JOBS)
        .bind(columns(&rows, |row| row.job_id))
        .bind(columns(&rows, |row| row.at))
        .bind(columns(&rows, |row| row.memory.as_str()))
        .bind(columns(&rows, DueRow::lease_id))
        .bind(claim.and_then(|claim| lease_clock.now(claim.now)))
        .bind(claim.map(|claim| millis(claim.duration)))
        .fetch_all(connection)
        .await?;
    let ours = claim.map(|claim| claim.lease.to_bytes());
    let claimed: HashSet<&str> = leases
        .iter()
        .filter(|(_, lease)| lease.is_some() && *lease == ours)
        .map(|(job, _)| job.as_str())
        .collect();
    let claimed = rows.into_iter().filter(|row| claimed.contains(row.job_id));
    Ok(claimed
        .filter_map(|row| Some((row.job_id, row.claimed?.1)))
        .collect())
}
