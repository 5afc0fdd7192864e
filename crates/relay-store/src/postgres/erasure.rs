//! Deletes what the database holds about a person or a connection.
//!
//! An erasure locks the table `erasures`, which every look reads. So it waits for looks that are being recorded, and
//! later looks see it.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::Actor;

use crate::{
    ErasureCounts, ErasureStore, ErasureSubject, Look, StoreError,
    postgres::{
        PgSession, PgStore,
        attempts::{LOCK_SUBSCRIPTIONS, QUEUE_NEXT},
        indexes::{is_listed, matching},
        subscription_ends::REST_LISTS,
        upkeep::{LOCK_JOBS, PURGE_JOBS},
        watches::{LOCK_QUEUED, lock_jobs},
    },
    rows::IdBytes,
    rules::{
        ErasedIds, ErasedKey, ErasureKey, erased_at, keys_of_look, messages_to_erase,
        named_connection, slot,
    },
};

const LOCK: &str = "LOCK TABLE erasures IN ACCESS EXCLUSIVE MODE";

pub(super) const REMEMBER: &str = "INSERT INTO erasures (subject, erased_at) \
    SELECT subject, $2 FROM unnest($1::bytea[]) k (subject) \
    ON CONFLICT (subject) DO UPDATE SET erased_at = excluded.erased_at";

pub(super) const ERASED: &str = "SELECT subject, erased_at FROM erasures WHERE subject = ANY($1)";

pub(super) const CONNECTIONS: &str = "SELECT connection_id FROM jobs \
        WHERE user_id = $1 AND connection_id IS NOT NULL \
    UNION SELECT connection_id FROM subscriptions WHERE user_id = $1 AND connection_id IS NOT NULL";

/// The people whose lists may end.
pub(super) const USERS: &str = "SELECT $1::text WHERE $1 IS NOT NULL \
    UNION SELECT user_id FROM subscriptions WHERE connection_id = ANY($2)";

pub(super) const LOCK_LISTS: &str =
    "SELECT 1 FROM due_lists WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE";

pub(super) const SUBSCRIPTIONS: &str = "SELECT subscription_id FROM subscriptions WHERE user_id = $1 \
    UNION SELECT subscription_id FROM subscriptions WHERE connection_id = ANY($2)";

/// The jobs of the person or the connections, and those that the subscriptions found. The person of a job is not known
/// before the first look at it.
pub(super) const JOBS: &str = "SELECT job_id FROM jobs WHERE user_id = $1 \
    UNION SELECT job_id FROM jobs WHERE connection_id = ANY($2) \
    UNION SELECT job_id FROM watches WHERE subscription_id = ANY($3)";

pub(super) const LOCK_WATCHES: &str = "SELECT watch_id FROM watches \
    WHERE job_id = ANY($1) AND created_at <= $2 ORDER BY watch_id FOR UPDATE";

/// Deletes the events of these sources with what lists them. Returns their number.
pub(super) const DELETE_EVENTS: &str = concat!(
    "WITH unqueued AS (DELETE FROM outbox WHERE source_id = ANY($1)), \
     gone AS (DELETE FROM events WHERE source_id = ANY($1) \
         RETURNING client_id, state AS former_state, updated_at AS former_change, event_id), \
     unlisted AS (DELETE FROM undelivered_events WHERE ",
    matching!("undelivered_events", "gone", is_listed!()),
    ") SELECT count(*) FROM gone"
);

/// Deletes watches with what lists them. Returns their number.
pub(super) const DELETE_WATCHES: &str = concat!(
    "WITH gone AS (DELETE FROM watches WHERE watch_id = ANY($1) RETURNING watch_id, client_id, state), \
     unlisted AS (DELETE FROM unsettled_watches WHERE ",
    matching!(
        "unsettled_watches",
        "gone",
        "t.client_id = c.client_id AND t.state = c.state AND t.watch_id = c.watch_id"
    ),
    ") SELECT count(*) FROM gone"
);

/// Returns the jobs that still have a watch.
pub(super) const WATCHED: &str = "SELECT DISTINCT job_id FROM watches WHERE job_id = ANY($1)";

pub(super) const DELETE_SUBSCRIPTIONS: &str =
    "DELETE FROM subscriptions WHERE subscription_id = ANY($1)";

pub(super) const NOTICES: &str = "SELECT event_id, source_id FROM events \
    WHERE kind <> 'job' AND kind = 'notice' AND position($1 in body) > 0";

