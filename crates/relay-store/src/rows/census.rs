//! Reads the counts for the metrics from rows.

use relay_domain::WatchState;

use crate::{
    Census, PausedHost, StoreError, StoreTroubles,
    rows::{AnyRow, ColumnReader},
};

/// Builds the census from rows that count watches by state, and one row that counts everything else.
pub(crate) fn census<R: AnyRow>(states: &[R], counts: &dyn AnyRow) -> Result<Census, StoreError> {
    let counted = states.iter().map(|row| {
        let cells = ColumnReader::of("watch_counts", "state", row);
        let state = cells.read("state", WatchState::from_word)?;
        Ok((state, cells.number("n")?))
    });
    let counted: Vec<(WatchState, u64)> = counted.collect::<Result<_, StoreError>>()?;
    let count = |state: WatchState| {
        let found = counted.iter().find(|(counted, _)| *counted == state);
        (state, found.map_or(0, |(_, n)| *n))
    };
    let counts = ColumnReader::of("deliveries", "delivery_id", counts);
    Ok(Census {
        watches: WatchState::ALL.iter().copied().map(count).collect(),
        due_jobs: counts.number("due_jobs")?,
        due_deliveries: counts.number("due_deliveries")?,
        pending_deliveries: counts.number("pending_deliveries")?,
        dead_deliveries: counts.number("dead_deliveries")?,
        due_lists: counts.number("due_lists")?,
        subscriptions: counts.number("subscriptions")?,
        paused_hosts: counts.number("paused_hosts")?,
    })
}

/// Reads what operators are alerted to from one row that counts the dead deliveries, and the rows of paused hosts.
pub(crate) fn troubles<R: AnyRow>(dead: &R, hosts: &[R]) -> Result<StoreTroubles, StoreError> {
    let dead = ColumnReader::of("deliveries", "delivery_id", dead);
    let hosts = hosts.iter().map(|row| {
        let cells = ColumnReader::of("failing_hosts", "host", row);
        Ok(PausedHost {
            host: cells.get("host")?,
            since: cells.time("paused_since")?,
        })
    });
    Ok(StoreTroubles {
        dead_deliveries: dead.number("dead_deliveries")?,
        paused_hosts: hosts.collect::<Result<_, StoreError>>()?,
    })
}
