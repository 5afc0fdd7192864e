//! What the relays did over time, in numbers.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ActivityRow, ActivityScope};

use crate::{
    ActivityStore, StoreError,
    postgres::{PgStore, row::columns},
    rows::{self, int},
    rules::activity_cells,
};

/// Each run of a relay writes rows of its own, so no relay waits for another.
pub(super) const RECORD: &str = "INSERT INTO activity (scope, since, run, counts) \
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[]) \
    ON CONFLICT (scope, since, run) DO UPDATE SET counts = excluded.counts";

pub(super) const LIST: &str = "SELECT scope, since, run, counts FROM activity \
    WHERE scope = $1 AND since >= $2 ORDER BY since, run";

pub(super) const PURGE: &str = "DELETE FROM activity WHERE ctid = ANY(ARRAY(\
    SELECT a.ctid FROM activity a WHERE a.since < $1 ORDER BY a.since LIMIT $2))";

#[async_trait]
impl ActivityStore for PgStore {
    async fn record_activity(&self, rows: Vec<ActivityRow>) -> Result<(), StoreError> {
        self.write(activity_cells(&rows)?, |connection, cells| {
            Box::pin(async move {
                sqlx::query(RECORD)
                    .bind(columns(cells, |row| row.scope))
                    .bind(columns(cells, |row| row.since))
                    .bind(columns(cells, |row| row.run))
                    .bind(columns(cells, |row| row.counts.as_str()))
                    .execute(connection)
                    .await?;
                Ok(())
            })
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
            .fetch_all(&mut self.read().await?.session())
            .await?;
        rows.iter().map(|row| rows::activity_row(row)).collect()
    }

    async fn purge_activity(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.write((before, limit), |connection, (before, limit)| {
            Box::pin(async move {
                let purged = sqlx::query(PURGE)
                    .bind(before.as_millisecond())
                    .bind(int(*limit))
                    .execute(connection)
                    .await?;
                Ok(purged.rows_affected())
            })
        })
        .await
    }
}
