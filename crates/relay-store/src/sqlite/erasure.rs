//! Deletes what the file holds about a person or a connection.

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::Ordering,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::Actor;
use rusqlite::Connection;
use tracing::info;

use crate::{
    ErasureCounts, ErasureStore, ErasureSubject, Hint, Look, StoreError,
    rows::IdBytes,
    rules::{
        ErasedIds, ErasedKey, connection_in_notice, erased_at, keys_of_hint, keys_of_look,
        messages_to_erase, slot,
    },
    sqlite::{
        SqliteStore, attempts,
        row::json_list,
        statement::{execute, execute_each, scalar, scalars, scalars_each},
        subscription_ends::REST_LIST,
        upkeep::{PURGE_DUE, PURGE_JOBS},
    },
};

pub(super) const REMEMBER: &str = "INSERT INTO erasures (subject, erased_at) VALUES (?1, ?2) \
    ON CONFLICT (subject) DO UPDATE SET erased_at = excluded.erased_at";

const ANY: &str = "SELECT EXISTS (SELECT 1 FROM erasures)";

pub(super) const ERASED_AT: &str = "SELECT erased_at FROM erasures WHERE subject = ?1";

/// The connections of a user, as Basiq's jobs name them. A subscription does not count: a client typed its ids.
pub(super) const CONNECTIONS: &str =
    "SELECT connection_id FROM jobs WHERE user_id = ?1 AND connection_id IS NOT NULL";

pub(super) const SUBSCRIPTIONS_TO_USER: &str =
    "SELECT subscription_id FROM subscriptions WHERE user_id = ?1";

pub(super) const SUBSCRIPTIONS_TO_CONNECTION: &str =
    "SELECT subscription_id FROM subscriptions WHERE connection_id = ?1";

const USER: &str = "SELECT user_id FROM subscriptions WHERE subscription_id = ?1";

pub(super) const JOBS_OF_USER: &str = "SELECT job_no FROM jobs WHERE user_id = ?1";

pub(super) const JOBS_OF_CONNECTION: &str = "SELECT job_no FROM jobs WHERE connection_id = ?1";

/// The jobs that a subscription found. The person of such a job is not known before the first look at it.
pub(super) const JOBS_FOUND: &str = "SELECT j.job_no FROM seen_jobs s CROSS JOIN jobs j ON j.job_id = s.job_id \
    WHERE s.subscription_id = ?1";

pub(super) const WATCHES: &str =
    "SELECT watch_id FROM watches WHERE job_no = ?1 AND created_at <= ?2";

const HAS_WATCHES: &str = "SELECT 1 FROM watches WHERE job_no = ?1 LIMIT 1";

pub(super) const EVENTS: &str = "SELECT count(*) FROM events WHERE source_id = ?1";

const UNQUEUE: &str = "DELETE FROM outbox WHERE source_id = ?1";

/// A trigger deletes the events of the watch, and counts it no longer.
const DELETE_WATCH: &str = "DELETE FROM watches WHERE watch_id = ?1";

/// A trigger deletes the notices of the subscription, and the jobs that it has seen.
const DELETE_SUBSCRIPTION: &str = "DELETE FROM subscriptions WHERE subscription_id = ?1";

pub(super) const NOTICES: &str = "SELECT event_id FROM events \
    WHERE kind <> 'job' AND kind = 'notice' AND instr(lower(body), ?1) > 0";

const SOURCE: &str = "SELECT source_id FROM events WHERE event_id = ?1";

const UNQUEUE_EVENT: &str = "DELETE FROM outbox WHERE source_id = ?1 AND event_id = ?2";

const DELETE_EVENT: &str = "DELETE FROM events WHERE event_id = ?1";

/// Messages are searched as they were received. There are few: one that was accepted is deleted.
pub(super) const MESSAGES: &str =
    "SELECT event_id, body FROM messages WHERE instr(body, CAST(?1 AS BLOB)) > 0";

const DELETE_MESSAGE: &str = "DELETE FROM messages WHERE event_id = ?1";

pub(super) const FORGET_FAILURES: &str = "DELETE FROM connection_failures WHERE connection_id = ?1";

pub(super) const FORGET_BANK: &str =
    "DELETE FROM connection_banks WHERE slot = ?2 AND connection_id = ?1";

/// How long an erasure waits for the write-ahead log to be emptied: the number of checks, and the pause between.
const LOG_CHECKS: u32 = 20;
const LOG_PAUSE: Duration = Duration::from_millis(100);

