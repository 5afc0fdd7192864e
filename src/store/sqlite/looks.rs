//! What looks brought: jobs, watches, events and their deliveries, in one unit of work and, however
//! many looks there are, in a few statements.

use std::collections::HashSet;

use sqlx::SqliteConnection;

use crate::{
    domain::JobId,
    store::{
        Look, OutageChange, StoreError,
        common::{Lessons, NewsRow, changes, claims, held, jobs, news, reports},
        sqlite::{
            banks::begin_outage,
            paces::learn,
            row::{json_list, json_rows},
        },
    },
};

pub(super) const HOLD: &str = "SELECT j.job_id FROM jsonb_each(?1) l CROSS JOIN jobs j \
    ON j.job_id = l.value ->> 'job_id' AND j.lease_id = l.value ->> 'lease_id'";

pub(super) const CHANGE_WATCHES: &str = "UPDATE watches SET state = c.value ->> 'state', \
    progress = c.value ->> 'progress', updated_at = c.value ->> 'at', \
    settled_at = iif(c.value ->> 'state' IN ('settled', 'cancelled'), c.value ->> 'at', NULL) \
    FROM jsonb_each(?1) c WHERE watches.watch_id = c.value ->> 'watch_id' \
    AND +watches.job_id = c.value ->> 'job_id' AND +watches.settled_at IS NULL \
    RETURNING watch_id, client_id, callback_host";

pub(super) const ADD_EVENTS: &str = "INSERT INTO events (event_id, watch_id, body, created_at) \
    SELECT value ->> 'event_id', value ->> 'watch_id', value ->> 'body', value ->> 'at' \
    FROM jsonb_each(?1) WHERE TRUE ON CONFLICT (event_id) DO NOTHING RETURNING event_id";

/// The plus keeps the planner off the index of states, where all that is pending would be read.
pub(super) const SUPERSEDE: &str = "UPDATE deliveries SET state = 'superseded', \
    next_attempt_at = NULL, updated_at = n.value ->> 'at' FROM jsonb_each(?1) n \
    WHERE deliveries.watch_id = n.value ->> 'watch_id' AND +deliveries.state = 'pending'";

pub(super) const ADD_DELIVERIES: &str = "INSERT INTO deliveries (delivery_id, event_id, watch_id, \
    client_id, host, state, next_attempt_at, deadline, updated_at) \
    SELECT value ->> 'delivery_id', value ->> 'event_id', value ->> 'watch_id', \
    value ->> 'client_id', value ->> 'host', 'pending', value ->> 'at', value ->> 'deadline', \
    value ->> 'at' FROM jsonb_each(?1)";

/// A watch that joined since the claim was not looked at yet: the job stays due.
pub(super) const RECORD_JOBS: &str = "UPDATE jobs SET memory = l.value ->> 'memory', lease_id = NULL, \
    lease_until = NULL, \
    waits_for = iif(l.value ->> 'waits_on', waits_for, l.value ->> 'bank'), \
    waits_for_method = iif(l.value ->> 'waits_on', waits_for_method, l.value ->> 'method'), \
    urgency = iif(joined, 0, l.value ->> 'urgency'), next_look_at = CASE \
        WHEN NOT EXISTS (SELECT 1 FROM watches w \
            WHERE w.job_no = jobs.job_no AND w.settled_at IS NULL) THEN NULL \
        WHEN joined THEN l.value ->> 'at' \
        WHEN hinted_at > l.value ->> 'at' THEN min(hinted_at, l.value ->> 'next_look_at') \
        ELSE l.value ->> 'next_look_at' END, \
    user_id = l.value ->> 'user_id', connection_id = l.value ->> 'connection_id' \
    FROM jsonb_each(?1) l WHERE jobs.job_id = l.value ->> 'job_id'";

const FORGET_FAILURES: &str = "DELETE FROM connection_failures \
    WHERE connection_id IN (SELECT value FROM json_each(?1))";

const ADD_FAILURES: &str = "INSERT INTO connection_failures (connection_id, job_id, failed_at) \
    SELECT value ->> 'connection_id', value ->> 'job_id', value ->> 'at' \
    FROM jsonb_each(?1) WHERE TRUE ON CONFLICT DO NOTHING";

/// Records looks, and names the jobs whose lease still held.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    looks: &[Look],
) -> Result<Vec<JobId>, StoreError> {
    let still: Vec<String> = sqlx::query_scalar(HOLD)
        .bind(json_rows(&claims(looks))?)
        .fetch_all(&mut *connection)
        .await?;
    let looks = held(looks, still);
    if looks.is_empty() {
        return Ok(Vec::new());
    }
    change_watches(connection, &looks).await?;
    report_connections(connection, &looks).await?;
    learn(connection, &Lessons::of(&looks)).await?;
    for look in &looks {
        if let OutageChange::Began(bank, next_look_at) = &look.outage {
            begin_outage(connection, bank, *next_look_at).await?;
        }
    }
    sqlx::query(RECORD_JOBS)
        .bind(json_rows(&jobs(&looks)?)?)
        .execute(connection)
        .await?;
    Ok(looks.iter().map(|look| look.job_id.clone()).collect())
}

/// Changes the watches that are still open, and stores what they are told.
async fn change_watches(
    connection: &mut SqliteConnection,
    looks: &[&Look],
) -> Result<(), StoreError> {
    let rows = changes(looks)?;
    if rows.is_empty() {
        return Ok(());
    }
    let changed = sqlx::query(CHANGE_WATCHES)
        .bind(json_rows(&rows)?)
        .fetch_all(&mut *connection)
        .await?;
    let news = news(looks, &changed)?;
    if news.is_empty() {
        return Ok(());
    }
    add_events(connection, news).await
}

/// Adds events and their deliveries, each once, in place of what was not accepted yet.
async fn add_events(
    connection: &mut SqliteConnection,
    mut news: Vec<NewsRow>,
) -> Result<(), StoreError> {
    let rows = json_rows(&news)?;
    let added: Vec<String> = sqlx::query_scalar(ADD_EVENTS)
        .bind(&rows)
        .fetch_all(&mut *connection)
        .await?;
    let rows = if added.len() == news.len() {
        rows
    } else {
        let added: HashSet<_> = added.into_iter().collect();
        news.retain(|row| added.contains(&row.event_id));
        json_rows(&news)?
    };
    for statement in [SUPERSEDE, ADD_DELIVERIES] {
        sqlx::query(statement)
            .bind(&rows)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Counts failures of connections, and forgets those before a success.
async fn report_connections(
    connection: &mut SqliteConnection,
    looks: &[&Look],
) -> Result<(), StoreError> {
    let (succeeded, failures) = reports(looks);
    if !succeeded.is_empty() {
        sqlx::query(FORGET_FAILURES)
            .bind(json_list(succeeded))
            .execute(&mut *connection)
            .await?;
    }
    if !failures.is_empty() {
        sqlx::query(ADD_FAILURES)
            .bind(json_rows(&failures)?)
            .execute(connection)
            .await?;
    }
    Ok(())
}
