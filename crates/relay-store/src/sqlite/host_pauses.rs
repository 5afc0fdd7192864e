//! Pauses of callback hosts by operators.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, AuditAct};
use rusqlite::params;

use crate::{
    AuditEntry, FailingHost, HostPause, HostPauseStore, ManualPause, StoreError,
    audit::AuditedAct,
    rows::{self, int},
    sqlite::{SqliteStore, row::json_list, statement::execute},
};

pub(super) const PAUSE: &str = "INSERT INTO manual_pauses (host, paused_at, paused_by) \
    VALUES (?1, ?2, ?3) ON CONFLICT (host) DO NOTHING";

pub(super) const RESUME: &str = "DELETE FROM manual_pauses WHERE host = ?1";

/// Ends the pause of a host that keeps failing.
pub(super) const LIFT: &str = "UPDATE failing_hosts SET paused_until = 0, probing = 0 \
    WHERE host = ?1 AND paused_until > 0";

pub(super) const LIST: &str = "SELECT host, paused_at, paused_by, \
    (SELECT count(*) FROM (SELECT 1 FROM outbox o WHERE o.host = manual_pauses.host LIMIT ?2)) AS waiting \
    FROM manual_pauses ORDER BY paused_at DESC, host LIMIT ?1";

/// `+?2` keeps SQLite from preparing the statement again for each value.
pub(super) const OF_HOSTS: &str = "SELECT h.value AS host, m.paused_at, m.paused_by, \
    iif(f.paused_until > +?2, f.paused_until, NULL) AS paused_until FROM json_each(?1) h \
    LEFT JOIN failing_hosts f ON f.host = h.value \
    LEFT JOIN manual_pauses m ON m.host = h.value \
    WHERE m.host IS NOT NULL OR f.paused_until > +?2";

#[async_trait]
impl HostPauseStore for SqliteStore {
    async fn pause_host(&self, by: &Actor, host: &str, now: Timestamp) -> Result<bool, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::HostPaused, host, now);
        let (host, operator) = (host.to_owned(), by.operator.clone());
        self.write_act(
            AuditedAct::new(entry, |paused| *paused),
            move |connection| {
                let values = params![host, now.as_millisecond(), operator.as_str()];
                Ok(execute(connection, PAUSE, values)? > 0)
            },
        )
        .await
    }

    async fn resume_host(
        &self,
        by: &Actor,
        host: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::HostResumed, host, now);
        let host = host.to_owned();
        self.write_act(
            AuditedAct::new(entry, |resumed| *resumed),
            move |connection| {
                let resumed = execute(connection, RESUME, params![host])? > 0;
                if resumed {
                    execute(connection, LIFT, params![host])?;
                }
                Ok(resumed)
            },
        )
        .await
    }

    async fn list_manual_pauses(&self, limit: usize) -> Result<Vec<ManualPause>, StoreError> {
        let rows = sqlx::query(LIST)
            .bind(int(limit))
            .bind(i64::try_from(FailingHost::MOST_WAITING).unwrap_or(i64::MAX))
            .fetch_all(&mut *self.read().await?)
            .await?;
        rows.iter().map(|row| rows::manual_pause(row)).collect()
    }

    async fn pauses_of(
        &self,
        hosts: &[&str],
        now: Timestamp,
    ) -> Result<Vec<HostPause>, StoreError> {
        let rows = sqlx::query(OF_HOSTS)
            .bind(json_list(hosts))
            .bind(now.as_millisecond())
            .fetch_all(&mut *self.read().await?)
            .await?;
        rows.iter().map(|row| rows::host_pause(row)).collect()
    }
}
