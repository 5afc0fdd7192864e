//! Queries that only the operator makes.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, AuditAct, DeliveryId, SubscriptionId, WatchId};
use sqlx::{Row, postgres::PgRow};

use crate::{
    AuditEntry, ConsoleStore, EventDetails, FailingHost, StoreError, WatchDetails, WatchSearch,
    audit::AuditedAct,
    postgres::{
        PgStore, deliveries,
        details::{self, next_look_at, watch_columns},
        row::{columns, plain},
    },
    rows::{self, ASKED, IdBytes, int},
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
    ", j.memory, ",
    next_look_at!(),
    " FROM watches w JOIN jobs j ON j.job_id = w.job_id \
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

/// Some watches of a job. The inner `LIMIT` makes PostgreSQL find them by the job.
macro_rules! some_of_job {
    () => {
        "jobs k CROSS JOIN LATERAL (SELECT n.watch_id FROM watches n WHERE n.job_id = k.job_id LIMIT $3) o "
    };
}

/// Finds watches whose job id, callback host, connection id or user id is at least `$1` and less than `$2`. Each has an
/// index of its own, and each finds at most `$3` watches.
pub(super) const BY_PREFIX: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, ",
    next_look_at!(),
    " FROM watches w JOIN jobs j ON j.job_id = w.job_id WHERE w.watch_id IN ( \
     (SELECT o.watch_id FROM ",
    some_of_job!(),
    "WHERE k.job_id >= $1 AND k.job_id < $2 LIMIT $3) \
     UNION ALL (SELECT o.watch_id FROM watches o \
         WHERE o.callback_host >= $1 AND o.callback_host < $2 LIMIT $3) \
     UNION ALL (SELECT o.watch_id FROM ",
    some_of_job!(),
    "WHERE k.connection_id >= $1 AND k.connection_id < $2 LIMIT $3) \
     UNION ALL (SELECT o.watch_id FROM ",
    some_of_job!(),
    "WHERE k.user_id >= $1 AND k.user_id < $2 LIMIT $3)) \
     ORDER BY w.watch_id DESC LIMIT $3"
);

/// Bytes that sort after every watch's id.
const AFTER_ALL: IdBytes = [0xff; 16];

pub(super) const NOTICES: &str = "SELECT e.event_id, e.body, e.state, e.attempts, \
    (SELECT o.next_attempt_at FROM outbox o WHERE o.source_id = e.source_id \
        AND o.event_id = e.event_id) AS next_attempt_at \
    FROM events e WHERE e.source_id = $1 ORDER BY e.event_id DESC LIMIT $2";

pub(super) const HOSTS: &str = "SELECT h.host, h.failures, h.paused_until, h.probing, \
    h.failed_at, \
    (SELECT count(*) FROM (SELECT 1 FROM outbox o WHERE o.host = h.host LIMIT $2) w) AS waiting \
    FROM failing_hosts h ORDER BY h.paused_until DESC, h.failed_at DESC, h.host LIMIT $1";

/// The events that have longest to wait for each of these hosts.
pub(super) const WAITING: &str = "SELECT o.host, e.event_id, e.attempts FROM unnest($1::text[]) h (host) \
    CROSS JOIN LATERAL (SELECT o.host, o.event_id FROM outbox o WHERE o.host = h.host \
        ORDER BY o.ready_at DESC LIMIT $2) o \
    JOIN events e ON e.event_id = o.event_id";

#[async_trait]
impl ConsoleStore for PgStore {
    async fn search_watches(&self, search: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let before = search.before.map_or(AFTER_ALL, WatchId::to_bytes);
        let rows = sqlx::query(SEARCH)
            .bind(plain(&search.text))
            .bind(before)
            .bind(int(search.limit))
            .fetch_all(&mut session)
            .await?;
        details::with_events(&mut session, &rows).await
    }

    async fn search_by_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<WatchDetails>, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let prefix = plain(prefix);
        let rows = sqlx::query(BY_PREFIX)
            .bind(&prefix)
            .bind(rows::prefix_upper_bound(&prefix))
            .bind(int(limit))
            .fetch_all(&mut session)
            .await?;
        details::with_events(&mut session, &rows).await
    }

    async fn filter_redeliverable(
        &self,
        ids: &[DeliveryId],
    ) -> Result<Vec<DeliveryId>, StoreError> {
        deliveries::filter_redeliverable(&mut self.read().await?.session(), ids).await
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
        let queued = self
            .write_act(act, (ids, now), |connection, (ids, now)| {
                Box::pin(deliveries::redeliver_chosen(connection, ids, *now))
            })
            .await?;
        self.notify_of_deliveries();
        Ok(queued)
    }

    async fn notices_of(
        &self,
        id: SubscriptionId,
        limit: usize,
    ) -> Result<Vec<EventDetails>, StoreError> {
        let mut view = self.read().await?;
        let rows = sqlx::query(NOTICES)
            .bind(id.to_bytes())
            .bind(int(limit))
            .fetch_all(&mut view.session())
            .await?;
        rows.iter().map(|row| rows::event(row)).collect()
    }

    async fn list_failing_hosts(&self, limit: usize) -> Result<Vec<FailingHost>, StoreError> {
        let mut view = self.read().await?;
        let mut session = view.session();
        let rows = sqlx::query(HOSTS)
            .bind(int(limit))
            .bind(i64::try_from(FailingHost::MOST_WAITING).unwrap_or(i64::MAX))
            .fetch_all(&mut session)
            .await?;
        let hosts = rows.iter().map(|row| rows::failing_host(row));
        let mut hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        let waiting = sqlx::query(WAITING)
            .bind(columns(&hosts, |host| host.host.as_str()))
            .bind(ASKED)
            .fetch_all(&mut session)
            .await?;
        let mut by_host: HashMap<String, Vec<PgRow>> = HashMap::new();
        for row in waiting {
            by_host.entry(row.try_get("host")?).or_default().push(row);
        }
        for host in &mut hosts {
            let waiting = by_host.remove(&host.host).unwrap_or_default();
            host.last = rows::latest_failure(&waiting)?;
        }
        Ok(hosts)
    }
}
