//! What looks brought: jobs, watches, events and their deliveries, in one unit of work and, however
//! many looks there are, in a few statements.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use sqlx::{PgConnection, Row};

use crate::{
    domain::{DeliveryId, Event, JobId},
    store::{
        Look, OutageChange, StoreError,
        common::{rank, unwritable},
        postgres::{banks::begin_outage, paces::learn, watches::LOCK_DELIVERIES},
    },
};

pub(super) const HOLD: &str = "SELECT j.job_id FROM jobs j \
    JOIN unnest($1::text[], $2::text[]) l (job_id, lease_id) \
        ON j.job_id = l.job_id AND j.lease_id = l.lease_id \
    ORDER BY j.job_id FOR UPDATE OF j";

pub(super) const CHANGE_WATCHES: &str = "UPDATE watches w SET state = c.state, \
    progress = c.progress, updated_at = c.at, \
    settled_at = CASE WHEN c.state IN ('settled', 'cancelled') THEN c.at END \
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
        c (watch_id, job_id, state, progress, at) \
    WHERE w.watch_id = c.watch_id AND w.job_id = c.job_id AND w.settled_at IS NULL \
    RETURNING w.watch_id, w.client_id, w.callback_host";

pub(super) const ADD_EVENTS: &str = "INSERT INTO events (event_id, watch_id, body, created_at) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) \
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id";

pub(super) const SUPERSEDE: &str = "UPDATE deliveries d SET state = 'superseded', \
    next_attempt_at = NULL, updated_at = n.at \
    FROM unnest($1::text[], $2::bigint[]) n (watch_id, at) \
    WHERE d.watch_id = n.watch_id AND d.state = 'pending'";

pub(super) const ADD_DELIVERIES: &str = "INSERT INTO deliveries (delivery_id, event_id, watch_id, \
    client_id, host, state, next_attempt_at, deadline, updated_at) \
    SELECT delivery_id, event_id, watch_id, client_id, host, 'pending', at, deadline, at \
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], \
        $7::bigint[]) n (delivery_id, event_id, watch_id, client_id, host, at, deadline)";

/// A watch that joined since the claim was not looked at yet: the job stays due.
pub(super) const RECORD_JOBS: &str = "UPDATE jobs j SET memory = l.memory, lease_id = NULL, \
    lease_until = NULL, \
    waits_for = CASE WHEN l.waits_on THEN j.waits_for ELSE l.bank END, \
    waits_for_method = CASE WHEN l.waits_on THEN j.waits_for_method ELSE l.method END, \
    urgency = CASE WHEN j.joined THEN 0 ELSE l.urgency END, \
    next_look_at = CASE \
        WHEN NOT EXISTS (SELECT 1 FROM watches w \
            WHERE w.job_id = j.job_id AND w.settled_at IS NULL) THEN NULL \
        WHEN j.joined THEN l.at \
        WHEN j.hinted_at > l.at THEN least(j.hinted_at, l.next_look_at) \
        ELSE l.next_look_at END, \
    user_id = l.user_id, connection_id = l.connection_id \
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], \
        $7::text[], $8::text[], $9::text[], $10::text[]) \
        l (job_id, memory, at, next_look_at, urgency, waits_on, bank, method, user_id, connection_id) \
    WHERE j.job_id = l.job_id";

const FORGET_FAILURES: &str = "DELETE FROM connection_failures WHERE connection_id = ANY($1)";

const ADD_FAILURES: &str = "INSERT INTO connection_failures (connection_id, job_id, failed_at) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) ON CONFLICT DO NOTHING";

/// Records looks, and names the jobs whose lease still held.
pub(super) async fn record(
    connection: &mut PgConnection,
    looks: &[Look],
) -> Result<Vec<JobId>, StoreError> {
    let looks = held(connection, looks).await?;
    if looks.is_empty() {
        return Ok(Vec::new());
    }
    let news = change_watches(connection, &looks).await?;
    add_events(connection, news).await?;
    report_connections(connection, &looks).await?;
    begin_outages(connection, &looks).await?;
    record_jobs(connection, &looks).await?;
    // last, since all relays learn in the same few rows
    let lessons = looks
        .iter()
        .filter_map(|look| Some((look.lesson.as_ref()?, look.at)));
    learn(connection, lessons).await?;
    Ok(looks.iter().map(|look| look.job_id.clone()).collect())
}

