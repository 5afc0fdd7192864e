//! Deletes what the database holds about a person or a connection.
//!
//! An erasure locks the table `erasures`, and so do transactions that write what they learned of a person before. So
//! the erasure waits for these, and later ones see it. Readers such as `pg_dump` hold neither up.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::Actor;

use crate::{
    ErasureCounts, ErasureStore, ErasureSubject, Hint, Look, StoreError,
    postgres::{
        PgSession, PgStore,
        attempts::{LOCK_SUBSCRIPTIONS, QUEUE_NEXT},
        clock::claim_now,
        indexes::{is_listed, matching},
        subscription_ends::REST_LISTS,
        upkeep::{LOCK_JOBS, PURGE_JOBS},
        watches::{LOCK_QUEUED, lock_jobs},
    },
    rows::IdBytes,
    rules::{
        ErasedIds, ErasedKey, ErasureKey, connection_in_notice, erased_at, keys_of_hint,
        keys_of_look, messages_to_erase, slot,
    },
};

/// Waits for 5 s at most: a transaction that hangs must not hold up all looks behind this lock.
const LOCK: &str = "SET LOCAL lock_timeout = '5s'; LOCK TABLE erasures IN EXCLUSIVE MODE";

/// True if anybody was erased. The second part finds no row. It takes the lock of a table whose rows are locked, which
/// an erasure waits for.
macro_rules! is_erasing {
    () => {
        "(EXISTS (SELECT 1 FROM erasures) \
          OR (SELECT 1 FROM erasures WHERE subject = ''::bytea FOR KEY SHARE) IS NOT NULL)"
    };
}
pub(super) use is_erasing;

pub(super) const REMEMBER: &str = concat!(
    "INSERT INTO erasures (subject, erased_at) \
    SELECT subject, ",
    claim_now!("$2"),
    " FROM unnest($1::bytea[]) k (subject) \
    ON CONFLICT (subject) DO UPDATE SET erased_at = excluded.erased_at"
);

pub(super) const ANY: &str = concat!("SELECT ", is_erasing!());

pub(super) const ERASED: &str = "SELECT subject, erased_at FROM erasures WHERE subject = ANY($1)";

/// The connections of a user, as Basiq's jobs name them. A subscription does not count: a client typed its ids.
pub(super) const CONNECTIONS: &str = "SELECT DISTINCT connection_id FROM jobs \
    WHERE user_id = ANY($1) AND connection_id IS NOT NULL";

/// The people whose lists may end.
pub(super) const USERS: &str = "SELECT unnest($1::text[]) \
    UNION SELECT user_id FROM subscriptions WHERE connection_id = ANY($2)";

pub(super) const LOCK_LISTS: &str =
    "SELECT 1 FROM due_lists WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE";

pub(super) const SUBSCRIPTIONS: &str = "SELECT subscription_id FROM subscriptions WHERE user_id = ANY($1) \
    UNION SELECT subscription_id FROM subscriptions WHERE connection_id = ANY($2)";

/// The jobs of the person or the connections, and the jobs that the subscriptions found. The person of a job is not
/// known before the first look at it.
pub(super) const JOBS: &str = "SELECT job_id FROM jobs WHERE user_id = ANY($1) \
    UNION SELECT job_id FROM jobs WHERE connection_id = ANY($2) \
    UNION SELECT job_id FROM watches WHERE subscription_id = ANY($3) \
    UNION SELECT job_id FROM seen_jobs WHERE subscription_id = ANY($3)";

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
    WHERE kind <> 'job' AND kind = 'notice' AND position($1 in lower(body)) > 0";

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
        let input = (subject, now, self.now(now));
        self.write_act(act, input, |connection, (subject, now, judged_at)| {
            Box::pin(erase(connection, subject, *now, *judged_at))
        })
        .await
    }
}