#[async_trait]
impl ErasureStore for SqliteStore {
    /// Deleted content is overwritten in the file. The write-ahead log still has it until the log is emptied. That
    /// begins after the commit, and lasts as long as somebody reads an old state of the file.
    async fn erase(
        &self,
        subject: &ErasureSubject,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ErasureCounts, StoreError> {
        let ids = ErasedIds::of(subject);
        let act = subject.act(actor, now);
        let log_mark = self.0.writer.log_mark();
        let counts = self.write_act(act, move |connection| {
            log_mark.store(true, Ordering::Relaxed);
            erase(connection, ids, now)
        });
        let counts = counts.await?;
        // the data are erased, whatever becomes of the log
        self.await_empty_log().await;
        Ok(counts)
    }
}

impl SqliteStore {
    /// Waits a moment until the writer has emptied the write-ahead log.
    async fn await_empty_log(&self) {
        let mark = self.0.writer.log_mark();
        for _ in 0..LOG_CHECKS {
            if !mark.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(LOG_PAUSE).await;
            // the writer tries after each commit
            if self.write(|_| Ok(())).await.is_err() {
                break;
            }
        }
        info!(
            "erased rows are still in the write-ahead log, which somebody reads: it is emptied later"
        );
    }
}

fn erase(
    connection: &Connection,
    mut ids: ErasedIds,
    now: Timestamp,
) -> Result<ErasureCounts, StoreError> {
    let users = ids.users.iter().map(|user| (user,));
    let connections: Vec<String> = scalars_each(connection, CONNECTIONS, users)?;
    ids.add_connections(&connections);
    let keys = ids.keys();
    let remembered = keys.iter().map(|key| (&key[..], now.as_millisecond()));
    execute_each(connection, REMEMBER, remembered)?;

    let subscriptions = subscriptions_of(connection, &ids)?;
    let jobs = jobs_of(connection, &ids, &subscriptions)?;
    let mut counts = ErasureCounts::default();
    for job in &jobs {
        let (watches, events) = delete_watches(connection, *job, i64::MAX)?;
        counts.watches += watches;
        counts.events += events;
    }
    delete_jobs(connection, jobs)?;
    counts.notices = delete_subscriptions(connection, &subscriptions)?;
    counts.subscriptions = count(subscriptions.len());
    counts.notices += delete_notices(connection, &ids, now)?;
    counts.messages = delete_messages(connection, &ids)?;
    let connections = || ids.connections.iter();
    execute_each(connection, FORGET_FAILURES, connections().map(|id| (id,)))?;
    let banks = connections().map(|id| (id, slot(id)));
    execute_each(connection, FORGET_BANK, banks)?;
    Ok(counts)
}

fn subscriptions_of(connection: &Connection, ids: &ErasedIds) -> Result<Vec<IdBytes>, StoreError> {
    let to_user = ids.users.iter().map(|id| (id,));
    let mut found: BTreeSet<IdBytes> = scalars_each(connection, SUBSCRIPTIONS_TO_USER, to_user)?
        .into_iter()
        .collect();
    let to_connections = ids.connections.iter().map(|id| (id,));
    let to_connections = scalars_each(connection, SUBSCRIPTIONS_TO_CONNECTION, to_connections)?;
    found.extend::<Vec<IdBytes>>(to_connections);
    Ok(found.into_iter().collect())
}

fn jobs_of(
    connection: &Connection,
    ids: &ErasedIds,
    subscriptions: &[IdBytes],
) -> Result<Vec<i64>, StoreError> {
    let users = ids.users.iter().map(|id| (id,));
    let mut jobs: Vec<i64> = scalars_each(connection, JOBS_OF_USER, users)?;
    let connections = ids.connections.iter().map(|id| (id,));
    jobs.extend::<Vec<i64>>(scalars_each(connection, JOBS_OF_CONNECTION, connections)?);
    let subscriptions = subscriptions.iter().map(|id| (id,));
    jobs.extend::<Vec<i64>>(scalars_each(connection, JOBS_FOUND, subscriptions)?);
    jobs.sort_unstable();
    jobs.dedup();
    Ok(jobs)
}

/// Deletes the watches of a job that began until then, with their events. Returns the numbers of both.
fn delete_watches(connection: &Connection, job: i64, until: i64) -> Result<(u64, u64), StoreError> {
    let watches: Vec<IdBytes> = scalars(connection, WATCHES, (job, until))?;
    let each = || watches.iter().map(|id| (id,));
    let events: Vec<i64> = scalars_each(connection, EVENTS, each())?;
    for statement in [UNQUEUE, DELETE_WATCH] {
        execute_each(connection, statement, each())?;
    }
    let events = u64::try_from(events.iter().sum::<i64>()).unwrap_or(0);
    Ok((count(watches.len()), events))
}

/// Deletes jobs that are not watched any more.
fn delete_jobs(connection: &Connection, jobs: Vec<i64>) -> Result<(), StoreError> {
    let jobs = json_list(jobs);
    for statement in [PURGE_DUE, PURGE_JOBS] {
        execute(connection, statement, (&jobs,))?;
    }
    Ok(())
}

/// Deletes subscriptions, and the lists of people without another one. Returns the number of notices.
fn delete_subscriptions(
    connection: &Connection,
    subscriptions: &[IdBytes],
) -> Result<u64, StoreError> {
    let each = || subscriptions.iter().map(|id| (id,));
    let users: Vec<String> = scalars_each(connection, USER, each())?;
    let notices: Vec<i64> = scalars_each(connection, EVENTS, each())?;
    for statement in [UNQUEUE, DELETE_SUBSCRIPTION] {
        execute_each(connection, statement, each())?;
    }
    execute_each(connection, REST_LIST, users.iter().map(|user| (user,)))?;
    Ok(u64::try_from(notices.iter().sum::<i64>()).unwrap_or(0))
}

/// Deletes the notices about connections from subscriptions that stay. Later notices of these follow.
fn delete_notices(
    connection: &Connection,
    ids: &ErasedIds,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let named = connection_in_notice(ids);
    let notices: Vec<IdBytes> = scalars_each(connection, NOTICES, named.iter().map(|id| (id,)))?;
    for notice in &notices {
        let source: Option<IdBytes> = scalar(connection, SOURCE, (notice,))?;
        execute(connection, UNQUEUE_EVENT, (source, notice))?;
        execute(connection, DELETE_EVENT, (notice,))?;
        let next = (source, now.as_millisecond());
        execute(connection, attempts::QUEUE_NEXT, next)?;
    }
    Ok(count(notices.len()))
}

fn delete_messages(connection: &Connection, ids: &ErasedIds) -> Result<u64, StoreError> {
    let mut found: Vec<(IdBytes, Vec<u8>)> = Vec::new();
    let mut statement = connection.prepare_cached(MESSAGES)?;
    for id in ids.all() {
        let rows = statement.query_map((id,), |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.extend(rows.collect::<Result<Vec<_>, _>>()?);
    }
    let messages = messages_to_erase(ids, found);
    let each = || messages.iter().map(|id| (id,));
    for statement in [UNQUEUE, DELETE_EVENT, DELETE_MESSAGE] {
        execute_each(connection, statement, each())?;
    }
    Ok(count(messages.len()))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Returns whether the person or the connection of a hint was erased since the hint arrived.
pub(super) fn is_erased(connection: &Connection, hint: &Hint) -> Result<bool, StoreError> {
    for key in keys_of_hint(hint) {
        let at: Option<i64> = scalar(connection, ERASED_AT, (&key[..],))?;
        if at.is_some_and(|at| at >= hint.at.as_millisecond()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes the older watches of jobs that turn out to be about an erased person or connection. Returns the looks at
/// jobs that still have a watch.
pub(super) fn without_erased<'l>(
    connection: &Connection,
    looks: Vec<&'l Look>,
    numbers: &HashMap<&str, i64>,
) -> Result<Vec<&'l Look>, StoreError> {
    if scalar(connection, ANY, [])? != Some(true) {
        return Ok(looks);
    }
    let mut kept = Vec::with_capacity(looks.len());
    for look in looks {
        let mut erased: Vec<ErasedKey> = Vec::new();
        for key in keys_of_look(look) {
            let at: Option<i64> = scalar(connection, ERASED_AT, (&key[..],))?;
            erased.extend(at.map(|at| (key.to_vec(), at)));
        }
        let job = numbers.get(look.job_id.as_str());
        if let (Some(until), Some(job)) = (erased_at(look, &erased), job) {
            delete_watches(connection, *job, until)?;
            delete_jobs(connection, vec![*job])?;
            if scalar::<i64>(connection, HAS_WATCHES, (job,))?.is_none() {
                continue;
            }
        }
        kept.push(look);
    }
    Ok(kept)
}
