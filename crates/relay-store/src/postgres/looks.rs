//! Records the results of looks: jobs, watches, events and their deliveries. Many looks take one transaction and
//! a few statements.

use relay_domain::JobId;
use std::collections::HashSet;

use crate::{
    DueDelivery, Look, NewDeliveries, OutageChange, Sealer, StoreError,
    dispatch::NewWorkClaim,
    postgres::{
        LeaseClock, PgSession,
        banks::begin_outage,
        clock::claim_now,
        indexes::{each, is_open, none},
        row::columns,
        watches::LOCK_DELIVERIES,
    },
    rows::millis,
    rules::{
        Blockers, FailureRow, NewEventRow, changes, claim_new, claims, held, jobs, later_news,
        news, reports, secrets_of,
    },
};

pub(super) const HOLD: &str = "SELECT j.job_id FROM jobs j \
    JOIN unnest($1::text[], $2::text[]) l (job_id, lease_id) \
        ON j.job_id = l.job_id AND j.lease_id = l.lease_id \
    ORDER BY j.job_id FOR UPDATE OF j";

/// Changes open watches. They are found by their ids, not among all watches of their job, which may be many.
pub(super) const CHANGE_WATCHES: &str = concat!(
    "UPDATE watches w SET state = c.state, progress = c.progress, updated_at = c.at, \
     settled_at = CASE WHEN c.state IN ('settled', 'cancelled') THEN c.at END \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
         c (watch_id, job_id, state, progress, at) WHERE ",
    each!("w.watch_id", "c.watch_id"),
    " AND w.job_id || '' = c.job_id AND ",
    is_open!("w"),
    " RETURNING w.watch_id, w.client_id, w.job_id, w.callback_url, w.callback_host, w.traceparent"
);

pub(super) const ADD_EVENTS: &str = "INSERT INTO events (event_id, watch_id, body, created_at) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) \
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id";

pub(super) const SUPERSEDE: &str = "UPDATE deliveries d SET state = 'superseded', \
    next_attempt_at = NULL, updated_at = n.at \
    FROM unnest($1::text[], $2::bigint[]) n (watch_id, at) \
    WHERE d.watch_id = n.watch_id AND d.next_attempt_at IS NOT NULL";

pub(super) const ADD_DELIVERIES: &str = concat!(
    "INSERT INTO deliveries (delivery_id, event_id, watch_id, client_id, host, state, \
     next_attempt_at, deadline, updated_at, lease_id, lease_until) \
     SELECT delivery_id, event_id, watch_id, client_id, host, 'pending', at, deadline, at, lease_id, \
         CASE WHEN lease_id IS NOT NULL THEN ",
    claim_now!("$9"),
    " + $10 END \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], \
        $7::bigint[], $8::text[]) n (delivery_id, event_id, watch_id, client_id, host, at, deadline, \
        lease_id)"
);

/// What keeps new deliveries from being claimed at once. These are hosts that have not answered since they were
/// paused, and watches with a delivery in flight. The deliveries of these watches are locked.
pub(super) const BLOCKERS: &str = concat!(
    "SELECT f.host AS id, FALSE AS is_watch FROM failing_hosts f WHERE f.host = ANY($1) AND f.pauses > 0 \
     UNION ALL SELECT d.watch_id, TRUE FROM deliveries d WHERE d.watch_id = ANY($2) AND d.lease_until > ",
    claim_now!("$3"),
);

pub(super) const SECRETS: &str = "SELECT client_id, name, secret, previous_secret, previous_until \
    FROM clients WHERE client_id = ANY($1)";

/// Records the results of looks in their jobs. A watch that joined after the claim was not looked at yet, so its
/// job stays due. Also deletes the failures that were counted for a connection before it succeeded.
pub(super) const RECORD_JOBS: &str = concat!(
    "WITH forgotten AS (DELETE FROM connection_failures WHERE connection_id = ANY($11)) \
     UPDATE jobs j SET memory = l.memory, lease_id = NULL, lease_until = NULL, \
     waits_for = CASE WHEN l.waits_on THEN j.waits_for ELSE l.bank END, \
     waits_for_method = CASE WHEN l.waits_on THEN j.waits_for_method ELSE l.method END, \
     urgency = CASE WHEN j.joined THEN 0 ELSE l.urgency END, \
     next_look_at = CASE WHEN ",
    none!("watches w WHERE w.job_id = j.job_id AND w.settled_at IS NULL"),
    " THEN NULL WHEN j.joined THEN l.at \
         WHEN j.hinted_at > l.at THEN least(j.hinted_at, l.next_look_at) \
         ELSE l.next_look_at END, \
     user_id = l.user_id, connection_id = l.connection_id \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], \
         $7::text[], $8::text[], $9::text[], $10::text[]) \
         l (job_id, memory, at, next_look_at, urgency, waits_on, bank, method, user_id, connection_id) \
     WHERE ",
    each!("j.job_id", "l.job_id")
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
    let claims = claims(looks);
    let jobs: Vec<String> = sqlx::query_scalar(HOLD)
        .bind(columns(&claims, |row| row.job_id))
        .bind(columns(&claims, |row| row.lease_id.as_str()))
        .fetch_all(connection)
        .await?;
    Ok(held(looks, jobs))
}

