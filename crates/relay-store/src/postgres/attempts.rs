//! Records attempts and their effects on events, in a few statements however many there are.

use std::collections::HashMap;

use relay_domain::{EventId, SubscriptionId};

use crate::{
    AfterAttempt, AttemptResult, StoreError,
    postgres::{
        PgSession, hosts,
        indexes::{each, is_listed, matching},
        row::columns,
        subscription_ends, watches,
    },
    rows::{EventKind, IdBytes},
    rules::{
        AttemptEffect, accepted_messages, attempt_effects, host_outcomes, requeued,
        subscriptions_with_room, tried, tried_events, unqueued,
    },
};

pub(super) const JOBS: &str = "SELECT e.event_id, w.job_id FROM events e \
    JOIN watches w ON w.watch_id = e.source_id WHERE e.event_id = ANY($1)";

/// Finds events that were tried, with the outbox's rows of their sources, and locks both: the outbox first, in the
/// order of the given ids.
pub(super) const TRIED: &str = "SELECT e.event_id, e.source_id, e.kind, h.host, e.state, \
    e.updated_at, e.attempts, o.event_id AS queued, o.next_attempt_at, o.lease_id, \
    EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = h.host) AS host_failed \
    FROM unnest($1::bytea[]) r (event_id) JOIN events e ON e.event_id = r.event_id \
    LEFT JOIN LATERAL (SELECT o.event_id, o.host, o.next_attempt_at, o.lease_id FROM outbox o \
        WHERE o.source_id = e.source_id FOR UPDATE) o ON TRUE \
    CROSS JOIN LATERAL (SELECT coalesce(o.host, \
        (SELECT w.callback_host FROM watches w WHERE w.watch_id = e.source_id), \
        (SELECT s.callback_host FROM subscriptions s WHERE s.subscription_id = e.source_id), '') AS host) h \
    FOR NO KEY UPDATE OF e";

/// Locks subscriptions, so that no notice is added to them.
pub(super) const LOCK_SUBSCRIPTIONS: &str = "SELECT 1 FROM subscriptions WHERE subscription_id = ANY($1) \
    ORDER BY subscription_id FOR NO KEY UPDATE";

/// Queues the earliest notice of each subscription that waits, if the outbox has no row of the subscription. It
/// has been due since it came. The subscriptions are locked.
pub(super) const QUEUE_NEXT: &str = concat!(
    "INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, pending_since) \
     SELECT s.subscription_id, e.event_id, s.client_id, s.callback_host, e.created_at, n.at \
     FROM unnest($1::bytea[], $2::bigint[]) n (source_id, at) JOIN subscriptions s ON ",
    each!("s.subscription_id", "n.source_id"),
    " CROSS JOIN LATERAL (SELECT e.event_id, e.created_at FROM events e WHERE e.source_id = n.source_id \
         AND e.state = 'pending' ORDER BY e.event_id LIMIT 1) e \
     ON CONFLICT (source_id) DO NOTHING"
);

/// Deletes messages of Basiq's that were accepted, which are of no more use.
pub(super) const FORGET_MESSAGES: &str = "WITH accepted AS (DELETE FROM events WHERE event_id = ANY($1)) \
    DELETE FROM messages WHERE event_id = ANY($1)";

/// Writes attempts into their events, and the effects into the outbox. The recorded claim ends, and any other claim of
/// a row stays. A later event of the watch, which took the row over, keeps its times and counts.
pub(super) const RECORD: &str = concat!(
    "WITH tried AS (UPDATE events e SET state = r.state, attempts = r.attempts, updated_at = r.updated_at \
         FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[]) \
             r (event_id, state, attempts, updated_at) JOIN events f ON ",
    each!("f.event_id", "r.event_id"),
    " WHERE ",
    each!("e.event_id", "r.event_id"),
    " RETURNING e.client_id, e.state, e.updated_at, e.event_id, f.state AS former_state, \
             f.updated_at AS former_change), \
     unlisted AS (DELETE FROM undelivered_events WHERE ",
    matching!(
        "undelivered_events",
        "(SELECT * FROM tried WHERE state <> former_state AND former_state <> 'pending')",
        is_listed!()
    ),
    "), listed AS (INSERT INTO undelivered_events SELECT client_id, state, updated_at, event_id \
         FROM tried WHERE state <> former_state AND state <> 'delivered'), \
     unqueued AS (DELETE FROM outbox o USING unnest($5::bytea[], $6::bytea[]) r (source_id, event_id) WHERE ",
    each!("o.source_id", "r.source_id"),
    " AND o.event_id = r.event_id) \
     UPDATE outbox o SET \
     next_attempt_at = CASE WHEN o.event_id = r.event_id \
         THEN coalesce(r.next_attempt_at, o.next_attempt_at) ELSE o.next_attempt_at END, \
     attempts = CASE WHEN o.event_id = r.event_id \
         THEN greatest(o.attempts, r.number) ELSE o.attempts END, \
     round_attempts = o.round_attempts + CASE WHEN o.event_id = r.event_id \
         AND o.lease_id = r.lease_id AND r.number IS NOT NULL THEN 1 ELSE 0 END, \
     lease_until = CASE WHEN o.lease_id = r.lease_id THEN NULL ELSE o.lease_until END, \
     lease_id = nullif(o.lease_id, r.lease_id) \
     FROM unnest($7::bytea[], $8::bytea[], $9::bytea[], $10::bigint[], $11::bigint[]) \
         r (source_id, event_id, lease_id, next_attempt_at, number) WHERE ",
    each!("o.source_id", "r.source_id"),
    " AND (o.event_id = r.event_id OR o.lease_id = r.lease_id)"
);

