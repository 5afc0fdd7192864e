//! Registers watches: one unit of work for a batch of any size.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use relay_domain::WatchId;
use rusqlite::Connection;
use sqlx::SqlitePool;

use crate::{
    DueJob, NewJobs, NewWatch, Registration, StoreError,
    batch::{EachResult, RegisterBatch},
    dispatch::NewWorkClaim,
    rows::{ColumnReader, millis_later},
    rules::{
        DueRow, claimed_jobs, clients_of, decide, due_rows, existing_result, existing_watches,
        memories_by_job, not_there, open_rows, result_of, standings, watch_rows,
    },
    sqlite::{
        counts::WatchCounts,
        details,
        file_health::FileHealth,
        statement::{OwnedRow, execute, execute_each, fetch_each},
        writer::Writer,
    },
};

pub(super) const CLIENTS: &str = "SELECT c.client_id, c.revoked_at IS NOT NULL AS revoked, \
    (SELECT ifnull(sum(n), 0) FROM watch_counts n WHERE n.client_id = c.client_id \
     AND n.state IN ('watching', 'awaiting-user', 'delayed')) AS open \
    FROM clients c WHERE c.client_id = ?1";

pub(super) const OPEN_WATCH: &str = "SELECT ?1 AS place, w.watch_id \
    FROM jobs j CROSS JOIN watches w ON w.job_no = j.job_no \
    AND w.client_id = ?3 AND w.callback_url = ?4 AND w.settled_at IS NULL WHERE j.job_id = ?2";

pub(super) const KNOWN: &str = "SELECT j.job_id, j.job_no, \
    iif(EXISTS (SELECT 1 FROM due_jobs d WHERE d.job_no = j.job_no), NULL, j.memory) AS memory \
    FROM jobs j WHERE j.job_id = ?1";

const ADD_JOB: &str = "INSERT INTO jobs (job_id, memory) VALUES (?1, ?2)";

/// A job that is watched again begins with this memory. One that is being watched keeps its own.
pub(super) const RESUME_JOB: &str = "UPDATE jobs SET memory = ?2 WHERE job_no = ?1 \
    AND NOT EXISTS (SELECT 1 FROM due_jobs d WHERE d.job_no = jobs.job_no)";

pub(super) const MAKE_DUE: &str = "INSERT INTO due_jobs (job_no, next_look_at, urgency, joined, \
    lease_id, lease_until) VALUES (?1, ?2, 0, ?3 IS NULL, ?3, iif(?3 IS NULL, NULL, ?4)) \
    ON CONFLICT (job_no) DO UPDATE SET \
    next_look_at = min(next_look_at, excluded.next_look_at), urgency = 0, joined = 1";

pub(super) const ADD_WATCH: &str = "INSERT INTO watches (watch_id, client_id, job_no, \
    callback_url, callback_host, operation, events, until_step, locale, metadata, state, progress, \
    created_at, updated_at, traceparent, subscription_id) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14, ?15) \
    ON CONFLICT DO NOTHING";

/// Makes a watch that a subscription found the client's own, so that it stays when the subscription ends.
pub(super) const OWN: &str = "UPDATE watches SET subscription_id = NULL \
    WHERE watch_id = ?1 AND subscription_id IS NOT NULL AND settled_at IS NULL";

/// Registers watches on the writer thread, and dispatches new jobs to the tracker.
pub(super) struct SqliteRegistration {
    pub(super) writer: Writer,
    pub(super) readers: SqlitePool,
    pub(super) health: FileHealth,
    pub(super) new_jobs: NewJobs,
}

/// The result of each registration, or the id of the watch that exists already.
type Written = Vec<Result<Registration, WatchId>>;

#[async_trait]
impl RegisterBatch for SqliteRegistration {
    /// The writer begins one batch while the callers of another get their results.
    const AT_ONCE: usize = 2;

    async fn register_all(
        &self,
        new: Arc<[NewWatch]>,
    ) -> Result<EachResult<Registration>, StoreError> {
        self.health.ensure_undamaged()?;
        let (all, dispatch) = (Arc::clone(&new), self.new_jobs.clone());
        let written = self
            .writer
            .write(move |connection| register(connection, &all, &dispatch));
        let (written, claim) = written.await?;
        if let Some(claim) = claim {
            claim.send();
        }
        let mut registered = Vec::with_capacity(written.len());
        for (new, written) in new.iter().zip(written) {
            registered.push(match written {
                Ok(answer) => Ok(answer),
                Err(known) => self.existing_registration(new, known).await,
            });
        }
        Ok(registered)
    }
}

impl SqliteRegistration {
    /// Returns the result of a registration whose watch exists already.
    async fn existing_registration(
        &self,
        new: &NewWatch,
        id: WatchId,
    ) -> Result<Registration, StoreError> {
        self.health.ensure_in_place()?;
        let mut view = self.readers.begin().await?;
        existing_result(
            new,
            details::find(&mut view, Some(new.client_id), id).await?,
        )
    }
}

