//! Records the results of looks: jobs, watches and events. Many looks take one transaction and a few statements.

use std::collections::HashSet;

use relay_domain::{EventId, JobId, LeaseId};

use crate::{
    DueDelivery, Look, NewDeliveries, OutageChange, Sealer, StoreError,
    dispatch::NewWorkClaim,
    postgres::{
        LeaseClock, PgSession,
        banks::begin_outage,
        clock::claim_now,
        erasure::{self, is_erasing},
        indexes::{each, is_open, is_unwatched, matching, none},
        row::columns,
        watches::LOCK_QUEUED,
    },
    rows::{IdBytes, millis},
    rules::{
        Blockers, FailureRow, NewEventRow, change_rows, claim_new, claim_rows, event_rows, held,
        job_rows, later_event_rows, reports, secrets_of,
    },
};

/// Locks the jobs whose claims still hold, in the order of the claims. Also returns whether anybody was erased.
pub(super) const HOLD: &str = concat!(
    "SELECT d.job_id, d.lease_id, ",
    is_erasing!(),
    " AS is_erasing FROM unnest($1::text[], $2::bytea[]) l (job_id, lease_id) \
    CROSS JOIN LATERAL (SELECT d.job_id, d.lease_id FROM due_jobs d \
        WHERE d.job_id = l.job_id AND d.lease_id = l.lease_id FOR UPDATE) d"
);

/// Changes open watches. They are found by their ids, not among all watches of their job, which may be many.
pub(super) const CHANGE_WATCHES: &str = concat!(
    "WITH changed AS (UPDATE watches w SET state = c.state, progress = c.progress, updated_at = c.at, \
         settled_at = CASE WHEN c.state IN ('settled', 'cancelled') THEN c.at END \
         FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
             c (watch_id, job_id, state, progress, at) WHERE ",
    each!("w.watch_id", "c.watch_id"),
    " AND w.job_id || '' = c.job_id AND w.settled_at IS NULL \
         RETURNING w.watch_id, w.client_id, w.job_id, w.state, w.callback_url, w.callback_host, \
             w.traceparent), \
     settled AS (DELETE FROM unsettled_watches WHERE ",
    matching!(
        "unsettled_watches",
        "(SELECT * FROM changed WHERE state = 'settled')",
        is_open!("c")
    ),
    "), unsettled AS (UPDATE unsettled_watches u SET state = n.state \
         FROM (SELECT c.state, t.place FROM changed c \
             CROSS JOIN LATERAL (SELECT t.ctid AS place FROM unsettled_watches t WHERE ",
    is_open!("c"),
    " OFFSET 0) t WHERE c.state <> 'settled') n WHERE u.ctid = n.place) \
     SELECT * FROM changed"
);

/// Ends the events that the outbox holds for watches, because later ones take their places.
pub(super) const SUPERSEDE: &str = concat!(
    "WITH earlier AS (SELECT o.event_id, n.at \
         FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) n (source_id, event_id, at) \
         CROSS JOIN LATERAL (SELECT o.event_id FROM outbox o \
             WHERE o.source_id = n.source_id OFFSET 0) o WHERE ",
    none!("events e WHERE e.event_id = n.event_id"),
    "), ended AS (UPDATE events e SET state = 'superseded', updated_at = n.at FROM earlier n WHERE ",
    each!("e.event_id", "n.event_id"),
    " RETURNING e.client_id, e.state, e.updated_at, e.event_id) \
     INSERT INTO undelivered_events SELECT * FROM ended"
);

