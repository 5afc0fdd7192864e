//! Claims due lists and banks. Puts off the rows that cannot be read, so that they do not hold up the others.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use relay_domain::LeaseId;
use rusqlite::{Connection, ToSql, types::FromSql};

use crate::{
    Claim, StoreError,
    rows::{UNREADABLE_RETRY_AFTER, int, millis_later},
    sqlite::{
        SqliteStore,
        file_health::{FileHealth, MAX_SKIPPED, SkippedRows},
        salvage::readable,
        statement::{OwnedRow, execute, fetch_optional, scalars},
    },
};

/// How due rows of one table are claimed. `K` is the key of a row, and `T` what a claim returns of it.
pub(super) struct DueRows<K, T> {
    /// Two statements that find the keys of rows that are due at `?1`, `?2` at most, from either end of the index.
    pub(super) due: [&'static str; 2],
    /// Reads the row with the key `?1`.
    pub(super) row: &'static str,
    /// Gives the row with the key `?1` the lease `?2` until `?3`.
    pub(super) lease: &'static str,
    /// Puts off the row with the key `?1` until `?2`.
    pub(super) put_off: &'static str,
    /// Reads what a claim returns.
    pub(super) read: fn(&OwnedRow, LeaseId) -> Result<T, StoreError>,
    /// Logs that a row cannot be read.
    pub(super) report: fn(&StoreError),
    /// Returns the keys of the rows that are skipped.
    pub(super) skipped: fn(&mut SkippedRows) -> &mut HashSet<K>,
}

impl<K: ToSql, T> DueRows<K, T> {
    /// Claims the rows with these keys. Puts off those that cannot be read.
    fn take(
        &self,
        connection: &Connection,
        keys: &[K],
        claim: Claim,
        health: &FileHealth,
    ) -> Result<Vec<T>, StoreError> {
        let lease = LeaseId::new(claim.now);
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(row) = fetch_optional(connection, self.row, (key,))? else {
                continue;
            };
            match (self.read)(&row, lease) {
                Ok(one) => {
                    let until = millis_later(claim.now, claim.lease);
                    execute(connection, self.lease, (key, lease.to_bytes(), until))?;
                    taken.push(one);
                }
                Err(failure) => {
                    health.note(&failure);
                    (self.report)(&failure);
                    let until = millis_later(claim.now, UNREADABLE_RETRY_AFTER);
                    execute(connection, self.put_off, (key, until))?;
                }
            }
        }
        Ok(taken)
    }
}

impl SqliteStore {
    /// Claims due rows.
    pub(super) async fn claim_rows<K, T>(
        &self,
        rows: &'static DueRows<K, T>,
        claim: Claim,
    ) -> Result<Vec<T>, StoreError>
    where
        K: FromSql + ToSql + Eq + Hash + Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let health = self.0.health.clone();
        let claimed = self.write(move |connection| {
            let values = (claim.now.as_millisecond(), int(claim.limit));
            let due: Vec<K> = scalars(connection, rows.due[0], values)?;
            rows.take(connection, &due, claim, &health)
        });
        match claimed.await {
            Err(failure) if failure.is_damage() => self.claim_undamaged_rows(rows, claim).await,
            claimed => claimed,
        }
    }

    /// Claims the due rows of a damaged file that can be read, and puts off the damaged ones.
    pub(super) async fn claim_undamaged_rows<K, T>(
        &self,
        rows: &'static DueRows<K, T>,
        claim: Claim,
    ) -> Result<Vec<T>, StoreError>
    where
        K: FromSql + ToSql + Eq + Hash + Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let skipped = (rows.skipped)(&mut self.0.health.skipped_rows()).clone();
        let due = self.0.reader.read(move |connection| {
            let limit = int(claim.limit.saturating_add(skipped.len()));
            let values = (claim.now.as_millisecond(), limit);
            let mut due: Vec<K> = readable(connection, rows.due, values)?;
            due.retain(|key| !skipped.contains(key));
            due.truncate(claim.limit);
            Ok(due)
        });
        let due: Arc<[K]> = due.await?.into();
        let health = self.0.health.clone();
        let claimed = self.each_undamaged(&due, &[], move |connection, part, _| {
            rows.take(connection, part, claim, &health)
        });
        let claimed = claimed.await?;
        for key in claimed.damaged.iter().filter_map(|place| due.get(*place)) {
            self.put_off_or_skip(rows, key.clone(), claim).await?;
        }
        Ok(claimed.done.into_iter().flatten().collect())
    }

    /// Puts off a damaged row. If even that meets damage, skips the row until the next start.
    async fn put_off_or_skip<K, T>(
        &self,
        rows: &DueRows<K, T>,
        key: K,
        claim: Claim,
    ) -> Result<(), StoreError>
    where
        K: ToSql + Eq + Hash + Clone + Send + Sync + 'static,
    {
        let (statement, damaged) = (rows.put_off, key.clone());
        let until = millis_later(claim.now, UNREADABLE_RETRY_AFTER);
        let left =
            self.write(move |connection| Ok(execute(connection, statement, (damaged, until))?));
        match left.await {
            Err(failure) if failure.is_damage() => {
                let mut known = self.0.health.skipped_rows();
                let skipped = (rows.skipped)(&mut known);
                if skipped.len() < MAX_SKIPPED {
                    skipped.insert(key);
                }
            }
            left => drop(left?),
        }
        Ok(())
    }
}