/// The looks whose lease still holds; their jobs are locked.
async fn held<'l>(
    connection: &mut PgConnection,
    looks: &'l [Look],
) -> Result<Vec<&'l Look>, StoreError> {
    let jobs: Vec<_> = looks.iter().map(|look| look.job_id.as_str()).collect();
    let leases: Vec<_> = looks.iter().map(|look| look.lease.to_string()).collect();
    let held: Vec<String> = sqlx::query_scalar(HOLD)
        .bind(jobs)
        .bind(leases)
        .fetch_all(connection)
        .await?;
    let mut held: HashSet<String> = held.into_iter().collect();
    // a job's lease is used up by the first look recorded under it
    let looks = looks
        .iter()
        .filter(|look| held.remove(look.job_id.as_str()));
    Ok(looks.collect())
}

/// An event to store, and what its delivery takes from its watch.
struct News<'l> {
    event: &'l Event,
    at: Timestamp,
    watch_id: String,
    client_id: i64,
    host: String,
}

/// Changes the watches that are still open, and says what is to be told.
async fn change_watches<'l>(
    connection: &mut PgConnection,
    looks: &[&'l Look],
) -> Result<Vec<News<'l>>, StoreError> {
    let changes = looks
        .iter()
        .flat_map(|look| look.changes.iter().map(move |change| (*look, change)));
    let changes: Vec<_> = changes.collect();
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let progress = changes
        .iter()
        .map(|(_, change)| serde_json::to_string(&change.progress).map_err(unwritable));
    let progress = progress.collect::<Result<Vec<_>, _>>()?;
    let column = |of: fn(&(&'l Look, &'l crate::store::WatchChange)) -> String| {
        changes.iter().map(of).collect::<Vec<_>>()
    };
    let rows = sqlx::query(CHANGE_WATCHES)
        .bind(column(|(_, change)| change.watch_id.to_string()))
        .bind(column(|(look, _)| look.job_id.to_string()))
        .bind(column(|(_, change)| change.state.as_str().to_owned()))
        .bind(progress)
        .bind(
            changes
                .iter()
                .map(|(look, _)| look.at.as_millisecond())
                .collect::<Vec<_>>(),
        )
        .fetch_all(connection)
        .await?;
    let told = changes.iter().filter_map(|(look, change)| {
        Some((
            change.watch_id.to_string(),
            (look.at, change.event.as_ref()?),
        ))
    });
    let mut told: HashMap<_, _> = told.collect();
    let mut news = Vec::new();
    for row in &rows {
        let watch_id: String = row.try_get("watch_id")?;
        if let Some((at, event)) = told.remove(&watch_id) {
            news.push(News {
                event,
                at,
                watch_id,
                client_id: row.try_get("client_id")?,
                host: row.try_get("callback_host")?,
            });
        }
    }
    Ok(news)
}

