//! Reads that only the operator's console needs.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, AuditAct, DeliveryId, SubscriptionId, WatchId};
use rusqlite::Connection;
use sqlx::SqliteConnection;

use crate::{
    AuditEntry, ConsoleStore, EventDetails, FailingHost, StoreError, WatchDetails, WatchSearch,
    audit::AuditedAct,
    rows::{self, ASKED, IdBytes, int},
    sqlite::{
        SqliteStore, deliveries,
        details::{self, watch_columns},
    },
};

/// Finds watches by a job id, callback host, connection id or user id. Each has an index of its own and finds at most
/// one page of watches.
pub(super) const SEARCH: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, d.next_look_at FROM watches w CROSS JOIN jobs j ON j.job_no = w.job_no \
     LEFT JOIN due_jobs d ON d.job_no = w.job_no \
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

/// Finds watches whose job id, callback host, connection id or user id is at least `?1` and less than `?2`. Each has an
/// index of its own and finds at most `?3` watches.
pub(super) const BY_PREFIX: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, d.next_look_at FROM watches w CROSS JOIN jobs j ON j.job_no = w.job_no \
     LEFT JOIN due_jobs d ON d.job_no = w.job_no \
     WHERE w.watch_id IN ( \
     SELECT watch_id FROM (SELECT o.watch_id FROM jobs k CROSS JOIN watches o ON o.job_no = k.job_no \
        WHERE k.job_id >= ?1 AND k.job_id < ?2 LIMIT ?3) \
     UNION ALL SELECT watch_id FROM (SELECT watch_id FROM watches \
        WHERE callback_host >= ?1 AND callback_host < ?2 LIMIT ?3) \
     UNION ALL SELECT watch_id FROM (SELECT o.watch_id FROM jobs k \
        CROSS JOIN watches o ON o.job_no = k.job_no \
        WHERE k.connection_id >= ?1 AND k.connection_id < ?2 LIMIT ?3) \
     UNION ALL SELECT watch_id FROM (SELECT o.watch_id FROM jobs k \
        CROSS JOIN watches o ON o.job_no = k.job_no \
        WHERE k.user_id >= ?1 AND k.user_id < ?2 LIMIT ?3)) \
     ORDER BY w.watch_id DESC LIMIT ?3"
);

/// Bytes that sort after every watch's id.
const AFTER_ALL: IdBytes = [0xff; 16];

pub(super) const NOTICES: &str = "SELECT e.event_id, e.body, e.state, e.attempts, o.next_attempt_at \
    FROM events e LEFT JOIN outbox o ON o.source_id = e.source_id AND o.event_id = e.event_id \
    WHERE e.source_id = ?1 ORDER BY e.event_id DESC LIMIT ?2";

pub(super) const HOSTS: &str = "SELECT host, failures, paused_until, probing, failed_at, \
    (SELECT count(*) FROM (SELECT 1 FROM outbox o WHERE o.host = hosts.host LIMIT ?2)) AS waiting \
    FROM failing_hosts hosts ORDER BY paused_until DESC, failed_at DESC, host LIMIT ?1";

pub(super) const WAITING: &str = "SELECT e.event_id, e.attempts FROM \
    (SELECT event_id FROM outbox WHERE host = ?1 ORDER BY ready_at DESC LIMIT ?2) w \
    CROSS JOIN events e ON e.event_id = w.event_id";

#[async_trait]
impl ConsoleStore for SqliteStore {
    async fn search_watches(&self, search: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let before = search.before.map_or(AFTER_ALL, WatchId::to_bytes);
        let rows = sqlx::query(SEARCH)
            .bind(&search.text)
            .bind(before.to_vec())
            .bind(int(search.limit))
            .fetch_all(&mut *view)
            .await?;
        details::with_events(&mut view, &rows).await
    }

    async fn search_by_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let rows = sqlx::query(BY_PREFIX)
            .bind(prefix)
            .bind(rows::prefix_upper_bound(prefix))
            .bind(int(limit))
            .fetch_all(&mut *view)
            .await?;
        details::with_events(&mut view, &rows).await
    }

    async fn filter_redeliverable(
        &self,
        ids: &[DeliveryId],
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let ids = ids.to_vec();
        let found =
            move |connection: &Connection| deliveries::filter_redeliverable(connection, &ids);
        self.0.reader.read(found).await
    }

    async fn redeliver_chosen(
        &self,
        by: &Actor,
        ids: &[DeliveryId],
        chosen: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::ChosenRedelivered, chosen, now);
        let act = AuditedAct::new(entry, |queued| *queued > 0);
        let ids = ids.to_vec();
        self.write_act(act, move |connection| {
            deliveries::redeliver_chosen(connection, &ids, now)
        })
        .await
    }

    async fn notices_of(
        &self,
        id: SubscriptionId,
        limit: usize,
    ) -> Result<Vec<EventDetails>, StoreError> {
        let mut view = self.read().await?;
        let rows = sqlx::query(NOTICES)
            .bind(id.to_bytes().to_vec())
            .bind(int(limit))
            .fetch_all(&mut *view)
            .await?;
        rows.iter().map(|row| rows::event(row)).collect()
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
    let waiting = sqlx::query(WAITING)
        .bind(&host.host)
        .bind(ASKED)
        .fetch_all(connection)
        .await?;
    Ok(FailingHost {
        last: rows::latest_failure(&waiting)?,
        ..host
    })
}