async fn erase(
    connection: &mut PgSession<'_>,
    subject: &ErasureSubject,
    now: Timestamp,
    judged_at: Option<i64>,
) -> Result<ErasureCounts, StoreError> {
    sqlx::raw_sql(LOCK).execute(&mut *connection).await?;
    let mut ids = ErasedIds::of(subject);
    let connections: Vec<String> = sqlx::query_scalar(CONNECTIONS)
        .bind(&ids.users)
        .fetch_all(&mut *connection)
        .await?;
    ids.add_connections(&connections);
    remember(connection, &ids.keys(), judged_at).await?;
    let users = lock_lists(connection, &ids).await?;
    let subscriptions: Vec<IdBytes> = sqlx::query_scalar(SUBSCRIPTIONS)
        .bind(&ids.users)
        .bind(&ids.connections)
        .fetch_all(&mut *connection)
        .await?;
    let jobs = lock_watched(connection, &ids, &subscriptions).await?;
    let notices = find_notices(connection, &ids).await?;
    let sources = notices.iter().map(|(_, source)| *source);
    let sources: Vec<_> = sources.chain(subscriptions.iter().copied()).collect();
    run(connection, LOCK_SUBSCRIPTIONS, &sources).await?;

    let mut counts = delete_watches(connection, &jobs, i64::MAX).await?;
    delete_jobs(connection, &jobs).await?;
    counts.notices = delete_events(connection, &subscriptions).await?;
    counts.notices += delete_notices(connection, notices, now).await?;
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
    judged_at: Option<i64>,
) -> Result<(), StoreError> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    sqlx::query(REMEMBER)
        .bind(keys)
        .bind(judged_at)
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
        .bind(&ids.users)
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
        .bind(&ids.users)
        .bind(&ids.connections)
        .bind(subscriptions)
        .fetch_all(&mut *connection)
        .await?;
    lock_jobs(connection, &jobs).await?;
    Ok(jobs)
}

/// Deletes the watches of jobs that began until then, with their events, and counts both. The caller has
/// locked the jobs.
async fn delete_watches(
    connection: &mut PgSession<'_>,
    jobs: &[String],
    until: i64,
) -> Result<ErasureCounts, StoreError> {
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
    Ok(ErasureCounts {
        watches: count(watches),
        events,
        ..ErasureCounts::default()
    })
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

/// Returns the notices about a connection, each with its subscription.
async fn find_notices(
    connection: &mut PgSession<'_>,
    ids: &ErasedIds,
) -> Result<Vec<(IdBytes, IdBytes)>, StoreError> {
    let Some(named) = connection_in_notice(ids) else {
        return Ok(Vec::new());
    };
    let notices = sqlx::query_as(NOTICES).bind(named);
    Ok(notices.fetch_all(connection).await?)
}

/// Deletes notices from subscriptions that stay, and are locked. Later notices of these follow.
async fn delete_notices(
    connection: &mut PgSession<'_>,
    found: Vec<(IdBytes, IdBytes)>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (notices, mut sources): (Vec<IdBytes>, Vec<IdBytes>) = found.into_iter().unzip();
    sources.sort_unstable();
    sources.dedup();
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

/// Returns whether the person or the connection of a hint was erased since the hint arrived. An erasure that begins
/// later waits for this transaction.
pub(super) async fn is_erased(
    connection: &mut PgSession<'_>,
    hint: &Hint,
) -> Result<bool, StoreError> {
    let any: bool = sqlx::query_scalar(ANY).fetch_one(&mut *connection).await?;
    if !any {
        return Ok(false);
    }
    let keys: Vec<Vec<u8>> = keys_of_hint(hint).into_iter().map(Vec::from).collect();
    let erased: Vec<ErasedKey> = sqlx::query_as(ERASED)
        .bind(keys)
        .fetch_all(connection)
        .await?;
    let since = hint.at.as_millisecond();
    Ok(erased.iter().any(|(_, at)| *at >= since))
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
