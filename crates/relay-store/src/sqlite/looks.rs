//! Records looks: jobs, watches and events. One unit of work and a few statements record any number
//! of looks.

use std::collections::{BTreeSet, HashMap};

use relay_domain::{JobId, LeaseId};
use rusqlite::Connection;

use crate::{
    DueDelivery, Look, NewDeliveries, OutageChange, Sealer, StoreError,
    dispatch::NewWorkClaim,
    rows::{ColumnReader, IdBytes, millis_later},
    rules::{
        Blockers, ChangeRow, DurationSamples, JobRow, NewEventRow, change_rows, claim_new,
        claim_rows, event_rows, held, job_rows, later_event_rows, reports, secrets_of,
    },
    sqlite::{
        banks::begin_outage,
        counts::WatchCounts,
        durations::learn,
        erasure,
        salvage::RecordScope,
        statement::{OwnedRow, execute_each, fetch_each},
    },
};

pub(super) const HOLD: &str = "SELECT j.job_id, j.job_no, d.lease_id \
    FROM jobs j CROSS JOIN due_jobs d ON d.job_no = j.job_no WHERE j.job_id = ?1 AND d.lease_id = ?2";

pub(super) const OPEN_WATCH: &str = "SELECT w.watch_id, w.client_id, w.callback_url, w.callback_host, \
    w.traceparent, w.state FROM watches w \
    WHERE w.watch_id = ?1 AND +w.job_no = ?2 AND +w.settled_at IS NULL";

pub(super) const CHANGE_WATCH: &str = "UPDATE watches SET state = ?2, progress = ?3, updated_at = ?4, \
    settled_at = iif(?2 IN ('settled', 'cancelled'), ?4, NULL) \
    WHERE watch_id = ?1";

pub(super) const ADD_EVENT: &str = "INSERT INTO events (event_id, source_id, client_id, state, \
    updated_at, created_at, deadline, body) VALUES (?1, ?2, ?3, 'pending', ?4, ?4, ?5, ?6) \
    ON CONFLICT (event_id) DO NOTHING";

/// Ends the event that the outbox holds for the watch, because a later one takes its place.
pub(super) const SUPERSEDE: &str = "UPDATE events SET state = 'superseded', updated_at = ?2 \
    WHERE event_id = (SELECT event_id FROM outbox WHERE source_id = ?1)";

/// A later event of the watch takes the row over, but not the claim of an attempt in flight.
pub(super) const QUEUE: &str = "INSERT INTO outbox (source_id, event_id, client_id, host, \
    next_attempt_at, pending_since, deadline, lease_id, lease_until) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, iif(?7 IS NULL, NULL, ?8)) \
    ON CONFLICT (source_id) DO UPDATE SET event_id = excluded.event_id, \
    next_attempt_at = excluded.next_attempt_at, pending_since = excluded.pending_since, \
    deadline = excluded.deadline, attempts = 0, round_attempts = 0, \
    lease_id = ifnull(excluded.lease_id, lease_id), \
    lease_until = ifnull(excluded.lease_until, lease_until)";

/// Finds a host that is paused, or that one attempt at a time probes.
pub(super) const HOST_BLOCKER: &str = "SELECT ?1 AS host, NULL AS source_id \
    WHERE EXISTS (SELECT 1 FROM failing_hosts WHERE host = ?1 AND pauses > 0) \
    OR EXISTS (SELECT 1 FROM manual_pauses WHERE host = ?1)";

/// Finds a watch with an event in flight.
pub(super) const WATCH_BLOCKER: &str = "SELECT NULL AS host, source_id FROM outbox \
    WHERE source_id = ?1 AND lease_until > ?2";

pub(super) const SECRETS: &str = "SELECT client_id, name, secret, previous_secret, previous_until, \
    callback_certificate, callback_headers \
    FROM clients WHERE client_id = ?1";

pub(super) const RECORD_JOB: &str =
    "UPDATE jobs SET memory = ?2, user_id = ?3, connection_id = ?4 WHERE job_no = ?1";

/// Ends the work on a job without an open watch.
pub(super) const END_JOB_WITHOUT_WATCH: &str = "DELETE FROM due_jobs WHERE job_no = ?1 AND NOT EXISTS \
    (SELECT 1 FROM watches w WHERE w.job_no = due_jobs.job_no AND w.settled_at IS NULL)";

