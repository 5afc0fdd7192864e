//! Watches to register, in one unit of work however many they are.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use sqlx::SqliteConnection;

use crate::{
    domain::LeaseId,
    store::{
        DueJob, NewJobs, NewWatch, Registration, StoreError,
        common::{
            Registers, answer, claimed_jobs, clients_of, decide, due_rows, existing, found, known,
            later, open_rows, standings, watch_rows,
        },
        hand_over::Handed,
        sqlite::{
            row::{json_list, json_rows},
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
    pub(super) new_jobs: NewJobs,
}

#[async_trait]
impl Registers for Registering {
    async fn register_all(&self, new: Arc<[NewWatch]>) -> Result<Vec<Registration>, StoreError> {
        let desk = self.new_jobs.clone();
        let registered = self.writer.write(move |connection| {
            Box::pin(async move { register(connection, &new, &desk).await })
        });
        let (answers, handed) = registered.await?;
        if let Some((slots, jobs)) = handed {
            slots.hand(jobs);
        }
        Ok(answers)
    }
}

async fn register(
    connection: &mut SqliteConnection,
    new: &[NewWatch],
    desk: &NewJobs,
) -> Result<(Vec<Registration>, Handed<DueJob>), StoreError> {
    let clients = sqlx::query(CLIENTS)
        .bind(json_list(clients_of(new)))
        .fetch_all(&mut *connection)
        .await?;
    let open = open_watches(connection, new).await?;
    let (decisions, fresh) = decide(new, &open, standings(&clients)?);
    let (added, handed) = add(connection, &fresh, desk).await?;
    let mut answers = Vec::with_capacity(new.len());
    for (new, decision) in new.iter().zip(decisions) {
        answers.push(match answer(new, decision, &added) {
            Ok(answer) => answer,
            Err(known) => {
                let id = match known {
                    Some(id) => Some(id),
                    // another of this batch was before it
                    None => open_watches(connection, std::slice::from_ref(new))
                        .await?
                        .pop()
                        .flatten(),
                };
                let story = match id {
                    Some(id) => stories::find(connection, Some(new.client_id), id).await?,
                    None => None,
                };
                found(new, story)?
            }
        });
    }
    Ok((answers, handed))
}

/// The open watch of each that has one.
async fn open_watches(
    connection: &mut SqliteConnection,
    new: &[NewWatch],
) -> Result<Vec<Option<crate::domain::WatchId>>, StoreError> {
    let rows = sqlx::query(OPEN_WATCHES)
        .bind(json_rows(&open_rows(new))?)
        .fetch_all(connection)
        .await?;
    existing(&rows, new.len(), 0)
}

/// Makes jobs due and adds their watches; says which watches are new, and which jobs were claimed at once.
async fn add(
    connection: &mut SqliteConnection,
    new: &[&NewWatch],
    desk: &NewJobs,
) -> Result<(HashSet<String>, Handed<DueJob>), StoreError> {
    if new.is_empty() {
        return Ok((HashSet::new(), None));
    }
    let jobs = new.iter().map(|new| new.request.job_id.as_str());
    let known_jobs = sqlx::query(KNOWN)
        .bind(json_list(jobs))
        .fetch_all(&mut *connection)
        .await?;
    let slots = desk.slots();
    let mut room = slots.map(|slots| (LeaseId::new(slots.claim().now), slots));
    let jobs = due_rows(new, known(&known_jobs)?, room.as_mut())?;
    let until = room.as_ref().map(|(_, slots)| slots.claim());
    sqlx::query(ADD_JOBS)
        .bind(json_rows(&jobs)?)
        .bind(until.map(|claim| later(claim.now, claim.lease)))
        .execute(&mut *connection)
        .await?;
    let added: Vec<String> = sqlx::query_scalar(ADD_WATCHES)
        .bind(json_rows(&watch_rows(new)?)?)
        .fetch_all(connection)
        .await?;
    let added = added.into_iter().collect();
    let claimed = jobs.iter().filter(|job| job.lease_id.is_some());
    let claimed = claimed.map(|job| job.job_id).collect();
    let handed = room.map(|(lease, slots)| (slots, claimed_jobs(new, &added, claimed, lease)));
    Ok((added, handed))
}