/// Cancels a settled watch, because its callback accepts nothing any more.
pub(super) const END_WATCH: &str = "WITH ended AS (UPDATE watches \
        SET state = 'cancelled', updated_at = $2 WHERE watch_id = $1 AND state = 'settled' \
        RETURNING client_id, state, watch_id, job_id, decode(md5(callback_url), 'hex')) \
    INSERT INTO unsettled_watches (client_id, state, watch_id, job_id, url_hash) SELECT * FROM ended";

/// Records attempts, at most one for each event.
pub(super) async fn record(
    connection: &mut PgSession<'_>,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    let jobs = lock_jobs_of_gone(connection, results).await?;
    lock_subscriptions(connection, results).await?;
    let recorded = find(connection, results).await?;
    if recorded.is_empty() {
        return Ok(());
    }
    write(connection, &recorded).await?;
    queue_next(connection, &subscriptions_with_room(&recorded)).await?;
    forget_messages(connection, accepted_messages(&recorded)).await?;
    let gone = |one: &&AttemptEffect<'_>| one.result.next == AfterAttempt::Gone;
    for gone in recorded.iter().filter(gone) {
        match gone.found.kind {
            EventKind::Job => end_watch(connection, gone, &jobs).await?,
            EventKind::Notice => {
                let source = gone.found.source_id;
                subscription_ends::end(connection, source, gone.ended_at).await?;
            }
            EventKind::Message => {}
        }
    }
    hosts::note(connection, &host_outcomes(&recorded)).await
}

/// Locks the jobs of events whose callback is gone, because jobs are locked before the outbox. No other attempt
/// changes a job. Returns the job of each such event.
async fn lock_jobs_of_gone(
    connection: &mut PgSession<'_>,
    results: &[&AttemptResult],
) -> Result<HashMap<IdBytes, String>, StoreError> {
    let gone = results
        .iter()
        .filter(|result| result.next == AfterAttempt::Gone);
    let gone: Vec<_> = gone
        .map(|result| EventId::from(result.delivery_id).to_bytes())
        .collect();
    if gone.is_empty() {
        return Ok(HashMap::new());
    }
    let jobs: Vec<(IdBytes, String)> = sqlx::query_as(JOBS)
        .bind(gone)
        .fetch_all(&mut *connection)
        .await?;
    let jobs: HashMap<_, _> = jobs.into_iter().collect();
    let ids: Vec<_> = jobs.values().cloned().collect();
    watches::lock_jobs(connection, &ids).await?;
    Ok(jobs)
}

/// Locks the subscriptions whose notices were tried, because they are locked before the outbox.
async fn lock_subscriptions(
    connection: &mut PgSession<'_>,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    let tried = results.iter().filter_map(|result| result.subscription_id);
    let tried: Vec<IdBytes> = tried.map(SubscriptionId::to_bytes).collect();
    if !tried.is_empty() {
        sqlx::query(LOCK_SUBSCRIPTIONS)
            .bind(tried)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Queues the next notice of each of these subscriptions, which the caller has locked.
pub(super) async fn queue_next(
    connection: &mut PgSession<'_>,
    subscriptions: &[(IdBytes, i64)],
) -> Result<(), StoreError> {
    if !subscriptions.is_empty() {
        sqlx::query(QUEUE_NEXT)
            .bind(columns(subscriptions, |(source, _)| *source))
            .bind(columns(subscriptions, |(_, at)| *at))
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn forget_messages(
    connection: &mut PgSession<'_>,
    accepted: Vec<IdBytes>,
) -> Result<(), StoreError> {
    if !accepted.is_empty() {
        sqlx::query(FORGET_MESSAGES)
            .bind(accepted)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Returns the effects of attempts, and locks their events.
async fn find<'r>(
    connection: &mut PgSession<'_>,
    results: &[&'r AttemptResult],
) -> Result<Vec<AttemptEffect<'r>>, StoreError> {
    let mut events = tried(results);
    events.sort_unstable();
    let rows = sqlx::query(TRIED).bind(events).fetch_all(connection);
    attempt_effects(results, &rows.await?)
}

/// Writes attempts, and changes their events and the outbox.
async fn write(
    connection: &mut PgSession<'_>,
    recorded: &[AttemptEffect<'_>],
) -> Result<(), StoreError> {
    let events = tried_events(recorded)?;
    let (unqueued, requeued) = (unqueued(recorded), requeued(recorded));
    sqlx::query(RECORD)
        .bind(columns(&events, |row| row.event_id))
        .bind(columns(&events, |row| row.state))
        .bind(columns(&events, |row| row.attempts.as_str()))
        .bind(columns(&events, |row| row.updated_at))
        .bind(columns(&unqueued, |row| row.source_id))
        .bind(columns(&unqueued, |row| row.event_id))
        .bind(columns(&requeued, |row| row.source_id))
        .bind(columns(&requeued, |row| row.event_id))
        .bind(columns(&requeued, |row| row.lease_id))
        .bind(columns(&requeued, |row| row.next_attempt_at))
        .bind(columns(&requeued, |row| row.number))
        .execute(connection)
        .await?;
    Ok(())
}

async fn end_watch(
    connection: &mut PgSession<'_>,
    gone: &AttemptEffect<'_>,
    jobs: &HashMap<IdBytes, String>,
) -> Result<(), StoreError> {
    let watch = gone.found.source_id;
    let job = jobs.get(&EventId::from(gone.result.delivery_id).to_bytes());
    let jobs = job.cloned();
    watches::cancel(connection, &[watch], jobs.as_slice(), gone.ended_at).await?;
    sqlx::query(END_WATCH)
        .bind(watch)
        .bind(gone.ended_at.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}
