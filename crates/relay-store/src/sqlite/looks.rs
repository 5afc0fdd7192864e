//! Records looks: jobs, watches, events and their deliveries. One unit of work and a few statements record any number
//! of looks.

use std::collections::{BTreeSet, HashMap};

use relay_domain::JobId;
use rusqlite::Connection;

use crate::{
    DueDelivery, Look, NewDeliveries, OutageChange, Sealer, StoreError,
    dispatch::NewWorkClaim,
    rows::{ColumnReader, later},
    rules::{
        Blockers, ChangeRow, DurationSamples, NewEventRow, changes, claim_new, claims, held, jobs,
        later_news, news, reports, secrets_of,
    },
    sqlite::{
        banks::begin_outage,
        counts::WatchCounts,
        durations::learn,
        salvage::OptionalWork,
        statement::{OwnedRow, execute_each, fetch_each, scalars_each},
    },
};

pub(super) const HOLD: &str = "SELECT job_id FROM jobs WHERE job_id = ?1 AND lease_id = ?2";

pub(super) const OPEN_WATCH: &str = "SELECT watch_id, client_id, job_id, callback_url, callback_host, \
    traceparent, state FROM watches WHERE watch_id = ?1 AND +job_id = ?2 AND +settled_at IS NULL";

pub(super) const CHANGE_WATCH: &str = "UPDATE watches SET state = ?2, progress = ?3, updated_at = ?4, \
    settled_at = iif(?2 IN ('settled', 'cancelled'), ?4, NULL) \
    WHERE watch_id = ?1";

pub(super) const ADD_EVENT: &str = "INSERT INTO events (event_id, watch_id, body, created_at) \
    VALUES (?1, ?2, ?3, ?4) ON CONFLICT (event_id) DO NOTHING";

/// `+state` keeps the planner from using the index of states, where it would read all pending deliveries.
pub(super) const SUPERSEDE: &str = "UPDATE deliveries SET state = 'superseded', \
    next_attempt_at = NULL, updated_at = ?2 WHERE watch_id = ?1 AND +state = 'pending'";

pub(super) const ADD_DELIVERY: &str = "INSERT INTO deliveries (delivery_id, event_id, watch_id, \
    client_id, host, state, next_attempt_at, updated_at, deadline, lease_id, lease_until) \
    VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?6, ?7, ?8, iif(?8 IS NULL, NULL, ?9))";

/// Finds a host that is paused, or that one attempt at a time probes.
pub(super) const HOST_BLOCKER: &str =
    "SELECT host AS id, 0 AS is_watch FROM failing_hosts WHERE host = ?1 AND pauses > 0";

/// Finds another delivery of the watch that is in flight.
pub(super) const WATCH_BLOCKER: &str = "SELECT watch_id AS id, 1 AS is_watch FROM deliveries \
    WHERE watch_id = ?1 AND +lease_until > ?2 LIMIT 1";

pub(super) const SECRETS: &str = "SELECT client_id, name, secret, previous_secret, previous_until \
    FROM clients WHERE client_id = ?1";

/// The look did not cover a watch that joined after the claim, so the job stays due.
pub(super) const RECORD_JOB: &str = "UPDATE jobs SET memory = ?2, lease_id = NULL, \
    lease_until = NULL, waits_for = iif(?3, waits_for, ?4), \
    waits_for_method = iif(?3, waits_for_method, ?5), \
    urgency = iif(joined, 0, ?6), next_look_at = CASE \
        WHEN NOT EXISTS (SELECT 1 FROM watches w \
            WHERE w.job_no = jobs.job_no AND w.settled_at IS NULL) THEN NULL \
        WHEN joined THEN ?7 \
        WHEN hinted_at > ?7 THEN min(hinted_at, ?8) \
        ELSE ?8 END, \
    user_id = ?9, connection_id = ?10 WHERE job_id = ?1";

const FORGET_FAILURES: &str = "DELETE FROM connection_failures WHERE connection_id = ?1";

const ADD_FAILURE: &str = "INSERT INTO connection_failures (connection_id, job_id, failed_at) \
    VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

/// The dispatch of new deliveries, and the sealer that opens their clients' secrets.
pub(super) type SqliteDispatchContext = (NewDeliveries, Sealer);

