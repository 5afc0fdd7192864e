//! Queries that only the operator makes.

use async_trait::async_trait;

use crate::{
    ConsoleStore, FailingHost, StoreError, WatchDetails, WatchSearch,
    postgres::{
        PgStore,
        details::{self, watch_columns},
        row::plain,
    },
    rows::{self, ASKED, ColumnReader, int},
};

/// The newest watches of a job. The inner `LIMIT` makes PostgreSQL find them by the job.
macro_rules! of_job {
    () => {
        "(SELECT n.watch_id FROM watches n WHERE n.job_id = k.job_id AND n.watch_id < $2 \
            ORDER BY n.watch_id DESC LIMIT $3) o"
    };
}

/// Finds watches by job, callback host, connection or user. Each of these has an index of its own, and each finds
/// at most one page of watches.
pub(super) const SEARCH: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, j.next_look_at FROM watches w JOIN jobs j ON j.job_id = w.job_id \
     WHERE w.watch_id IN ( \
     (SELECT o.watch_id FROM watches o WHERE o.job_id = $1 AND o.watch_id < $2 \
        ORDER BY o.watch_id DESC LIMIT $3) \
     UNION ALL (SELECT o.watch_id FROM watches o WHERE o.callback_host = $1 \
        AND o.watch_id < $2 ORDER BY o.watch_id DESC LIMIT $3) \
     UNION ALL (SELECT o.watch_id FROM jobs k CROSS JOIN LATERAL ",
    of_job!(),
    " WHERE k.connection_id = $1 ORDER BY o.watch_id DESC LIMIT $3) \
     UNION ALL (SELECT o.watch_id FROM jobs k CROSS JOIN LATERAL ",
    of_job!(),
    " WHERE k.user_id = $1 ORDER BY o.watch_id DESC LIMIT $3)) \
     ORDER BY w.watch_id DESC LIMIT $3"
);

/// A text that sorts after the id of every watch.
const AFTER_ALL: &str = "wch_~";

pub(super) const HOSTS: &str = "SELECT h.host, h.failures, h.paused_until, h.probing, \
    h.failed_at, \
    (SELECT count(*) FROM (SELECT 1 FROM deliveries d WHERE d.host = h.host \
        AND d.ready_at IS NOT NULL LIMIT $2) w) AS waiting, \
    latest.delivery_id AS tried, latest.status, latest.error \
    FROM failing_hosts h LEFT JOIN LATERAL (SELECT a.delivery_id, a.status, a.error FROM \
        (SELECT d.delivery_id, d.attempts FROM deliveries d WHERE d.host = h.host \
            AND d.ready_at IS NOT NULL ORDER BY d.ready_at DESC LIMIT $3) d \
        JOIN attempts a ON a.delivery_id = d.delivery_id AND a.number = d.attempts \
        ORDER BY a.started_at DESC LIMIT 1) latest ON TRUE \
    ORDER BY h.paused_until DESC, h.failed_at DESC, h.host LIMIT $1";

#[async_trait]
impl ConsoleStore for PgStore {
    async fn search_watches(&self, search: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let before = search.before.map(|before| before.to_string());
        let rows = sqlx::query(SEARCH)
            .bind(plain(&search.text))
            .bind(before.as_deref().unwrap_or(AFTER_ALL))
            .bind(int(search.limit))
            .fetch_all(&mut session)
            .await?;
        details::tell(&mut session, &rows).await
    }

    async fn list_failing_hosts(&self, limit: usize) -> Result<Vec<FailingHost>, StoreError> {
        let rows = sqlx::query(HOSTS)
            .bind(int(limit))
            .bind(i64::try_from(FailingHost::MOST_WAITING).unwrap_or(i64::MAX))
            .bind(ASKED)
            .fetch_all(self.pool())
            .await?;
        let hosts = rows.iter().map(|row| {
            let cells = ColumnReader::of("failing_hosts", "host", row);
            let tried = cells.opt::<&str>("tried")?;
            let last = tried.map(|_| rows::host_failure(row));
            Ok(FailingHost {
                last: last.transpose()?,
                ..rows::failing_host(row)?
            })
        });
        hosts.collect()
    }
}