/// Adds events and queues them, each once. In the outbox, a later event of a watch takes the row over, but not the
/// claim of an attempt in flight.
pub(super) const ADD_EVENTS: &str = concat!(
    "WITH new AS (SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::text[], \
         $5::text[], $6::bigint[], $7::bigint[], $8::bytea[]) \
         n (event_id, source_id, client_id, host, body, at, deadline, lease_id) WHERE ",
    none!("events e WHERE e.event_id = n.event_id"),
    "), added AS (INSERT INTO events \
         (event_id, source_id, client_id, state, updated_at, created_at, deadline, body) \
         SELECT event_id, source_id, client_id, 'pending', at, at, deadline, body FROM new) \
     INSERT INTO outbox AS o (source_id, event_id, client_id, host, next_attempt_at, pending_since, \
         deadline, lease_id, lease_until) \
     SELECT source_id, event_id, client_id, host, at, at, deadline, lease_id, \
         CASE WHEN lease_id IS NOT NULL THEN ",
    claim_now!("$9"),
    " + $10 END FROM new \
     ON CONFLICT (source_id) DO UPDATE SET event_id = excluded.event_id, \
         next_attempt_at = excluded.next_attempt_at, pending_since = excluded.pending_since, \
         deadline = excluded.deadline, attempts = 0, round_attempts = 0, \
         lease_id = coalesce(excluded.lease_id, o.lease_id), \
         lease_until = coalesce(excluded.lease_until, o.lease_until) \
     RETURNING event_id"
);

/// What keeps new events from being claimed at once. These are hosts that have not answered since they were paused,
/// hosts that an operator paused, and watches with an event in flight. The outbox's rows of these watches are locked.
pub(super) const BLOCKERS: &str = concat!(
    "SELECT f.host, NULL::bytea AS source_id FROM failing_hosts f \
     WHERE f.host = ANY($1) AND f.pauses > 0 \
     UNION ALL SELECT m.host, NULL FROM manual_pauses m WHERE m.host = ANY($1) \
     UNION ALL SELECT NULL, o.source_id FROM outbox o WHERE o.source_id = ANY($2) AND o.lease_until > ",
    claim_now!("$3"),
);

pub(super) const SECRETS: &str = "SELECT client_id, name, secret, previous_secret, previous_until, \
    callback_certificate, callback_headers \
    FROM clients WHERE client_id = ANY($1)";

/// Records the results of looks in their jobs. A watch that joined after the claim was not looked at yet, so its
/// job stays due. A hint may announce what a look began too early to see. Then another look follows. A job without an
/// open watch is not due any more. Also deletes the failures that were counted for a connection before it succeeded.
pub(super) const RECORD_JOBS: &str = concat!(
    "WITH looks AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], \
         $6::bigint[], $7::boolean[], $8::text[], $9::text[], $10::text[], $11::text[]) \
         l (job_id, memory, began, at, next_look_at, urgency, waits_on, bank, method, user_id, connection_id)), \
     forgotten AS (DELETE FROM connection_failures WHERE connection_id = ANY($12)), \
     known AS (UPDATE jobs j SET memory = l.memory, user_id = l.user_id, connection_id = l.connection_id \
         FROM looks l WHERE ",
    each!("j.job_id", "l.job_id"),
    "), ended AS (DELETE FROM due_jobs d WHERE d.job_id = ANY($1) AND ",
    is_unwatched!("d.job_id"),
    ") UPDATE due_jobs d SET lease_id = NULL, lease_until = NULL, \
     waits_for = CASE WHEN l.waits_on THEN d.waits_for ELSE l.bank END, \
     waits_for_method = CASE WHEN l.waits_on THEN d.waits_for_method ELSE l.method END, \
     urgency = CASE WHEN d.joined THEN 0 WHEN d.hinted_at > l.began THEN least(1, l.urgency) \
         ELSE l.urgency END, \
     next_look_at = CASE WHEN d.joined THEN l.at \
         WHEN d.hinted_at > l.began THEN least(d.hinted_at, l.next_look_at) \
         ELSE l.next_look_at END \
     FROM looks l WHERE ",
    each!("d.job_id", "l.job_id"),
    " AND NOT (",
    is_unwatched!("d.job_id"),
    ")"
);

pub(super) const ADD_FAILURES: &str = "INSERT INTO connection_failures (connection_id, job_id, failed_at) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) ON CONFLICT DO NOTHING";

