//! Due lists and banks of a damaged file: claims the readable ones, and skips the others.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use rusqlite::{Connection, ToSql, types::FromSql};

use crate::{
    Claim, StoreError,
    rows::{UNREADABLE_RETRY_AFTER, int, millis_later},
    sqlite::{
        SqliteStore,
        file_health::{FileHealth, MAX_SKIPPED, SkippedRows},
        salvage::readable,
        statement::execute,
    },
};

/// Claims the rows with these keys.
type Take<K, T> = fn(&Connection, &[K], Claim, &FileHealth) -> Result<Vec<T>, StoreError>;

/// How due rows of one table are claimed. `K` is the key of a row, and `T` what a claim returns of it.
pub(super) struct DueRows<K, T> {
    /// Two statements that find the keys of due rows, from either end.
    pub(super) due: [&'static str; 2],
    /// Puts off the row with the key `?1` until `?2`.
    pub(super) put_off: &'static str,
    /// Claims the rows with these keys.
    pub(super) take: Take<K, T>,
    /// Returns the keys of the rows that are skipped.
    pub(super) skipped: fn(&mut SkippedRows) -> &mut HashSet<K>,
}

impl SqliteStore {
    /// Claims the due rows that can be read, and puts off the damaged ones.
    pub(super) async fn claim_undamaged<K, T>(
        &self,
        rows: &DueRows<K, T>,
        claim: Claim,
    ) -> Result<Vec<T>, StoreError>
    where
        K: FromSql + ToSql + Eq + Hash + Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let statements = rows.due;
        let skipped = (rows.skipped)(&mut self.0.health.skipped_rows()).clone();
        let due = self.0.reader.read(move |connection| {
            let limit = int(claim.limit.saturating_add(skipped.len()));
            let values = (claim.now.as_millisecond(), limit);
            let mut due: Vec<K> = readable(connection, statements, values)?;
            due.retain(|key| !skipped.contains(key));
            due.truncate(claim.limit);
            Ok(due)
        });
        let due: Arc<[K]> = due.await?.into();
        let (take, health) = (rows.take, self.0.health.clone());
        let claimed = self.each_undamaged(&due, &[], move |connection, part, _| {
            take(connection, part, claim, &health)
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
