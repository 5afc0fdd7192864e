//! What the relay did over time, in numbers.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ActivityRow, ActivityScope};
use rusqlite::params;

use crate::{
    ActivityStore, StoreError,
    rows::{self, int},
    rules::activity_cells,
    sqlite::{
        SqliteStore,
        statement::{execute, execute_each},
    },
};

pub(super) const RECORD: &str = "INSERT INTO activity (scope, since, run, counts) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (scope, since, run) DO UPDATE SET counts = excluded.counts";

pub(super) const LIST: &str = "SELECT scope, since, run, counts FROM activity \
    WHERE scope = ?1 AND since >= ?2 ORDER BY since, run";

pub(super) const PURGE: &str = "DELETE FROM activity WHERE rowid IN \
    (SELECT rowid FROM activity WHERE since < ?1 ORDER BY since LIMIT ?2)";

#[async_trait]
impl ActivityStore for SqliteStore {
    async fn record_activity(&self, rows: Vec<ActivityRow>) -> Result<(), StoreError> {
        let cells = activity_cells(&rows)?;
        self.write(move |connection| {
            let cells = cells
                .iter()
                .map(|row| (row.scope, row.since, row.run, row.counts.as_str()));
            execute_each(connection, RECORD, cells)?;
            Ok(())
        })
        .await
    }

    async fn list_activity(
        &self,
        scope: ActivityScope,
        since: Timestamp,
    ) -> Result<Vec<ActivityRow>, StoreError> {
        let rows = sqlx::query(LIST)
            .bind(scope.as_str())
            .bind(since.as_millisecond())
            .fetch_all(&mut *self.read().await?)
            .await?;
        rows.iter().map(|row| rows::activity_row(row)).collect()
    }

    async fn purge_activity(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.write(move |connection| {
            let values = params![before.as_millisecond(), int(limit)];
            Ok(execute(connection, PURGE, values)?)
        })
        .await
    }
}