/// The look did not cover a watch that joined after the claim, so the job stays due. A hint may announce what the look
/// began too early to see. Then another look follows.
pub(super) const LOOK_AGAIN: &str = "UPDATE due_jobs SET lease_id = NULL, lease_until = NULL, \
    waits_for = iif(?2, waits_for, ?3), waits_for_method = iif(?2, waits_for_method, ?4), \
    urgency = CASE WHEN joined THEN 0 WHEN hinted_at > ?8 THEN min(1, ?5) ELSE ?5 END, \
    next_look_at = CASE \
        WHEN joined THEN ?6 \
        WHEN hinted_at > ?8 THEN min(hinted_at, ?7) \
        ELSE ?7 END \
    WHERE job_no = ?1";

const FORGET_FAILURES: &str = "DELETE FROM connection_failures WHERE connection_id = ?1";

const ADD_FAILURE: &str = "INSERT INTO connection_failures (connection_id, job_id, failed_at) \
    VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

/// The numbers of jobs, by id.
type JobNumbers<'r> = HashMap<&'r str, i64>;

/// The dispatch of new deliveries, and the sealer that opens their clients' secrets.
pub(super) type SqliteDispatchContext = (NewDeliveries, Sealer);

/// Records looks. Returns the jobs whose lease still held, and the new deliveries that were claimed at once.
pub(super) fn record(
    connection: &Connection,
    looks: &[Look],
    dispatch: &SqliteDispatchContext,
    scope: RecordScope,
) -> Result<(Vec<JobId>, Option<NewWorkClaim<DueDelivery>>), StoreError> {
    let claims = claim_rows(looks);
    let claims = claims.iter().map(|claim| (claim.job_id, claim.lease_id));
    let still = fetch_each(connection, HOLD, claims)?;
    let numbers = numbers(&still)?;
    let looks = held(looks, leases(&still)?.into_iter());
    let looks = erasure::without_erased(connection, looks, &numbers)?;
    if looks.is_empty() {
        return Ok((Vec::new(), None));
    }
    let claim = change_watches(connection, &looks, &numbers, (dispatch, scope))?;
    if scope == RecordScope::Everything {
        report_connections(connection, &looks)?;
        learn(connection, &DurationSamples::of(&looks))?;
    }
    for look in &looks {
        if let OutageChange::Began(bank, next_look_at) = &look.outage {
            begin_outage(connection, bank, *next_look_at)?;
        }
    }
    record_jobs(connection, &looks, &numbers)?;
    let recorded = looks.iter().map(|look| look.job_id.clone());
    Ok((recorded.collect(), claim))
}

/// Reads the numbers of jobs, by id.
fn numbers(jobs: &[OwnedRow]) -> Result<JobNumbers<'_>, StoreError> {
    let numbers = jobs.iter().map(|row| {
        let cells = ColumnReader::of("jobs", "job_id", row);
        Ok((cells.get("job_id")?, cells.get("job_no")?))
    });
    numbers.collect()
}

fn leases(jobs: &[OwnedRow]) -> Result<Vec<(&str, LeaseId)>, StoreError> {
    let leases = jobs.iter().map(|row| {
        let cells = ColumnReader::of("jobs", "job_id", row);
        Ok((cells.get("job_id")?, cells.id("lease_id")?))
    });
    leases.collect()
}

fn record_jobs(
    connection: &Connection,
    looks: &[&Look],
    numbers: &JobNumbers<'_>,
) -> Result<(), StoreError> {
    let jobs = job_rows(looks)?;
    let number = |job: &JobRow<'_>| numbers.get(job.job_id).copied();
    let known = jobs
        .iter()
        .map(|job| (number(job), &job.memory, job.user_id, job.connection_id));
    execute_each(connection, RECORD_JOB, known)?;
    let ended = execute_each(
        connection,
        END_JOB_WITHOUT_WATCH,
        jobs.iter().map(|job| (number(job),)),
    )?;
    let stay = jobs.iter().zip(ended).filter(|(_, has_ended)| !has_ended);
    let stay = stay.map(|(job, _)| {
        (
            number(job),
            job.waits_on,
            job.bank,
            job.method,
            job.urgency,
            job.at,
            job.next_look_at,
            job.began,
        )
    });
    execute_each(connection, LOOK_AGAIN, stay)?;
    Ok(())
}

