//! Attempts, and what each means for its delivery.

use jiff::Timestamp;
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use tracing::{error, warn};

use crate::{
    domain::{Attempt, AttemptError, DeliveryState},
    store::{
        AfterAttempt, AttemptResult, StoreError,
        sqlite::{hosts, row::Cells, watches},
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

/// A delivery as an attempt finds it when it is recorded.
struct Found {
    watch_id: String,
    host: String,
    job_id: String,
    state: DeliveryState,
    next_attempt_at: Option<Timestamp>,
    /// Whether the attempt's claim still holds.
    held: bool,
    /// Whether this attempt was recorded before.
    known: bool,
}

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
    let found = match found(&row, result) {
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

fn found(row: &SqliteRow, result: &AttemptResult) -> Result<Found, StoreError> {
    let cells = Cells::of("deliveries", "delivery_id", row);
    let lease: Option<&str> = cells.get("lease_id")?;
    Ok(Found {
        watch_id: cells.get("watch_id")?,
        host: cells.get("host")?,
        job_id: cells.get("job_id")?,
        state: cells.read("state", DeliveryState::from_word)?,
        next_attempt_at: cells.time_opt("next_attempt_at")?,
        held: lease == Some(result.lease.to_string().as_str()),
        known: cells.get("known")?,
    })
}

/// Where a delivery stands after an attempt, and when it is tried next.
fn after(found: &Found, next: AfterAttempt) -> (DeliveryState, Option<Timestamp>) {
    let may_schedule = found.held && found.state == DeliveryState::Pending;
    match next {
        AfterAttempt::Delivered => (DeliveryState::Delivered, None),
        AfterAttempt::RetryAt(at) if may_schedule => (DeliveryState::Pending, Some(at)),
        AfterAttempt::Dead if may_schedule => (DeliveryState::Dead, None),
        AfterAttempt::Expired if may_schedule => (DeliveryState::Expired, None),
        AfterAttempt::RetryAt(_)
        | AfterAttempt::Dead
        | AfterAttempt::Expired
        | AfterAttempt::Gone => (found.state, found.next_attempt_at),
    }
}

/// When an attempt ended; a delivery that spoiled before any was made ended when it was due.
fn ended_at(result: &AttemptResult, found: &Found) -> Timestamp {
    let Some(attempt) = &result.attempt else {
        return found.next_attempt_at.unwrap_or(Timestamp::UNIX_EPOCH);
    };
    let ended_at = attempt.started_at.checked_add(attempt.duration);
    ended_at.unwrap_or(attempt.started_at)
}