/// Adds events and their deliveries, each once, in place of what was not accepted yet.
async fn add_events(
    connection: &mut PgConnection,
    mut news: Vec<News<'_>>,
) -> Result<(), StoreError> {
    if news.is_empty() {
        return Ok(());
    }
    let bodies = news
        .iter()
        .map(|news| news.event.to_json().map_err(unwritable));
    let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
    let added: Vec<String> = sqlx::query_scalar(ADD_EVENTS)
        .bind(texts(&news, |news| news.event.id.to_string()))
        .bind(texts(&news, |news| news.watch_id.clone()))
        .bind(bodies)
        .bind(times(&news))
        .fetch_all(&mut *connection)
        .await?;
    let added: HashSet<_> = added.into_iter().collect();
    news.retain(|news| added.contains(&news.event.id.to_string()));
    let watches = texts(&news, |news| news.watch_id.clone());
    sqlx::query(LOCK_DELIVERIES)
        .bind(&watches)
        .execute(&mut *connection)
        .await?;
    sqlx::query(SUPERSEDE)
        .bind(&watches)
        .bind(times(&news))
        .execute(&mut *connection)
        .await?;
    let deadlines = news
        .iter()
        .map(|news| news.event.deadline.map(Timestamp::as_millisecond));
    sqlx::query(ADD_DELIVERIES)
        .bind(texts(&news, |news| DeliveryId::new(news.at).to_string()))
        .bind(texts(&news, |news| news.event.id.to_string()))
        .bind(watches)
        .bind(news.iter().map(|news| news.client_id).collect::<Vec<_>>())
        .bind(texts(&news, |news| news.host.clone()))
        .bind(times(&news))
        .bind(deadlines.collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

fn texts(news: &[News<'_>], of: impl Fn(&News<'_>) -> String) -> Vec<String> {
    news.iter().map(of).collect()
}

fn times(news: &[News<'_>]) -> Vec<i64> {
    news.iter().map(|news| news.at.as_millisecond()).collect()
}

/// Counts failures of connections: those after the last success of each.
async fn report_connections(
    connection: &mut PgConnection,
    looks: &[&Look],
) -> Result<(), StoreError> {
    let mut forgotten = Vec::new();
    let mut failures: BTreeMap<&str, Vec<(&str, i64)>> = BTreeMap::new();
    for look in looks {
        let Some(report) = &look.connection else {
            continue;
        };
        let failures = failures.entry(&report.connection_id).or_default();
        if report.unavailable {
            failures.push((look.job_id.as_str(), look.at.as_millisecond()));
        } else {
            failures.clear();
            forgotten.push(report.connection_id.as_str());
        }
    }
    if !forgotten.is_empty() {
        sqlx::query(FORGET_FAILURES)
            .bind(forgotten)
            .execute(&mut *connection)
            .await?;
    }
    let rows: Vec<_> = failures
        .iter()
        .flat_map(|(id, jobs)| jobs.iter().map(move |(job, at)| (*id, *job, *at)))
        .collect();
    if !rows.is_empty() {
        sqlx::query(ADD_FAILURES)
            .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.2).collect::<Vec<_>>())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn begin_outages(connection: &mut PgConnection, looks: &[&Look]) -> Result<(), StoreError> {
    for look in looks {
        match &look.outage {
            OutageChange::None | OutageChange::Unchanged => {}
            OutageChange::Began(bank, next_look_at) => {
                begin_outage(connection, bank, *next_look_at).await?;
            }
        }
    }
    Ok(())
}

async fn record_jobs(connection: &mut PgConnection, looks: &[&Look]) -> Result<(), StoreError> {
    let memories = looks
        .iter()
        .map(|look| serde_json::to_string(&look.memory).map_err(unwritable));
    let began = |look: &Look| match &look.outage {
        OutageChange::None | OutageChange::Unchanged => None,
        OutageChange::Began(bank, _) => Some(bank.clone()),
    };
    let banks: Vec<_> = looks.iter().map(|look| began(look)).collect();
    let numbers = |of: fn(&Look) -> i64| looks.iter().map(|look| of(look)).collect::<Vec<_>>();
    let waits_on = looks
        .iter()
        .map(|look| look.outage == OutageChange::Unchanged);
    let ids =
        |of: fn(&Look) -> Option<String>| looks.iter().map(|look| of(look)).collect::<Vec<_>>();
    sqlx::query(RECORD_JOBS)
        .bind(
            looks
                .iter()
                .map(|look| look.job_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(memories.collect::<Result<Vec<_>, _>>()?)
        .bind(numbers(|look| look.at.as_millisecond()))
        .bind(numbers(|look| look.next_look_at.as_millisecond()))
        .bind(numbers(|look| rank(look.urgency)))
        .bind(waits_on.collect::<Vec<_>>())
        .bind(
            banks
                .iter()
                .map(|bank| Some(bank.as_ref()?.institution_id.clone()))
                .collect::<Vec<_>>(),
        )
        .bind(
            banks
                .iter()
                .map(|bank| Some(bank.as_ref()?.method.clone()))
                .collect::<Vec<_>>(),
        )
        .bind(ids(|look| look.memory.context.user_id.clone()))
        .bind(ids(|look| look.memory.context.connection_id.clone()))
        .execute(connection)
        .await?;
    Ok(())
}
