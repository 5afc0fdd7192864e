//! Pauses of callback hosts by operators.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, AuditAct};

use crate::{
    AuditEntry, FailingHost, HostPause, HostPauseStore, ManualPause, StoreError,
    audit::AuditedAct,
    postgres::{PgSession, PgStore, row::plain},
    rows::{self, int},
};

pub(super) const PAUSE: &str = "INSERT INTO manual_pauses (host, paused_at, paused_by) \
    VALUES ($1, $2, $3) ON CONFLICT (host) DO NOTHING";

pub(super) const RESUME: &str = "DELETE FROM manual_pauses WHERE host = $1";

/// Ends the pause of a host that keeps failing.
pub(super) const LIFT: &str = "UPDATE failing_hosts SET paused_until = 0, probing = FALSE \
    WHERE host = $1 AND paused_until > 0";

pub(super) const LIST: &str = "SELECT m.host, m.paused_at, m.paused_by, \
    (SELECT count(*) FROM (SELECT 1 FROM outbox o WHERE o.host = m.host LIMIT $2) w) AS waiting \
    FROM manual_pauses m ORDER BY m.paused_at DESC, m.host LIMIT $1";

pub(super) const OF_HOSTS: &str = "SELECT h.host, m.paused_at, m.paused_by, \
    CASE WHEN f.paused_until > $2 THEN f.paused_until END AS paused_until \
    FROM unnest($1::text[]) h (host) \
    LEFT JOIN failing_hosts f ON f.host = h.host LEFT JOIN manual_pauses m ON m.host = h.host \
    WHERE m.host IS NOT NULL OR f.paused_until > $2";

#[async_trait]
impl HostPauseStore for PgStore {
    async fn pause_host(&self, by: &Actor, host: &str, now: Timestamp) -> Result<bool, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::HostPaused, host, now);
        let act = AuditedAct::new(entry, |paused| *paused);
        let input = (host, by.operator.as_str(), now);
        self.write_act(act, input, |connection, (host, operator, now)| {
            Box::pin(pause(connection, host, operator, *now))
        })
        .await
    }

    async fn resume_host(
        &self,
        by: &Actor,
        host: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::HostResumed, host, now);
        let act = AuditedAct::new(entry, |resumed| *resumed);
        let resumed = self
            .write_act(act, host, |connection, host| {
                Box::pin(resume(connection, host))
            })
            .await?;
        self.notify_of_deliveries();
        Ok(resumed)
    }

    async fn list_manual_pauses(&self, limit: usize) -> Result<Vec<ManualPause>, StoreError> {
        let rows = sqlx::query(LIST)
            .bind(int(limit))
            .bind(i64::try_from(FailingHost::MOST_WAITING).unwrap_or(i64::MAX))
            .fetch_all(&mut self.read().await?.session())
            .await?;
        rows.iter().map(|row| rows::manual_pause(row)).collect()
    }

    async fn pauses_of(
        &self,
        hosts: &[&str],
        now: Timestamp,
    ) -> Result<Vec<HostPause>, StoreError> {
        let rows = sqlx::query(OF_HOSTS)
            .bind(hosts)
            .bind(now.as_millisecond())
            .fetch_all(&mut self.read().await?.session())
            .await?;
        rows.iter().map(|row| rows::host_pause(row)).collect()
    }
}

async fn pause(
    connection: &mut PgSession<'_>,
    host: &str,
    operator: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let paused = sqlx::query(PAUSE)
        .bind(plain(host))
        .bind(now.as_millisecond())
        .bind(plain(operator))
        .execute(connection)
        .await?;
    Ok(paused.rows_affected() > 0)
}

async fn resume(connection: &mut PgSession<'_>, host: &str) -> Result<bool, StoreError> {
    let resumed = sqlx::query(RESUME)
        .bind(plain(host))
        .execute(&mut *connection)
        .await?;
    let resumed = resumed.rows_affected() > 0;
    if resumed {
        sqlx::query(LIFT)
            .bind(plain(host))
            .execute(connection)
            .await?;
    }
    Ok(resumed)
}
