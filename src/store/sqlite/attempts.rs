//! Attempts, and what each means for its delivery.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use tracing::{error, warn};

use crate::{
    domain::{Attempt, AttemptError},
    store::{
        AfterAttempt, AttemptResult, StoreError,
        common::{Found, after, ended_at},
        sqlite::{hosts, watches},
    },
};

const DELIVERY: &str = "SELECT d.delivery_id, d.watch_id, d.host, d.state, d.next_attempt_at, d.lease_id, \
    w.job_id, EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_id = d.delivery_id \
        AND a.lease_id = ?2) AS known \
    FROM deliveries d CROSS JOIN watches w ON w.watch_id = d.watch_id WHERE d.delivery_id = ?1";

/// A number that was taken by an attempt under another claim gives way to the next free one.
const ADD_ATTEMPT: &str = "INSERT INTO attempts (delivery_id, number, lease_id, started_at, \
    duration, status, error, response) VALUES (?1, \
    max(?2, (SELECT ifnull(max(number), 0) + 1 FROM attempts WHERE delivery_id = ?1)), \
    ?3, ?4, ?5, ?6, ?7, ?8)";

/// The claim that was recorded is over; another one is left alone.
const RECORD: &str = "UPDATE deliveries SET \
    attempts = (SELECT ifnull(max(number), 0) FROM attempts WHERE delivery_id = ?1), \
    round_attempts = round_attempts + (lease_id IS ?2 AND ?6), \
    updated_at = iif(state = ?3, updated_at, ?5), state = ?3, next_attempt_at = ?4, \
    lease_until = iif(lease_id IS ?2, NULL, lease_until), lease_id = nullif(lease_id, ?2) \
    WHERE delivery_id = ?1";

/// A settled watch becomes cancelled as well: its callback takes nothing any more.
const END_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = ?2, \
    settled_at = ifnull(settled_at, ?2) WHERE watch_id = ?1 AND state <> 'cancelled'";

/// Records attempts.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    results: Vec<AttemptResult>,
) -> Result<(), StoreError> {
    for result in &results {
        record_one(connection, result).await?;
    }
    Ok(())
}

async fn record_one(
    connection: &mut SqliteConnection,
    result: &AttemptResult,
) -> Result<(), StoreError> {
    let row = sqlx::query(DELIVERY)
        .bind(result.delivery_id.to_string())
        .bind(result.lease.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        warn!(delivery.id = %result.delivery_id, "a delivery ended before its attempt was recorded");
        return Ok(());
    };
    let found = match Found::read(&row, result) {
        Ok(found) if found.known => return Ok(()),
        Ok(found) => found,
        // one damaged row must not hold up the attempts recorded with it
        Err(failure) => {
            error!(error = %failure, "an attempt cannot be recorded");
            return Ok(());
        }
    };
    if let Some(attempt) = &result.attempt {
        add_attempt(connection, result, attempt).await?;
        hosts::note(connection, &found.host, attempt, ended_at(result, &found)).await?;
    }
    let (state, next_attempt_at) = after(&found, result.next);
    let ended_at = ended_at(result, &found);
    sqlx::query(RECORD)
        .bind(result.delivery_id.to_string())
        .bind(result.lease.to_string())
        .bind(state.as_str())
        .bind(next_attempt_at.map(Timestamp::as_millisecond))
        .bind(ended_at.as_millisecond())
        .bind(result.attempt.is_some())
        .execute(&mut *connection)
        .await?;
    if result.next == AfterAttempt::Gone {
        sqlx::query(END_WATCH)
            .bind(&found.watch_id)
            .bind(ended_at.as_millisecond())
            .execute(&mut *connection)
            .await?;
        watches::cancel(connection, &found.watch_id, &found.job_id, ended_at).await?;
    }
    Ok(())
}

async fn add_attempt(
    connection: &mut SqliteConnection,
    result: &AttemptResult,
    attempt: &Attempt,
) -> Result<(), StoreError> {
    let duration = i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX);
    sqlx::query(ADD_ATTEMPT)
        .bind(result.delivery_id.to_string())
        .bind(attempt.number)
        .bind(result.lease.to_string())
        .bind(attempt.started_at.as_millisecond())
        .bind(duration)
        .bind(attempt.status)
        .bind(attempt.error.map(AttemptError::as_str))
        .bind(attempt.response.as_deref())
        .execute(connection)
        .await?;
    Ok(())
}