/// Changes the watches that are still open, and stores their events.
fn change_watches(
    connection: &Connection,
    looks: &[&Look],
    numbers: &JobNumbers<'_>,
    (dispatch, scope): (&SqliteDispatchContext, RecordScope),
) -> Result<Option<NewWorkClaim<DueDelivery>>, StoreError> {
    let rows = change_rows(looks)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let named = rows
        .iter()
        .map(|row| (row.watch_id, numbers.get(row.job_id)));
    let open = fetch_each(connection, OPEN_WATCH, named)?;
    if scope != RecordScope::WithoutWatchRow {
        write_changes(connection, &rows, &open, scope)?;
    }
    let news = event_rows(looks, &open)?;
    if news.is_empty() {
        return Ok(None);
    }
    add_events(connection, news, dispatch)
}

/// Writes the new states of the watches that are open.
fn write_changes(
    connection: &Connection,
    rows: &[ChangeRow<'_>],
    open: &[OwnedRow],
    scope: RecordScope,
) -> Result<(), StoreError> {
    let rows = rows.iter().map(|row| (row.watch_id, row));
    let mut rows: HashMap<IdBytes, &ChangeRow<'_>> = rows.collect();
    let (mut changes, mut counts) = (Vec::with_capacity(open.len()), WatchCounts::default());
    for watch in open {
        let id: IdBytes = ColumnReader::of("watches", "watch_id", watch).id("watch_id")?;
        if let Some(row) = rows.remove(&id) {
            counts.changes(watch, row.state)?;
            changes.push((id, row.state, &row.progress, row.at));
        }
    }
    execute_each(connection, CHANGE_WATCH, changes)?;
    match scope {
        RecordScope::Everything => counts.write(connection),
        RecordScope::WithoutStatistics | RecordScope::WithoutWatchRow => Ok(()),
    }
}

/// Adds events and queues them, each once. They supersede earlier events that are still pending.
fn add_events(
    connection: &Connection,
    mut news: Vec<NewEventRow>,
    (dispatch, sealer): &SqliteDispatchContext,
) -> Result<Option<NewWorkClaim<DueDelivery>>, StoreError> {
    let rows = news.iter().map(|row| {
        let body = &row.event.body;
        (
            row.event_id,
            row.watch_id,
            row.client_id,
            row.at,
            row.deadline,
            body,
        )
    });
    let mut added = execute_each(connection, ADD_EVENT, rows)?.into_iter();
    news.retain(|_| added.next() == Some(true));
    let mut claim = dispatch.claim();
    if let Some(claim) = &mut claim {
        claim_new_events(connection, &mut news, claim, sealer)?;
    }
    let until = claim.as_ref();
    let until = until.map(|claim| millis_later(claim.now, claim.duration));
    let later_watches = later_event_rows(&news);
    let later_watches = later_watches.iter().map(|row| (row.watch_id, row.at));
    execute_each(connection, SUPERSEDE, later_watches)?;
    let queued = news.iter().map(|row| {
        (
            row.watch_id,
            row.event_id,
            row.client_id,
            &row.host,
            row.at,
            row.deadline,
            row.lease_id,
            until,
        )
    });
    execute_each(connection, QUEUE, queued)?;
    Ok(claim)
}

/// Claims new events while there are permits.
fn claim_new_events(
    connection: &Connection,
    news: &mut [NewEventRow],
    claim: &mut NewWorkClaim<DueDelivery>,
    sealer: &Sealer,
) -> Result<(), StoreError> {
    let hosts: BTreeSet<_> = news.iter().map(|row| row.host.as_str()).collect();
    let hosts = hosts.into_iter().map(|host| (host,));
    let mut blockers = fetch_each(connection, HOST_BLOCKER, hosts)?;
    let now = claim.now.as_millisecond();
    let later_watches = later_event_rows(news);
    let later_watches = later_watches.iter().map(|row| (row.watch_id, now));
    blockers.extend(fetch_each(connection, WATCH_BLOCKER, later_watches)?);
    let clients: BTreeSet<_> = news.iter().map(|row| row.client_id).collect();
    let clients = clients.into_iter().map(|client| (client,));
    let secrets = secrets_of(&fetch_each(connection, SECRETS, clients)?, sealer);
    claim_new(news, claim, &Blockers::read(&blockers)?, &secrets);
    Ok(())
}

/// Counts failures of connections. A success deletes the earlier ones.
fn report_connections(connection: &Connection, looks: &[&Look]) -> Result<(), StoreError> {
    let (succeeded, failures) = reports(looks);
    let succeeded = succeeded.into_iter().map(|connection_id| (connection_id,));
    execute_each(connection, FORGET_FAILURES, succeeded)?;
    let failures = failures
        .iter()
        .map(|failure| (failure.connection_id, failure.job_id, failure.at));
    execute_each(connection, ADD_FAILURE, failures)?;
    Ok(())
}