pub(super) fn register(
    connection: &Connection,
    new: &[NewWatch],
    dispatch: &NewJobs,
) -> Result<(Written, Option<NewWorkClaim<DueJob>>), StoreError> {
    let clients = clients_of(new).into_iter().map(|client| (client,));
    let clients = fetch_each(connection, CLIENTS, clients)?;
    let open = open_watches(connection, new)?;
    let (decisions, fresh) = decide(new, &open, standings(&clients)?);
    let (added, claim) = add(connection, &fresh, dispatch)?;
    let mut written = Vec::with_capacity(new.len());
    for (new, decision) in new.iter().zip(decisions) {
        let known = match result_of(new, decision, &added) {
            Ok(answer) => {
                written.push(Ok(answer));
                continue;
            }
            Err(Some(known)) => known,
            // an earlier registration of this batch created the watch
            Err(None) => only_open_watch(connection, new)?,
        };
        if new.subscription_id.is_none() {
            execute(connection, OWN, (known.to_bytes(),))?;
        }
        written.push(Err(known));
    }
    Ok((written, claim))
}

fn only_open_watch(connection: &Connection, new: &NewWatch) -> Result<WatchId, StoreError> {
    let open = open_watches(connection, std::slice::from_ref(new))?;
    let open = open.into_iter().next().flatten();
    open.ok_or_else(|| not_there(new))
}

/// Finds the open watch of each registration that has one.
fn open_watches(
    connection: &Connection,
    new: &[NewWatch],
) -> Result<Vec<Option<WatchId>>, StoreError> {
    let open = open_rows(new).into_iter().zip(0_i64..);
    let open = open.map(|(open, place)| (place, open.job_id, open.client_id, open.callback_url));
    let rows = fetch_each(connection, OPEN_WATCH, open)?;
    existing_watches(&rows, new.len(), 0)
}

/// Makes jobs due and adds their watches. Returns the ids of the new watches, and the jobs that were claimed at once.
fn add(
    connection: &Connection,
    new: &[&NewWatch],
    dispatch: &NewJobs,
) -> Result<(HashSet<WatchId>, Option<NewWorkClaim<DueJob>>), StoreError> {
    if new.is_empty() {
        return Ok((HashSet::new(), None));
    }
    let jobs = new.iter().map(|new| (new.request.job_id.as_str(),));
    let known_jobs = fetch_each(connection, KNOWN, jobs)?;
    let mut claim = dispatch.claim();
    let jobs = due_rows(new, memories_by_job(&known_jobs)?, claim.as_ref())?;
    let until = claim.as_ref();
    let until = until.map(|claim| millis_later(claim.now, claim.duration));
    let added = add_watches(
        connection,
        new,
        &add_jobs(connection, &jobs, &known_jobs, until)?,
    )?;
    if let Some(claim) = &mut claim {
        let claimed = jobs.into_iter();
        let claimed = claimed.filter_map(|job| Some((job.job_id, job.claimed?.1)));
        claim.claimed = claimed_jobs(new, &added, claimed.collect(), claim.lease);
    }
    Ok((added, claim))
}

/// Makes jobs due, of which some exist already. Returns the numbers of all.
fn add_jobs<'n>(
    connection: &Connection,
    jobs: &[DueRow<'n>],
    known: &[OwnedRow],
    until: Option<i64>,
) -> Result<HashMap<&'n str, i64>, StoreError> {
    let known = known.iter().map(|row| {
        let cells = ColumnReader::of("jobs", "job_id", row);
        Ok((cells.get("job_id")?, cells.get("job_no")?))
    });
    let known: HashMap<&str, i64> = known.collect::<Result<_, StoreError>>()?;
    let mut numbers = HashMap::with_capacity(jobs.len());
    for job in jobs {
        let number = if let Some(number) = known.get(job.job_id) {
            execute(connection, RESUME_JOB, (number, &job.memory))?;
            *number
        } else {
            execute(connection, ADD_JOB, (job.job_id, &job.memory))?;
            connection.last_insert_rowid()
        };
        numbers.insert(job.job_id, number);
    }
    let due = jobs.iter().map(|job| {
        let number = numbers.get(job.job_id);
        (number, job.at, job.lease_id(), until)
    });
    execute_each(connection, MAKE_DUE, due)?;
    Ok(numbers)
}

/// Adds watches of these jobs. Returns the ids of the new ones.
fn add_watches(
    connection: &Connection,
    new: &[&NewWatch],
    jobs: &HashMap<&str, i64>,
) -> Result<HashSet<WatchId>, StoreError> {
    let rows = watch_rows(new)?;
    let values = rows.iter().map(|row| {
        (
            &row.watch_id,
            row.client_id,
            jobs.get(row.job_id),
            row.callback_url,
            row.callback_host,
            row.operation,
            row.events,
            row.until_step,
            row.locale,
            &row.metadata,
            row.state,
            &row.progress,
            row.created_at,
            &row.traceparent,
            row.subscription_id,
        )
    });
    let added = execute_each(connection, ADD_WATCH, values)?;
    let added = rows.into_iter().zip(added).filter(|(_, added)| *added);
    let (mut counts, mut ids) = (WatchCounts::default(), HashSet::new());
    for (row, _) in added {
        counts.comes(row.client_id, row.state);
        ids.insert(WatchId::from(row.watch_id));
    }
    counts.write(connection)?;
    Ok(ids)
}