/// Records looks. Returns the jobs whose lease still held, and the new deliveries that were claimed at once.
pub(super) fn record(
    connection: &Connection,
    looks: &[Look],
    dispatch: &SqliteDispatchContext,
    extras: OptionalWork,
) -> Result<(Vec<JobId>, Option<NewWorkClaim<DueDelivery>>), StoreError> {
    let claims = claims(looks);
    let claims = claims.iter().map(|claim| (claim.job_id, &claim.lease_id));
    let still = scalars_each(connection, HOLD, claims)?;
    let looks = held(looks, still);
    if looks.is_empty() {
        return Ok((Vec::new(), None));
    }
    let claim = change_watches(connection, &looks, dispatch, extras)?;
    if extras == OptionalWork::Done {
        report_connections(connection, &looks)?;
        learn(connection, &DurationSamples::of(&looks))?;
    }
    for look in &looks {
        if let OutageChange::Began(bank, next_look_at) = &look.outage {
            begin_outage(connection, bank, *next_look_at)?;
        }
    }
    record_jobs(connection, &looks)?;
    let recorded = looks.iter().map(|look| look.job_id.clone());
    Ok((recorded.collect(), claim))
}

fn record_jobs(connection: &Connection, looks: &[&Look]) -> Result<(), StoreError> {
    let jobs = jobs(looks)?;
    let jobs = jobs.iter().map(|job| {
        (
            job.job_id,
            &job.memory,
            job.waits_on,
            job.bank,
            job.method,
            job.urgency,
            job.at,
            job.next_look_at,
            job.user_id,
            job.connection_id,
        )
    });
    execute_each(connection, RECORD_JOB, jobs)?;
    Ok(())
}

/// Changes the watches that are still open, and stores their events.
fn change_watches(
    connection: &Connection,
    looks: &[&Look],
    dispatch: &SqliteDispatchContext,
    extras: OptionalWork,
) -> Result<Option<NewWorkClaim<DueDelivery>>, StoreError> {
    let rows = changes(looks)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let named = rows.iter().map(|row| (&row.watch_id, row.job_id));
    let open = fetch_each(connection, OPEN_WATCH, named)?;
    if extras != OptionalWork::EventsAlone {
        write_changes(connection, &rows, &open, extras)?;
    }
    let news = news(looks, &open)?;
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
    extras: OptionalWork,
) -> Result<(), StoreError> {
    let rows = rows.iter().map(|row| (row.watch_id.as_str(), row));
    let mut rows: HashMap<&str, &ChangeRow<'_>> = rows.collect();
    let (mut changes, mut counts) = (Vec::with_capacity(open.len()), WatchCounts::default());
    for watch in open {
        let id: &str = ColumnReader::of("watches", "watch_id", watch).get("watch_id")?;
        if let Some(row) = rows.remove(id) {
            counts.changes(watch, row.state)?;
            changes.push((id, row.state, &row.progress, row.at));
        }
    }
    execute_each(connection, CHANGE_WATCH, changes)?;
    match extras {
        OptionalWork::Done => counts.write(connection),
        OptionalWork::LeftOut | OptionalWork::EventsAlone => Ok(()),
    }
}

/// Adds events and their deliveries, each once. They replace earlier deliveries that are still pending.
fn add_events(
    connection: &Connection,
    mut news: Vec<NewEventRow>,
    (dispatch, sealer): &SqliteDispatchContext,
) -> Result<Option<NewWorkClaim<DueDelivery>>, StoreError> {
    let rows = news
        .iter()
        .map(|row| (&row.event_id, &row.watch_id, &row.event.body, row.at));
    let mut added = execute_each(connection, ADD_EVENT, rows)?.into_iter();
    news.retain(|_| added.next() == Some(true));
    let mut claim = dispatch.claim();
    if let Some(claim) = &mut claim {
        claim_new_events(connection, &mut news, claim, sealer)?;
    }
    let until = claim.as_ref();
    let until = until.map(|claim| later(claim.now, claim.duration));
    let later_watches = later_news(&news);
    let later_watches = later_watches.iter().map(|row| (&row.watch_id, row.at));
    execute_each(connection, SUPERSEDE, later_watches)?;
    let deliveries = news.iter().map(|row| {
        (
            &row.delivery_id,
            &row.event_id,
            &row.watch_id,
            row.client_id,
            &row.host,
            row.at,
            row.deadline,
            &row.lease_id,
            until,
        )
    });
    execute_each(connection, ADD_DELIVERY, deliveries)?;
    Ok(claim)
}

/// Claims new deliveries while there are permits.
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
    let later_watches = later_news(news);
    let later_watches = later_watches.iter().map(|row| (&row.watch_id, now));
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
