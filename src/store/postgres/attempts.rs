//! Attempts, and what each means for its delivery, in a few statements however many there are.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use sqlx::PgConnection;
use tracing::{error, warn};

use crate::{
    domain::{Attempt, AttemptError, DeliveryState},
    store::{
        AfterAttempt, AttemptResult, StoreError,
        common::{Cells, Found, after, ended_at, millis},
        postgres::{hosts, row::plain, watches},
    },
};

pub(super) const JOBS: &str = "SELECT DISTINCT w.job_id FROM deliveries d \
    JOIN watches w ON w.watch_id = d.watch_id WHERE d.delivery_id = ANY($1)";

pub(super) const DELIVERIES: &str = "SELECT d.delivery_id, d.watch_id, d.host, d.state, \
    d.next_attempt_at, d.lease_id, w.job_id, \
    (SELECT coalesce(max(a.number), 0) FROM attempts a WHERE a.delivery_id = d.delivery_id) AS number, \
    EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_id = d.delivery_id \
        AND a.lease_id = r.lease_id) AS known \
    FROM unnest($1::text[], $2::text[]) r (delivery_id, lease_id) \
    JOIN deliveries d ON d.delivery_id = r.delivery_id \
    JOIN watches w ON w.watch_id = d.watch_id \
    ORDER BY d.delivery_id FOR UPDATE OF d";

pub(super) const ADD_ATTEMPTS: &str = "INSERT INTO attempts (delivery_id, number, lease_id, \
    started_at, duration, status, error, response) \
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], \
        $6::bigint[], $7::text[], $8::text[])";

/// The claim that was recorded is over; another one is left alone.
pub(super) const RECORD: &str = "UPDATE deliveries d SET \
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

/// A settled watch becomes cancelled as well: its callback takes nothing any more.
pub(super) const END_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = $2, \
    settled_at = coalesce(settled_at, $2) WHERE watch_id = $1 AND state <> 'cancelled'";

/// Results in parts that name each delivery once at most, in their order.
pub(super) fn waves(results: &[AttemptResult]) -> Vec<Vec<&AttemptResult>> {
    let mut waves: Vec<(HashSet<_>, Vec<_>)> = Vec::new();
    for result in results {
        let free = waves
            .iter_mut()
            .find(|(ids, _)| !ids.contains(&result.delivery_id));
        match free {
            Some((ids, wave)) => {
                ids.insert(result.delivery_id);
                wave.push(result);
            }
            None => waves.push((HashSet::from([result.delivery_id]), vec![result])),
        }
    }
    waves.into_iter().map(|(_, wave)| wave).collect()
}

/// What an attempt comes to.
struct Recorded<'r> {
    result: &'r AttemptResult,
    found: Found,
    /// Its number, if there was one: the next that is free.
    number: Option<i64>,
    state: DeliveryState,
    next_attempt_at: Option<Timestamp>,
    ended_at: Timestamp,
}

/// Records attempts, of each delivery one.
pub(super) async fn record(
    connection: &mut PgConnection,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    lock_jobs_of_gone(connection, results).await?;
    let recorded = find(connection, results).await?;
    if recorded.is_empty() {
        return Ok(());
    }
    add_attempts(connection, &recorded).await?;
    change_deliveries(connection, &recorded).await?;
    for gone in recorded
        .iter()
        .filter(|one| one.result.next == AfterAttempt::Gone)
    {
        end_watch(connection, gone).await?;
    }
    note_hosts(connection, &recorded).await
}

/// Jobs are locked before deliveries; only a callback that is gone changes a job.
async fn lock_jobs_of_gone(
    connection: &mut PgConnection,
    results: &[&AttemptResult],
) -> Result<(), StoreError> {
    let gone = results
        .iter()
        .filter(|result| result.next == AfterAttempt::Gone);
    let gone: Vec<_> = gone.map(|result| result.delivery_id.to_string()).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let jobs: Vec<String> = sqlx::query_scalar(JOBS)
        .bind(gone)
        .fetch_all(&mut *connection)
        .await?;
    watches::lock_jobs(connection, &jobs).await
}

/// The deliveries of results, locked; those whose attempt was recorded before are left out.
async fn find<'r>(
    connection: &mut PgConnection,
    results: &[&'r AttemptResult],
) -> Result<Vec<Recorded<'r>>, StoreError> {
    let rows = sqlx::query(DELIVERIES)
        .bind(
            results
                .iter()
                .map(|result| result.delivery_id.to_string())
                .collect::<Vec<_>>(),
        )
        .bind(
            results
                .iter()
                .map(|result| result.lease.to_string())
                .collect::<Vec<_>>(),
        )
        .fetch_all(connection)
        .await?;
    let by_id = results
        .iter()
        .map(|result| (result.delivery_id.to_string(), *result));
    let mut by_id: HashMap<_, _> = by_id.collect();
    let mut recorded = Vec::with_capacity(rows.len());
    for row in &rows {
        let cells = Cells::of("deliveries", "delivery_id", row);
        let Some(result) = by_id.remove(cells.get::<&str>("delivery_id")?) else {
            continue;
        };
        match Found::read(row, result) {
            Ok(found) if found.known => {}
            Ok(found) => recorded.push(recording(result, found, cells.get("number")?)),
            // one damaged row must not hold up the attempts recorded with it
            Err(failure) => error!(error = %failure, "an attempt cannot be recorded"),
        }
    }
    for id in by_id.keys() {
        warn!(delivery.id = %id, "a delivery ended before its attempt was recorded");
    }
    Ok(recorded)
}

