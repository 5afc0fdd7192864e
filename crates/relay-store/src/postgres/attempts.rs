//! Records attempts and their effects on deliveries, in a few statements however many there are.

use std::collections::HashMap;

use crate::{
    AfterAttempt, AttemptResult, StoreError,
    postgres::{
        PgSession, hosts,
        row::{columns, plain},
        watches,
    },
    rules::{AttemptEffect, after_rows, attempt_rows, host_words, recorded, tried},
};

pub(super) const JOBS: &str = "SELECT d.delivery_id, w.job_id FROM deliveries d \
    JOIN watches w ON w.watch_id = d.watch_id WHERE d.delivery_id = ANY($1)";

pub(super) const DELIVERIES: &str = "SELECT d.delivery_id, d.watch_id, d.host, d.state, \
    d.next_attempt_at, d.lease_id, \
    (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.delivery_id) AS number, \
    EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_id = d.delivery_id \
        AND a.lease_id = r.lease_id) AS known, \
    EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = d.host) AS host_failed \
    FROM unnest($1::text[], $2::text[]) r (delivery_id, lease_id) \
    JOIN deliveries d ON d.delivery_id = r.delivery_id \
    ORDER BY d.delivery_id FOR UPDATE OF d";

/// Adds attempts, and changes their deliveries. The lease under which an attempt was made ends. Any other lease
/// stays.
pub(super) const RECORD: &str = "WITH added AS (INSERT INTO attempts (delivery_id, number, lease_id, \
        started_at, duration, status, error, response, error_detail) \
        SELECT * FROM unnest($7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], \
            $12::bigint[], $13::text[], $14::text[], $15::text[])) \
    UPDATE deliveries d SET \
    attempts = greatest(d.attempts, coalesce(r.number, 0)), \
    round_attempts = d.round_attempts + \
        CASE WHEN d.lease_id = r.lease_id AND r.number IS NOT NULL THEN 1 ELSE 0 END, \
    updated_at = CASE WHEN d.state = r.state THEN d.updated_at ELSE r.ended_at END, \
    state = r.state, next_attempt_at = r.next_attempt_at, \
    lease_until = CASE WHEN d.lease_id = r.lease_id THEN NULL ELSE d.lease_until END, \
    lease_id = nullif(d.lease_id, r.lease_id) \
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) \
        r (delivery_id, lease_id, state, next_attempt_at, ended_at, number) \
    WHERE d.delivery_id = r.delivery_id";

/// Cancels a watch, even a settled one, because its callback accepts nothing any more.
pub(super) const END_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = $2, \
    settled_at = coalesce(settled_at, $2) WHERE watch_id = $1 AND state <> 'cancelled'";

/// Records attempts, at most one for each delivery.
pub(super) async fn record(
    connection: &mut PgSession<'_>,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    let jobs = lock_jobs_of_gone(connection, results).await?;
    let recorded = find(connection, results).await?;
    if recorded.is_empty() {
        return Ok(());
    }
    write(connection, &recorded).await?;
    let gone = |one: &&AttemptEffect<'_>| one.result.next == AfterAttempt::Gone;
    for gone in recorded.iter().filter(gone) {
        end_watch(connection, gone, &jobs).await?;
    }
    hosts::note(connection, &host_words(&recorded)).await
}

/// Locks the jobs of deliveries whose callback is gone, because jobs are locked before deliveries. No other
/// attempt changes a job. Returns the job of each such delivery, by the id of the delivery.
async fn lock_jobs_of_gone(
    connection: &mut PgSession<'_>,
    results: &[&AttemptResult],
) -> Result<HashMap<String, String>, StoreError> {
    let gone = results
        .iter()
        .filter(|result| result.next == AfterAttempt::Gone);
    let gone: Vec<_> = gone.map(|result| result.delivery_id.to_string()).collect();
    if gone.is_empty() {
        return Ok(HashMap::new());
    }
    let jobs: Vec<(String, String)> = sqlx::query_as(JOBS)
        .bind(gone)
        .fetch_all(&mut *connection)
        .await?;
    let jobs: HashMap<_, _> = jobs.into_iter().collect();
    let ids: Vec<_> = jobs.values().cloned().collect();
    watches::lock_jobs(connection, &ids).await?;
    Ok(jobs)
}

/// Returns the effects of attempts, and locks their deliveries.
async fn find<'r>(
    connection: &mut PgSession<'_>,
    results: &[&'r AttemptResult],
) -> Result<Vec<AttemptEffect<'r>>, StoreError> {
    let tried = tried(results);
    let rows = sqlx::query(DELIVERIES)
        .bind(columns(&tried, |row| row.delivery_id.as_str()))
        .bind(columns(&tried, |row| row.lease_id.as_str()))
        .fetch_all(connection)
        .await?;
    recorded(results, &rows)
}

/// Writes attempts, and changes their deliveries.
async fn write(
    connection: &mut PgSession<'_>,
    recorded: &[AttemptEffect<'_>],
) -> Result<(), StoreError> {
    let (after, attempts) = (after_rows(recorded), attempt_rows(recorded));
    sqlx::query(RECORD)
        .bind(columns(&after, |row| row.delivery_id.as_str()))
        .bind(columns(&after, |row| row.lease_id.as_str()))
        .bind(columns(&after, |row| row.state))
        .bind(columns(&after, |row| row.next_attempt_at))
        .bind(columns(&after, |row| row.ended_at))
        .bind(columns(&after, |row| row.number))
        .bind(columns(&attempts, |row| row.delivery_id.as_str()))
        .bind(columns(&attempts, |row| row.number))
        .bind(columns(&attempts, |row| row.lease_id.as_str()))
        .bind(columns(&attempts, |row| row.started_at))
        .bind(columns(&attempts, |row| row.duration))
        .bind(columns(&attempts, |row| row.status))
        .bind(columns(&attempts, |row| row.error))
        .bind(columns(&attempts, |row| row.response.map(plain)))
        .bind(columns(&attempts, |row| row.error_detail.map(plain)))
        .execute(connection)
        .await?;
    Ok(())
}

async fn end_watch(
    connection: &mut PgSession<'_>,
    gone: &AttemptEffect<'_>,
    jobs: &HashMap<String, String>,
) -> Result<(), StoreError> {
    let watch = &gone.found.watch_id;
    sqlx::query(END_WATCH)
        .bind(watch)
        .bind(gone.ended_at.as_millisecond())
        .execute(&mut *connection)
        .await?;
    let job = jobs.get(&gone.result.delivery_id.to_string());
    let (watches, jobs) = ([watch.clone()], job.cloned());
    watches::cancel(connection, &watches, jobs.as_slice(), gone.ended_at).await
}