/// What a transaction needs to claim new deliveries for a worker.
pub(super) struct DispatchContext<'d> {
    /// The dispatch to the delivery worker.
    pub(super) dispatch: &'d NewDeliveries,
    /// Decrypts the signing secrets of clients.
    pub(super) sealer: &'d Sealer,
    /// The clock that claims are judged by.
    pub(super) lease_clock: LeaseClock,
}

/// Records looks. Returns the jobs whose leases still held, and the new deliveries that were claimed at once.
pub(super) async fn record(
    connection: &mut PgSession<'_>,
    looks: &[Look],
    context: &DispatchContext<'_>,
) -> Result<(Vec<JobId>, Option<NewWorkClaim<DueDelivery>>), StoreError> {
    let looks = hold(connection, looks).await?;
    if looks.is_empty() {
        return Ok((Vec::new(), None));
    }
    let claim = change_watches(connection, &looks, context).await?;
    for look in &looks {
        if let OutageChange::Began(bank, next_look_at) = &look.outage {
            begin_outage(connection, bank, *next_look_at).await?;
        }
    }
    let (succeeded, failures) = reports(&looks);
    record_jobs(connection, &looks, succeeded).await?;
    add_failures(connection, &failures).await?;
    let recorded = looks.iter().map(|look| look.job_id.clone());
    Ok((recorded.collect(), claim))
}

/// Returns the looks whose leases still hold, and locks their jobs.
async fn hold<'l>(
    connection: &mut PgSession<'_>,
    looks: &'l [Look],
) -> Result<Vec<&'l Look>, StoreError> {
    let mut claims = claim_rows(looks);
    claims.sort_unstable_by_key(|row| row.job_id);
    let jobs: Vec<(String, IdBytes, bool)> = sqlx::query_as(HOLD)
        .bind(columns(&claims, |row| row.job_id))
        .bind(columns(&claims, |row| row.lease_id))
        .fetch_all(&mut *connection)
        .await?;
    let leases = jobs
        .iter()
        .map(|(job_id, lease, _)| (job_id.as_str(), LeaseId::from(*lease)));
    let held = held(looks, leases);
    if jobs.iter().any(|(_, _, is_erasing)| *is_erasing) {
        return erasure::without_erased(connection, held).await;
    }
    Ok(held)
}

/// Changes the watches that are still open, and stores their events.
async fn change_watches(
    connection: &mut PgSession<'_>,
    looks: &[&Look],
    context: &DispatchContext<'_>,
) -> Result<Option<NewWorkClaim<DueDelivery>>, StoreError> {
    let rows = change_rows(looks)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let changed = sqlx::query(CHANGE_WATCHES)
        .bind(columns(&rows, |row| row.watch_id))
        .bind(columns(&rows, |row| row.job_id))
        .bind(columns(&rows, |row| row.state))
        .bind(columns(&rows, |row| row.progress.as_str()))
        .bind(columns(&rows, |row| row.at))
        .fetch_all(&mut *connection)
        .await?;
    let mut news = event_rows(looks, &changed)?;
    if news.is_empty() {
        return Ok(None);
    }
    supersede(connection, &later_event_rows(&news)).await?;
    // a claimed delivery takes the body of its event along
    let bodies = columns(&news, |row| row.event.body.clone());
    let mut claim = context.dispatch.claim();
    if let Some(claim) = &mut claim {
        claim_new_events(connection, &mut news, claim, context).await?;
    }
    let added = add_events(connection, &news, bodies, claim.as_ref(), context).await?;
    if let Some(claim) = &mut claim {
        let claimed = &mut claim.claimed;
        claimed.retain(|(due, _)| added.contains(&due.event_id));
    }
    Ok(claim)
}

