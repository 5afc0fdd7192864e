//! Reads that only the operator's console needs.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use crate::{
    ConsoleStore, FailingHost, StoreError, WatchDetails, WatchSearch,
    rows::{self, ASKED, int},
    sqlite::{
        SqliteStore,
        details::{self, watch_columns},
    },
};

/// Finds watches by a job id, callback host, connection id or user id. Each has an index of its own and finds at most
/// one page of watches.
pub(super) const SEARCH: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, j.next_look_at FROM watches w CROSS JOIN jobs j ON j.job_no = w.job_no \
     WHERE w.watch_id IN ( \
     SELECT watch_id FROM (SELECT watch_id FROM watches \
        WHERE job_no = (SELECT job_no FROM jobs WHERE job_id = ?1) AND watch_id < ?2 \
        ORDER BY watch_id DESC LIMIT ?3) \
     UNION ALL SELECT watch_id FROM (SELECT watch_id FROM watches WHERE callback_host = ?1 \
        AND watch_id < ?2 ORDER BY watch_id DESC LIMIT ?3) \
     UNION ALL SELECT watch_id FROM (SELECT o.watch_id FROM jobs k \
        CROSS JOIN watches o ON o.job_no = k.job_no WHERE k.connection_id = ?1 \
        AND o.watch_id < ?2 ORDER BY o.watch_id DESC LIMIT ?3) \
     UNION ALL SELECT watch_id FROM (SELECT o.watch_id FROM jobs k \
        CROSS JOIN watches o ON o.job_no = k.job_no WHERE k.user_id = ?1 \
        AND o.watch_id < ?2 ORDER BY o.watch_id DESC LIMIT ?3)) \
     ORDER BY w.watch_id DESC LIMIT ?3"
);

/// A text that sorts after every watch's id.
const AFTER_ALL: &str = "wch_~";

pub(super) const HOSTS: &str = "SELECT host, failures, paused_until, probing, failed_at, \
    (SELECT count(*) FROM (SELECT 1 FROM deliveries d WHERE d.host = hosts.host \
        AND d.ready_at IS NOT NULL LIMIT ?2)) AS waiting \
    FROM failing_hosts hosts ORDER BY paused_until DESC, failed_at DESC, host LIMIT ?1";

pub(super) const LATEST_ATTEMPT: &str = "SELECT host, a.status, a.error FROM \
    (SELECT host, delivery_id AS tried, attempts AS latest FROM deliveries \
        WHERE host = ?1 AND ready_at IS NOT NULL ORDER BY ready_at DESC LIMIT ?2) \
    CROSS JOIN attempts a ON a.delivery_id = tried AND a.number = latest \
    ORDER BY a.started_at DESC LIMIT 1";

#[async_trait]
impl ConsoleStore for SqliteStore {
    async fn search_watches(&self, search: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let before = search.before.map(|before| before.to_string());
        let rows = sqlx::query(SEARCH)
            .bind(&search.text)
            .bind(before.as_deref().unwrap_or(AFTER_ALL))
            .bind(int(search.limit))
            .fetch_all(&mut *view)
            .await?;
        details::tell(&mut view, &rows).await
    }

    async fn list_failing_hosts(&self, limit: usize) -> Result<Vec<FailingHost>, StoreError> {
        let mut view = self.read().await?;
        let rows = sqlx::query(HOSTS)
            .bind(int(limit))
            .bind(i64::try_from(FailingHost::MOST_WAITING).unwrap_or(i64::MAX))
            .fetch_all(&mut *view)
            .await?;
        let mut hosts = Vec::with_capacity(rows.len());
        for row in &rows {
            hosts.push(with_latest(&mut view, rows::failing_host(row)?).await?);
        }
        Ok(hosts)
    }
}

async fn with_latest(
    connection: &mut SqliteConnection,
    host: FailingHost,
) -> Result<FailingHost, StoreError> {
    let row = sqlx::query(LATEST_ATTEMPT)
        .bind(&host.host)
        .bind(ASKED)
        .fetch_optional(connection)
        .await?;
    let last = row.as_ref().map(|row| rows::host_failure(row));
    Ok(FailingHost {
        last: last.transpose()?,
        ..host
    })
}
