//! What looks brought: jobs, watches, events and their deliveries, in one unit of work.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    domain::{DeliveryId, Event, JobId},
    store::{
        ConnectionReport, Look, OutageChange, StoreError, WatchChange,
        common::{rank, unwritable},
        sqlite::{banks::begin_outage, paces::learn},
    },
};

const HOLDS_LEASE: &str = "SELECT 1 FROM jobs WHERE job_id = ?1 AND lease_id = ?2";

const CHANGE_WATCH: &str = "UPDATE watches SET state = ?3, progress = ?4, updated_at = ?5, \
    settled_at = iif(?3 IN ('settled', 'cancelled'), ?5, NULL) \
    WHERE watch_id = ?1 AND job_id = ?2 AND settled_at IS NULL \
    RETURNING client_id, callback_host";

const ADD_EVENT: &str = "INSERT INTO events (event_id, watch_id, body, created_at) \
    VALUES (?1, ?2, ?3, ?4) ON CONFLICT (event_id) DO NOTHING";

const SUPERSEDE: &str = "UPDATE deliveries SET state = 'superseded', next_attempt_at = NULL, \
    updated_at = ?2 WHERE watch_id = ?1 AND state = 'pending'";

const ADD_DELIVERY: &str = "INSERT INTO deliveries (delivery_id, event_id, watch_id, client_id, \
    host, state, next_attempt_at, deadline, updated_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7, ?6)";

/// A watch that joined since the claim was not looked at yet: the job stays due.
const RECORD_JOB: &str = "UPDATE jobs SET memory = ?2, lease_id = NULL, lease_until = NULL, \
    waits_for = iif(?6, waits_for, ?7), waits_for_method = iif(?6, waits_for_method, ?8), \
    urgency = iif(joined, 0, ?5), next_look_at = CASE \
        WHEN NOT EXISTS (SELECT 1 FROM watches w WHERE w.job_id = ?1 AND w.settled_at IS NULL) \
        THEN NULL WHEN joined THEN ?3 WHEN hinted_at > ?3 THEN min(hinted_at, ?4) ELSE ?4 END, \
    user_id = ?9, connection_id = ?10 \
    WHERE job_id = ?1";

const ADD_FAILURE: &str = "INSERT INTO connection_failures (connection_id, job_id, failed_at) \
    VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

const FORGET_FAILURES: &str = "DELETE FROM connection_failures WHERE connection_id = ?1";

/// Records looks, and names the jobs whose lease still held.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    looks: Vec<Look>,
) -> Result<Vec<JobId>, StoreError> {
    let mut recorded = Vec::with_capacity(looks.len());
    for look in looks {
        if record_one(connection, &look).await? {
            recorded.push(look.job_id);
        }
    }
    Ok(recorded)
}

async fn record_one(connection: &mut SqliteConnection, look: &Look) -> Result<bool, StoreError> {
    let held = sqlx::query(HOLDS_LEASE)
        .bind(look.job_id.as_str())
        .bind(look.lease.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    if held.is_none() {
        return Ok(false);
    }
    for change in &look.changes {
        change_watch(connection, look, change).await?;
    }
    if let Some(report) = &look.connection {
        report_connection(connection, look, report).await?;
    }
    if let Some(lesson) = &look.lesson {
        learn(connection, lesson, look.at).await?;
    }
    let began = match &look.outage {
        OutageChange::None | OutageChange::Unchanged => None,
        OutageChange::Began(bank, next_look_at) => {
            begin_outage(connection, bank, *next_look_at).await?;
            Some(bank)
        }
    };
    sqlx::query(RECORD_JOB)
        .bind(look.job_id.as_str())
        .bind(serde_json::to_string(&look.memory).map_err(unwritable)?)
        .bind(look.at.as_millisecond())
        .bind(look.next_look_at.as_millisecond())
        .bind(rank(look.urgency))
        .bind(look.outage == OutageChange::Unchanged)
        .bind(began.map(|bank| &bank.institution_id))
        .bind(began.map(|bank| &bank.method))
        .bind(&look.memory.context.user_id)
        .bind(&look.memory.context.connection_id)
        .execute(connection)
        .await?;
    Ok(true)
}

async fn change_watch(
    connection: &mut SqliteConnection,
    look: &Look,
    change: &WatchChange,
) -> Result<(), StoreError> {
    let watch_id = change.watch_id.to_string();
    let changed = sqlx::query(CHANGE_WATCH)
        .bind(&watch_id)
        .bind(look.job_id.as_str())
        .bind(change.state.as_str())
        .bind(serde_json::to_string(&change.progress).map_err(unwritable)?)
        .bind(look.at.as_millisecond())
        .fetch_optional(&mut *connection)
        .await?;
    match (changed, &change.event) {
        (Some(watch), Some(event)) => {
            add_event(connection, &watch_id, &watch, event, look.at).await
        }
        (None, _) | (_, None) => Ok(()),
    }
}

/// Adds an event and its delivery, once, in place of what was not accepted yet.
async fn add_event(
    connection: &mut SqliteConnection,
    watch_id: &str,
    watch: &SqliteRow,
    event: &Event,
    at: Timestamp,
) -> Result<(), StoreError> {
    let event_id = event.id.to_string();
    let added = sqlx::query(ADD_EVENT)
        .bind(&event_id)
        .bind(watch_id)
        .bind(event.to_json().map_err(unwritable)?)
        .bind(at.as_millisecond())
        .execute(&mut *connection)
        .await?;
    if added.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(SUPERSEDE)
        .bind(watch_id)
        .bind(at.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(ADD_DELIVERY)
        .bind(DeliveryId::new(at).to_string())
        .bind(event_id)
        .bind(watch_id)
        .bind(watch.try_get::<i64, _>("client_id")?)
        .bind(watch.try_get::<&str, _>("callback_host")?)
        .bind(at.as_millisecond())
        .bind(event.deadline.map(Timestamp::as_millisecond))
        .execute(connection)
        .await?;
    Ok(())
}

async fn report_connection(
    connection: &mut SqliteConnection,
    look: &Look,
    report: &ConnectionReport,
) -> Result<(), StoreError> {
    let statement = if report.unavailable {
        sqlx::query(ADD_FAILURE)
            .bind(&report.connection_id)
            .bind(look.job_id.as_str())
            .bind(look.at.as_millisecond())
    } else {
        sqlx::query(FORGET_FAILURES).bind(&report.connection_id)
    };
    statement.execute(connection).await?;
    Ok(())
}
