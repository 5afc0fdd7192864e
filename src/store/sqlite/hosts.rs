//! Callback hosts that keep failing: paused, then probed by one attempt at a time.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use rusqlite::{Connection, params};
use tracing::{info, warn};

use crate::store::{
    StoreError,
    common::{Cells, DOUBLINGS, FAILURES, HostWord, PAUSE, later, millis},
    sqlite::{
        row::json_list,
        statement::{execute, fetch_each, fetch_optional},
    },
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

pub(super) const ANSWERED: &str =
    "DELETE FROM failing_hosts WHERE host = ?1 RETURNING host, pauses";

/// Until the probe has come back, or its lease has run out, nothing else is tried.
pub(super) const PROBE: &str = "UPDATE failing_hosts SET probing = 1, paused_until = ?2 \
    WHERE host IN (SELECT value FROM json_each(?1))";

/// Notes what attempts say about their hosts.
pub(super) fn note(
    connection: &Connection,
    words: &BTreeMap<&str, HostWord>,
) -> Result<(), StoreError> {
    let answered = words
        .iter()
        .filter(|(_, word)| word.answered && word.had_failed);
    let answered: Vec<_> = answered.map(|(host, _)| *host).collect();
    if !answered.is_empty() {
        forget(connection, answered)?;
    }
    for (host, word) in words {
        for at in &word.failed_at {
            failed(connection, host, *at)?;
        }
    }
    Ok(())
}

fn failed(connection: &Connection, host: &str, now: Timestamp) -> Result<(), StoreError> {
    let values = params![
        host,
        now.as_millisecond(),
        FAILURES,
        millis(PAUSE),
        DOUBLINGS
    ];
    let Some(row) = fetch_optional(connection, FAILED, values)? else {
        return Ok(());
    };
    let cells = Cells::of("failing_hosts", "host", &row);
    let (failures, pauses): (i64, i64) = (cells.get("failures")?, cells.get("pauses")?);
    let left = cells.get::<i64>("paused_until")? - now.as_millisecond();
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
fn forget(connection: &Connection, hosts: Vec<&str>) -> Result<(), StoreError> {
    let hosts = hosts.into_iter().map(|host| (host,));
    for row in &fetch_each(connection, ANSWERED, hosts)? {
        let cells = Cells::of("failing_hosts", "host", row);
        let host: &str = cells.get("host")?;
        if cells.get::<i64>("pauses")? > 0 {
            info!(callback.host = host, "a host that was paused answers again");
        }
    }
    Ok(())
}

/// Notes that these hosts are probed, by attempts whose lease ends then.
pub(super) fn probe(
    connection: &Connection,
    hosts: &[String],
    (now, lease): (Timestamp, Duration),
) -> Result<(), StoreError> {
    if !hosts.is_empty() {
        execute(
            connection,
            PROBE,
            params![json_list(hosts), later(now, lease)],
        )?;
    }
    Ok(())
}