fn recording(result: &AttemptResult, found: Found, latest: i64) -> Recorded<'_> {
    let (state, next_attempt_at) = after(&found, result.next);
    let number = result
        .attempt
        .as_ref()
        .map(|attempt| i64::from(attempt.number));
    Recorded {
        result,
        number: number.map(|number| number.max(latest + 1)),
        state,
        next_attempt_at,
        ended_at: ended_at(result, &found),
        found,
    }
}

async fn add_attempts(
    connection: &mut PgConnection,
    recorded: &[Recorded<'_>],
) -> Result<(), StoreError> {
    let made = recorded
        .iter()
        .filter_map(|one| Some((one, one.result.attempt.as_ref()?)));
    let made: Vec<_> = made.collect();
    if made.is_empty() {
        return Ok(());
    }
    let ids = |of: fn(&AttemptResult) -> String| {
        made.iter()
            .map(|(one, _)| of(one.result))
            .collect::<Vec<_>>()
    };
    let texts = |of: fn(&Attempt) -> Option<String>| {
        made.iter()
            .map(|(_, attempt)| of(attempt))
            .collect::<Vec<_>>()
    };
    let numbers = |of: fn(&Attempt) -> i64| {
        made.iter()
            .map(|(_, attempt)| of(attempt))
            .collect::<Vec<_>>()
    };
    let statuses = made
        .iter()
        .map(|(_, attempt)| attempt.status.map(i64::from));
    sqlx::query(ADD_ATTEMPTS)
        .bind(ids(|result| result.delivery_id.to_string()))
        .bind(made.iter().map(|(one, _)| one.number).collect::<Vec<_>>())
        .bind(ids(|result| result.lease.to_string()))
        .bind(numbers(|attempt| attempt.started_at.as_millisecond()))
        .bind(numbers(|attempt| millis(attempt.duration)))
        .bind(statuses.collect::<Vec<_>>())
        .bind(texts(|attempt| {
            attempt
                .error
                .map(|error| AttemptError::as_str(error).to_owned())
        }))
        .bind(texts(|attempt| attempt.response.as_deref().map(plain)))
        .execute(connection)
        .await?;
    Ok(())
}

async fn change_deliveries(
    connection: &mut PgConnection,
    recorded: &[Recorded<'_>],
) -> Result<(), StoreError> {
    let texts = |of: fn(&Recorded<'_>) -> String| recorded.iter().map(of).collect::<Vec<_>>();
    let next = recorded
        .iter()
        .map(|one| one.next_attempt_at.map(Timestamp::as_millisecond));
    sqlx::query(RECORD)
        .bind(texts(|one| one.result.delivery_id.to_string()))
        .bind(texts(|one| one.result.lease.to_string()))
        .bind(texts(|one| one.state.as_str().to_owned()))
        .bind(next.collect::<Vec<_>>())
        .bind(
            recorded
                .iter()
                .map(|one| one.ended_at.as_millisecond())
                .collect::<Vec<_>>(),
        )
        .bind(recorded.iter().map(|one| one.number).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

async fn end_watch(connection: &mut PgConnection, gone: &Recorded<'_>) -> Result<(), StoreError> {
    let watch = &gone.found.watch_id;
    sqlx::query(END_WATCH)
        .bind(watch)
        .bind(gone.ended_at.as_millisecond())
        .execute(&mut *connection)
        .await?;
    let (watches, jobs) = ([watch.clone()], [gone.found.job_id.clone()]);
    watches::cancel(connection, &watches, &jobs, gone.ended_at).await
}

/// Notes what attempts say about their hosts, each host's in the order in which they ended.
async fn note_hosts(
    connection: &mut PgConnection,
    recorded: &[Recorded<'_>],
) -> Result<(), StoreError> {
    let mut hosts: BTreeMap<&str, Vec<(Timestamp, &Attempt)>> = BTreeMap::new();
    for one in recorded {
        if let Some(attempt) = &one.result.attempt {
            let attempts = hosts.entry(&one.found.host).or_default();
            attempts.push((one.ended_at, attempt));
        }
    }
    for attempts in hosts.values_mut() {
        attempts.sort_by_key(|(ended_at, _)| *ended_at);
    }
    hosts::note(connection, &hosts).await
}
