//! Watches to register, in one unit of work however many they are.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use rusqlite::{Connection, params};
use sqlx::SqlitePool;

use crate::{
    domain::{LeaseId, WatchId},
    store::{
        DueJob, NewJobs, NewWatch, Registration, StoreError,
        common::{
            Registered, Registers, answer, claimed_jobs, clients_of, decide, due_rows, existing,
            found, known, later, not_there, open_rows, standings, watch_rows,
        },
        hand_over::Handed,
        sqlite::{
            row::{json_list, json_rows},
            statement::{execute, fetch_all, scalars},
            stories,
            writer::Writer,
        },
    },
};

pub(super) const CLIENTS: &str = "SELECT c.client_id, c.revoked_at IS NOT NULL AS revoked, \
    (SELECT ifnull(sum(n), 0) FROM watch_counts n WHERE n.client_id = c.client_id \
     AND n.state IN ('watching', 'awaiting-user', 'delayed')) AS open \
    FROM json_each(?1) i CROSS JOIN clients c ON c.client_id = i.value";

pub(super) const OPEN_WATCHES: &str = "SELECT q.key AS place, w.watch_id \
    FROM jsonb_each(?1) q CROSS JOIN jobs j ON j.job_id = q.value ->> 'job_id' \
    CROSS JOIN watches w ON w.job_no = j.job_no \
    AND w.client_id = q.value ->> 'client_id' AND w.callback_url = q.value ->> 'callback_url' \
    AND w.settled_at IS NULL";

pub(super) const KNOWN: &str = "SELECT j.job_id, iif(j.next_look_at IS NULL, j.memory, NULL) AS memory \
    FROM json_each(?1) i CROSS JOIN jobs j ON j.job_id = i.value";

pub(super) const ADD_JOBS: &str = "INSERT INTO jobs (job_id, next_look_at, urgency, joined, memory, \
    lease_id, lease_until) \
    SELECT value ->> 'job_id', value ->> 'at', 0, value ->> 'lease_id' IS NULL, value ->> 'memory', \
    value ->> 'lease_id', iif(value ->> 'lease_id' IS NULL, NULL, ?2) \
    FROM jsonb_each(?1) WHERE TRUE ON CONFLICT (job_id) DO UPDATE SET \
    memory = iif(next_look_at IS NULL, excluded.memory, memory), \
    next_look_at = min(ifnull(next_look_at, excluded.next_look_at), excluded.next_look_at), \
    urgency = 0, joined = 1";

pub(super) const ADD_WATCHES: &str = "INSERT INTO watches (watch_id, client_id, job_no, job_id, \
    callback_url, callback_host, operation, events, until_step, locale, metadata, state, progress, \
    created_at, updated_at, traceparent) \
    SELECT value ->> 'watch_id', value ->> 'client_id', j.job_no, j.job_id, \
    value ->> 'callback_url', value ->> 'callback_host', value ->> 'operation', \
    value ->> 'events', value ->> 'until_step', value ->> 'locale', value ->> 'metadata', \
    value ->> 'state', value ->> 'progress', value ->> 'created_at', value ->> 'created_at', \
    value ->> 'traceparent' \
    FROM jsonb_each(?1) CROSS JOIN jobs j ON j.job_id = value ->> 'job_id' \
    WHERE TRUE ON CONFLICT DO NOTHING RETURNING watch_id";

/// Registers watches by the writer, and hands new jobs to the tracker.
pub(super) struct Registering {
    pub(super) writer: Writer,
    pub(super) readers: SqlitePool,
    pub(super) new_jobs: NewJobs,
}

/// What became of each, or the id of the watch that is there already.
type Written = Vec<Result<Registration, WatchId>>;

#[async_trait]
impl Registers for Registering {
    async fn register_all(&self, new: Arc<[NewWatch]>) -> Result<Registered, StoreError> {
        let (all, desk) = (Arc::clone(&new), self.new_jobs.clone());
        let written = self
            .writer
            .write(move |connection| register(connection, &all, &desk));
        let (written, handed) = written.await?;
        if let Some((slots, jobs)) = handed {
            slots.hand(jobs);
        }
        let mut registered = Vec::with_capacity(written.len());
        for (new, written) in new.iter().zip(written) {
            registered.push(match written {
                Ok(answer) => Ok(answer),
                Err(known) => self.known(new, known).await,
            });
        }
        Ok(registered)
    }
}

impl Registering {
    /// The answer about a watch that was there already.
    async fn known(&self, new: &NewWatch, id: WatchId) -> Result<Registration, StoreError> {
        let mut view = self.readers.begin().await?;
        found(
            new,
            stories::find(&mut view, Some(new.client_id), id).await?,
        )
    }
}

fn register(
    connection: &Connection,
    new: &[NewWatch],
    desk: &NewJobs,
) -> Result<(Written, Handed<DueJob>), StoreError> {
    let clients = fetch_all(connection, CLIENTS, params![json_list(clients_of(new))])?;
    let open = open_watches(connection, new)?;
    let (decisions, fresh) = decide(new, &open, standings(&clients)?);
    let (added, handed) = add(connection, &fresh, desk)?;
    let mut written = Vec::with_capacity(new.len());
    for (new, decision) in new.iter().zip(decisions) {
        written.push(match answer(new, decision, &added) {
            Ok(answer) => Ok(answer),
            Err(Some(known)) => Err(known),
            // another of this batch was before it
            Err(None) => Err(only_open_watch(connection, new)?),
        });
    }
    Ok((written, handed))
}

fn only_open_watch(connection: &Connection, new: &NewWatch) -> Result<WatchId, StoreError> {
    let open = open_watches(connection, std::slice::from_ref(new))?;
    let open = open.into_iter().next().flatten();
    open.ok_or_else(|| not_there(new))
}

/// The open watch of each that has one.
fn open_watches(
    connection: &Connection,
    new: &[NewWatch],
) -> Result<Vec<Option<WatchId>>, StoreError> {
    let rows = fetch_all(
        connection,
        OPEN_WATCHES,
        params![json_rows(&open_rows(new))?],
    )?;
    existing(&rows, new.len(), 0)
}

/// Makes jobs due and adds their watches; says which watches are new, and which jobs were claimed at once.
fn add(
    connection: &Connection,
    new: &[&NewWatch],
    desk: &NewJobs,
) -> Result<(HashSet<String>, Handed<DueJob>), StoreError> {
    if new.is_empty() {
        return Ok((HashSet::new(), None));
    }
    let jobs = new.iter().map(|new| new.request.job_id.as_str());
    let known_jobs = fetch_all(connection, KNOWN, params![json_list(jobs)])?;
    let slots = desk.slots();
    let mut room = slots.map(|slots| (LeaseId::new(slots.claim().now), slots));
    let jobs = due_rows(new, known(&known_jobs)?, room.as_mut())?;
    let until = room.as_ref().map(|(_, slots)| slots.claim());
    execute(
        connection,
        ADD_JOBS,
        params![
            json_rows(&jobs)?,
            until.map(|claim| later(claim.now, claim.lease))
        ],
    )?;
    let added: Vec<String> = scalars(
        connection,
        ADD_WATCHES,
        params![json_rows(&watch_rows(new)?)?],
    )?;
    let added = added.into_iter().collect();
    let claimed = jobs.iter().filter(|job| job.lease_id.is_some());
    let claimed = claimed.map(|job| job.job_id).collect();
    let handed = room.map(|(lease, slots)| (slots, claimed_jobs(new, &added, claimed, lease)));
    Ok((added, handed))
}