/// Supersedes the pending events of the watches of these new ones, after it locks them.
async fn supersede(
    connection: &mut PgSession<'_>,
    news: &[&NewEventRow],
) -> Result<(), StoreError> {
    if news.is_empty() {
        return Ok(());
    }
    let watches = columns(news, |row| row.watch_id);
    sqlx::query(LOCK_QUEUED)
        .bind(&watches)
        .execute(&mut *connection)
        .await?;
    sqlx::query(SUPERSEDE)
        .bind(&watches)
        .bind(columns(news, |row| row.event_id))
        .bind(columns(news, |row| row.at))
        .execute(connection)
        .await?;
    Ok(())
}

/// Claims new events while there are permits.
async fn claim_new_events(
    connection: &mut PgSession<'_>,
    news: &mut [NewEventRow],
    claim: &mut NewWorkClaim<DueDelivery>,
    context: &DispatchContext<'_>,
) -> Result<(), StoreError> {
    let blockers = sqlx::query(BLOCKERS)
        .bind(columns(news, |row| row.host.as_str()))
        .bind(columns(&later_event_rows(news), |row| row.watch_id))
        .bind(context.lease_clock.now(claim.now))
        .fetch_all(&mut *connection)
        .await?;
    let secrets = sqlx::query(SECRETS)
        .bind(columns(news, |row| row.client_id))
        .fetch_all(connection)
        .await?;
    let secrets = secrets_of(&secrets, context.sealer);
    claim_new(news, claim, &Blockers::read(&blockers)?, &secrets);
    Ok(())
}

/// Adds events, each with its body. Those with a lease are claimed now. Returns the events that are new.
async fn add_events(
    connection: &mut PgSession<'_>,
    news: &[NewEventRow],
    bodies: Vec<String>,
    claim: Option<&NewWorkClaim<DueDelivery>>,
    context: &DispatchContext<'_>,
) -> Result<HashSet<EventId>, StoreError> {
    let added: Vec<IdBytes> = sqlx::query_scalar(ADD_EVENTS)
        .bind(columns(news, |row| row.event_id))
        .bind(columns(news, |row| row.watch_id))
        .bind(columns(news, |row| row.client_id))
        .bind(columns(news, |row| row.host.as_str()))
        .bind(bodies)
        .bind(columns(news, |row| row.at))
        .bind(columns(news, |row| row.deadline))
        .bind(columns(news, |row| row.lease_id))
        .bind(claim.and_then(|claim| context.lease_clock.now(claim.now)))
        .bind(claim.map(|claim| millis(claim.duration)))
        .fetch_all(connection)
        .await?;
    Ok(added.into_iter().map(EventId::from).collect())
}

/// Records failures of connections.
async fn add_failures(
    connection: &mut PgSession<'_>,
    failures: &[FailureRow<'_>],
) -> Result<(), StoreError> {
    if !failures.is_empty() {
        sqlx::query(ADD_FAILURES)
            .bind(columns(failures, |row| row.connection_id))
            .bind(columns(failures, |row| row.job_id))
            .bind(columns(failures, |row| row.at))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Records the new state of jobs in the order of their ids, and deletes the failures of connections that succeeded.
async fn record_jobs(
    connection: &mut PgSession<'_>,
    looks: &[&Look],
    succeeded: Vec<&str>,
) -> Result<(), StoreError> {
    let mut rows = job_rows(looks)?;
    rows.sort_unstable_by_key(|row| row.job_id);
    sqlx::query(RECORD_JOBS)
        .bind(columns(&rows, |row| row.job_id))
        .bind(columns(&rows, |row| row.memory.as_str()))
        .bind(columns(&rows, |row| row.began))
        .bind(columns(&rows, |row| row.at))
        .bind(columns(&rows, |row| row.next_look_at))
        .bind(columns(&rows, |row| row.urgency))
        .bind(columns(&rows, |row| row.waits_on))
        .bind(columns(&rows, |row| row.bank))
        .bind(columns(&rows, |row| row.method))
        .bind(columns(&rows, |row| row.user_id))
        .bind(columns(&rows, |row| row.connection_id))
        .bind(succeeded)
        .execute(connection)
        .await?;
    Ok(())
}