/// Changes the watches that are still open, and stores their events.
async fn change_watches(
    connection: &mut PgSession<'_>,
    looks: &[&Look],
    context: &DispatchContext<'_>,
) -> Result<Option<NewWorkClaim<DueDelivery>>, StoreError> {
    let rows = changes(looks)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let changed = sqlx::query(CHANGE_WATCHES)
        .bind(columns(&rows, |row| row.watch_id.as_str()))
        .bind(columns(&rows, |row| row.job_id))
        .bind(columns(&rows, |row| row.state))
        .bind(columns(&rows, |row| row.progress.as_str()))
        .bind(columns(&rows, |row| row.at))
        .fetch_all(&mut *connection)
        .await?;
    let news = news(looks, &changed)?;
    if news.is_empty() {
        return Ok(None);
    }
    add_events(connection, news, context).await
}

/// Adds events and their deliveries, each once. A new delivery supersedes the pending one of its watch.
async fn add_events(
    connection: &mut PgSession<'_>,
    mut news: Vec<NewEventRow>,
    context: &DispatchContext<'_>,
) -> Result<Option<NewWorkClaim<DueDelivery>>, StoreError> {
    let added: Vec<String> = sqlx::query_scalar(ADD_EVENTS)
        .bind(columns(&news, |row| row.event_id.as_str()))
        .bind(columns(&news, |row| row.watch_id.as_str()))
        .bind(columns(&news, |row| row.event.body.as_str()))
        .bind(columns(&news, |row| row.at))
        .fetch_all(&mut *connection)
        .await?;
    let added: HashSet<_> = added.into_iter().collect();
    news.retain(|row| added.contains(&row.event_id));
    supersede(connection, &later_news(&news)).await?;
    let mut claim = context.dispatch.claim();
    if let Some(claim) = &mut claim {
        claim_new_events(connection, &mut news, claim, context).await?;
    }
    let now = claim.as_ref();
    let now = now.and_then(|claim| context.lease_clock.now(claim.now));
    let duration = claim.as_ref().map(|claim| millis(claim.duration));
    add_deliveries(connection, &news, now, duration).await?;
    Ok(claim)
}

/// Supersedes the pending deliveries of these watches, after it locks them.
async fn supersede(
    connection: &mut PgSession<'_>,
    news: &[&NewEventRow],
) -> Result<(), StoreError> {
    if news.is_empty() {
        return Ok(());
    }
    let watches = columns(news, |row| row.watch_id.as_str());
    sqlx::query(LOCK_DELIVERIES)
        .bind(&watches)
        .execute(&mut *connection)
        .await?;
    sqlx::query(SUPERSEDE)
        .bind(&watches)
        .bind(columns(news, |row| row.at))
        .execute(connection)
        .await?;
    Ok(())
}

/// Claims new deliveries while there are permits.
async fn claim_new_events(
    connection: &mut PgSession<'_>,
    news: &mut [NewEventRow],
    claim: &mut NewWorkClaim<DueDelivery>,
    context: &DispatchContext<'_>,
) -> Result<(), StoreError> {
    let blockers = sqlx::query(BLOCKERS)
        .bind(columns(news, |row| row.host.as_str()))
        .bind(columns(&later_news(news), |row| row.watch_id.as_str()))
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

/// Adds deliveries. Those with a lease are claimed at `now` for this duration, in milliseconds.
async fn add_deliveries(
    connection: &mut PgSession<'_>,
    news: &[NewEventRow],
    now: Option<i64>,
    duration: Option<i64>,
) -> Result<(), StoreError> {
    sqlx::query(ADD_DELIVERIES)
        .bind(columns(news, |row| row.delivery_id.as_str()))
        .bind(columns(news, |row| row.event_id.as_str()))
        .bind(columns(news, |row| row.watch_id.as_str()))
        .bind(columns(news, |row| row.client_id))
        .bind(columns(news, |row| row.host.as_str()))
        .bind(columns(news, |row| row.at))
        .bind(columns(news, |row| row.deadline))
        .bind(columns(news, |row| row.lease_id.as_deref()))
        .bind(now)
        .bind(duration)
        .execute(connection)
        .await?;
    Ok(())
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

/// Records the new state of jobs, and deletes the failures of connections that succeeded.
async fn record_jobs(
    connection: &mut PgSession<'_>,
    looks: &[&Look],
    succeeded: Vec<&str>,
) -> Result<(), StoreError> {
    let rows = jobs(looks)?;
    sqlx::query(RECORD_JOBS)
        .bind(columns(&rows, |row| row.job_id))
        .bind(columns(&rows, |row| row.memory.as_str()))
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