/// Deletes single notices with what lists them. Returns their number.
pub(super) const DELETE_NOTICES: &str = concat!(
    "WITH unqueued AS (DELETE FROM outbox WHERE source_id = ANY($2) AND event_id = ANY($1)), \
     gone AS (DELETE FROM events WHERE event_id = ANY($1) \
         RETURNING client_id, state AS former_state, updated_at AS former_change, event_id), \
     unlisted AS (DELETE FROM undelivered_events WHERE ",
    matching!("undelivered_events", "gone", is_listed!()),
    ") SELECT count(*) FROM gone"
);

/// Messages are searched as they were received. There are few: one that was accepted is deleted.
pub(super) const MESSAGES: &str =
    "SELECT event_id, body FROM messages WHERE position($1::bytea in body) > 0";

pub(super) const DELETE_MESSAGES: &str = "DELETE FROM messages WHERE event_id = ANY($1)";

pub(super) const FORGET_CONNECTIONS: &str = "WITH failures AS \
        (DELETE FROM connection_failures WHERE connection_id = ANY($1)) \
    DELETE FROM connection_banks WHERE slot = ANY($2) AND connection_id = ANY($1)";

#[async_trait]
impl ErasureStore for PgStore {
    async fn erase(
        &self,
        subject: &ErasureSubject,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ErasureCounts, StoreError> {
        let act = subject.act(actor, now);
        self.write_act(act, (subject, now), |connection, (subject, now)| {
            Box::pin(erase(connection, subject, *now))
        })
        .await
    }
}

async fn erase(
    connection: &mut PgSession<'_>,
    subject: &ErasureSubject,
    now: Timestamp,
) -> Result<ErasureCounts, StoreError> {
    sqlx::raw_sql(LOCK).execute(&mut *connection).await?;
    let mut ids = ErasedIds::of(subject);
    if ids.user.is_some() {
        ids.connections = sqlx::query_scalar(CONNECTIONS)
            .bind(&ids.user)
            .fetch_all(&mut *connection)
            .await?;
    }
    remember(connection, &ids.keys(), now).await?;
    let users = lock_lists(connection, &ids).await?;
    let subscriptions: Vec<IdBytes> = sqlx::query_scalar(SUBSCRIPTIONS)
        .bind(&ids.user)
        .bind(&ids.connections)
        .fetch_all(&mut *connection)
        .await?;
    let jobs = lock_watched(connection, &ids, &subscriptions).await?;
    run(connection, LOCK_SUBSCRIPTIONS, &subscriptions).await?;

    let mut counts = ErasureCounts::default();
    (counts.watches, counts.events) = delete_watches(connection, &jobs, i64::MAX).await?;
    delete_jobs(connection, &jobs).await?;
    counts.notices = delete_events(connection, &subscriptions).await?;
    if ids.user.is_none() {
        counts.notices += delete_notices(connection, &ids, now).await?;
    }
    counts.subscriptions = run(connection, DELETE_SUBSCRIPTIONS, &subscriptions).await?;
    sqlx::query(REST_LISTS)
        .bind(&users)
        .execute(&mut *connection)
        .await?;
    counts.messages = delete_messages(connection, &ids).await?;
    let slots: Vec<i64> = ids.connections.iter().map(|id| slot(id)).collect();
    sqlx::query(FORGET_CONNECTIONS)
        .bind(&ids.connections)
        .bind(slots)
        .execute(connection)
        .await?;
    Ok(counts)
}

/// Runs a statement on rows with these ids. Returns the number of rows.
async fn run(
    connection: &mut PgSession<'_>,
    statement: &'static str,
    ids: &[IdBytes],
) -> Result<u64, StoreError> {
    let done = sqlx::query(statement).bind(ids).execute(connection).await?;
    Ok(done.rows_affected())
}

async fn remember(
    connection: &mut PgSession<'_>,
    keys: &[ErasureKey],
    now: Timestamp,
) -> Result<(), StoreError> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    sqlx::query(REMEMBER)
        .bind(keys)
        .bind(now.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks the lists of people whose subscriptions end, so that no list is recorded meanwhile. Returns the people.
async fn lock_lists(
    connection: &mut PgSession<'_>,
    ids: &ErasedIds,
) -> Result<Vec<String>, StoreError> {
    let users: Vec<String> = sqlx::query_scalar(USERS)
        .bind(&ids.user)
        .bind(&ids.connections)
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query(LOCK_LISTS)
        .bind(&users)
        .execute(connection)
        .await?;
    Ok(users)
}

/// Locks the jobs that are meant. Returns them.
async fn lock_watched(
    connection: &mut PgSession<'_>,
    ids: &ErasedIds,
    subscriptions: &[IdBytes],
) -> Result<Vec<String>, StoreError> {
    let jobs: Vec<String> = sqlx::query_scalar(JOBS)
        .bind(&ids.user)
        .bind(&ids.connections)
        .bind(subscriptions)
        .fetch_all(&mut *connection)
        .await?;
    lock_jobs(connection, &jobs).await?;
    Ok(jobs)
}

/// Deletes the watches of jobs that began until then, with their events. Returns the numbers of both. The caller has
/// locked the jobs.
async fn delete_watches(
    connection: &mut PgSession<'_>,
    jobs: &[String],
    until: i64,
) -> Result<(u64, u64), StoreError> {
    let watches: Vec<IdBytes> = sqlx::query_scalar(LOCK_WATCHES)
        .bind(jobs)
        .bind(until)
        .fetch_all(&mut *connection)
        .await?;
    let events = delete_events(connection, &watches).await?;
    let watches: i64 = sqlx::query_scalar(DELETE_WATCHES)
        .bind(watches)
        .fetch_one(connection)
        .await?;
    Ok((count(watches), events))
}

async fn delete_events(
    connection: &mut PgSession<'_>,
    sources: &[IdBytes],
) -> Result<u64, StoreError> {
    run(connection, LOCK_QUEUED, sources).await?;
    let events: i64 = sqlx::query_scalar(DELETE_EVENTS)
        .bind(sources)
        .fetch_one(connection)
        .await?;
    Ok(count(events))
}

/// Deletes jobs that are not watched any more.
async fn delete_jobs(connection: &mut PgSession<'_>, jobs: &[String]) -> Result<(), StoreError> {
    for statement in [LOCK_JOBS, PURGE_JOBS] {
        sqlx::query(statement)
            .bind(jobs)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Deletes the notices about connections from subscriptions that stay. Later notices of these follow.
async fn delete_notices(
    connection: &mut PgSession<'_>,
    ids: &ErasedIds,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut found: Vec<(IdBytes, IdBytes)> = Vec::new();
    for id in &ids.connections {
        let notices = sqlx::query_as(NOTICES).bind(named_connection(id));
        let notices: Vec<(IdBytes, IdBytes)> = notices.fetch_all(&mut *connection).await?;
        found.extend(notices);
    }
    let (notices, mut sources): (Vec<IdBytes>, Vec<IdBytes>) = found.into_iter().unzip();
    sources.sort_unstable();
    sources.dedup();
    run(connection, LOCK_SUBSCRIPTIONS, &sources).await?;
    run(connection, LOCK_QUEUED, &sources).await?;
    let deleted: i64 = sqlx::query_scalar(DELETE_NOTICES)
        .bind(notices)
        .bind(&sources)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(QUEUE_NEXT)
        .bind(&sources)
        .bind(vec![now.as_millisecond(); sources.len()])
        .execute(connection)
        .await?;
    Ok(count(deleted))
}

async fn delete_messages(
    connection: &mut PgSession<'_>,
    ids: &ErasedIds,
) -> Result<u64, StoreError> {
    let mut found: Vec<(IdBytes, Vec<u8>)> = Vec::new();
    for id in ids.all() {
        let messages = sqlx::query_as(MESSAGES).bind(id.as_bytes());
        let messages: Vec<(IdBytes, Vec<u8>)> = messages.fetch_all(&mut *connection).await?;
        found.extend(messages);
    }
    let messages = messages_to_erase(ids, found);
    delete_events(connection, &messages).await?;
    run(connection, DELETE_MESSAGES, &messages).await
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

/// Deletes the older watches of jobs that turn out to be about an erased person or connection. Returns the looks at
/// jobs that still have a watch. The caller has locked the jobs.
pub(super) async fn without_erased<'l>(
    connection: &mut PgSession<'_>,
    mut looks: Vec<&'l Look>,
) -> Result<Vec<&'l Look>, StoreError> {
    let keys: Vec<Vec<u8>> = looks
        .iter()
        .flat_map(|look| keys_of_look(look))
        .map(Vec::from)
        .collect();
    let erased: Vec<ErasedKey> = sqlx::query_as(ERASED)
        .bind(keys)
        .fetch_all(&mut *connection)
        .await?;
    let mut cleared = Vec::new();
    for look in &looks {
        if let Some(until) = erased_at(look, &erased) {
            let job = [look.job_id.to_string()];
            delete_watches(connection, &job, until).await?;
            delete_jobs(connection, &job).await?;
            cleared.extend(job);
        }
    }
    let watched: Vec<String> = sqlx::query_scalar(WATCHED)
        .bind(&cleared)
        .fetch_all(connection)
        .await?;
    let is_gone =
        |job: &str| cleared.iter().any(|id| id == job) && !watched.iter().any(|id| id == job);
    looks.retain(|look| !is_gone(look.job_id.as_str()));
    Ok(looks)
}
