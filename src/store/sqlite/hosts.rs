//! Callback hosts that keep failing: paused, then probed by one attempt at a time.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};
use tracing::{info, warn};

use crate::store::{
    StoreError,
    common::{DOUBLINGS, FAILURES, HostWord, PAUSE, later, millis},
    sqlite::row::json_list,
};

/// Columns are those before the change. A host that is paused, and not by a probe that has come back
/// now, stays paused as it was: attempts that were in flight when it was paused say nothing new.
pub(super) const FAILED: &str = "INSERT INTO failing_hosts \
    (host, failures, pauses, paused_until, probing, failed_at) VALUES (?1, 1, 0, 0, 0, ?2) \
    ON CONFLICT (host) DO UPDATE SET failures = failures + 1, failed_at = ?2, \
    pauses = iif(failures + 1 >= ?3 AND (probing OR paused_until <= ?2), pauses + 1, pauses), \
    paused_until = iif(failures + 1 >= ?3 AND (probing OR paused_until <= ?2), \
        ?2 + (?4 << min(pauses, ?5)), paused_until), \
    probing = 0 \
    RETURNING failures, pauses, paused_until";

pub(super) const ANSWERED: &str = "DELETE FROM failing_hosts \
    WHERE host IN (SELECT value FROM json_each(?1)) RETURNING host, pauses";

/// Until the probe has come back, or its lease has run out, nothing else is tried.
pub(super) const PROBE: &str = "UPDATE failing_hosts SET probing = 1, paused_until = ?2 \
    WHERE host IN (SELECT value FROM json_each(?1))";

/// Notes what attempts say about their hosts.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    words: &BTreeMap<&str, HostWord>,
) -> Result<(), StoreError> {
    let answered = words.iter().filter(|(_, word)| word.answered);
    let answered: Vec<_> = answered.map(|(host, _)| *host).collect();
    if !answered.is_empty() {
        forget(connection, answered).await?;
    }
    for (host, word) in words {
        for at in &word.failed_at {
            failed(connection, host, *at).await?;
        }
    }
    Ok(())
}

async fn failed(
    connection: &mut SqliteConnection,
    host: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = sqlx::query(FAILED)
        .bind(host)
        .bind(now.as_millisecond())
        .bind(FAILURES)
        .bind(millis(PAUSE))
        .bind(DOUBLINGS)
        .fetch_one(connection)
        .await?;
    let (failures, pauses): (i64, i64) = (row.try_get("failures")?, row.try_get("pauses")?);
    let left = row.try_get::<i64, _>("paused_until")? - now.as_millisecond();
    if pauses > 0 {
        let pause = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        warn!(
            callback.host = host,
            failures,
            ?pause,
            "a host keeps failing and is paused"
        );
    }
    Ok(())
}

/// Hosts that answered start afresh.
async fn forget(connection: &mut SqliteConnection, hosts: Vec<&str>) -> Result<(), StoreError> {
    let forgotten = sqlx::query(ANSWERED)
        .bind(json_list(hosts))
        .fetch_all(connection)
        .await?;
    for row in &forgotten {
        if row.try_get::<i64, _>("pauses")? > 0 {
            let host: &str = row.try_get("host")?;
            info!(callback.host = host, "a host that was paused answers again");
        }
    }
    Ok(())
}

/// Notes that these hosts are probed, by attempts whose lease ends then.
pub(super) async fn probe(
    connection: &mut SqliteConnection,
    hosts: &[String],
    (now, lease): (Timestamp, Duration),
) -> Result<(), StoreError> {
    if !hosts.is_empty() {
        sqlx::query(PROBE)
            .bind(json_list(hosts))
            .bind(later(now, lease))
            .execute(connection)
            .await?;
    }
    Ok(())
}
