//! The audit log.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::AuditId;
use rusqlite::{Connection, params};

use crate::{
    AuditEntry, AuditQuery, AuditStore, StoreError,
    audit::AuditedAct,
    rows::{self, IdBytes, int},
    sqlite::{SqliteStore, statement::execute},
};

const ADD: &str = "INSERT INTO audit (audit_id, at, operator, act, subject, peer) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Lists entries before `?1`, at most `?2` of them.
macro_rules! list {
    ($filter:literal) => {
        concat!(
            "SELECT audit_id, at, operator, act, subject, peer FROM audit WHERE audit_id < ?1",
            $filter,
            " ORDER BY audit_id DESC LIMIT ?2"
        )
    };
}

pub(super) const LIST: &str = list!("");
pub(super) const OF_OPERATOR: &str = list!(" AND operator = ?3");
pub(super) const OF_ACT: &str = list!(" AND act = ?3");
/// `+` keeps SQLite from using the index of acts: an operator has fewer entries than an act.
pub(super) const OF_BOTH: &str = list!(" AND operator = ?3 AND +act = ?4");

/// Bytes that sort after every entry's id.
const AFTER_ALL: IdBytes = [0xff; 16];

pub(super) const ANY_BEFORE: &str = "SELECT 1 FROM audit WHERE audit_id < ?1 LIMIT 1";

const MOVE_HORIZON: &str = "INSERT INTO audit_horizon (one, kept_since) VALUES (1, ?1) \
    ON CONFLICT (one) DO UPDATE SET kept_since = max(kept_since, excluded.kept_since)";

pub(super) const PURGE: &str = "DELETE FROM audit WHERE audit_id IN \
    (SELECT audit_id FROM audit WHERE audit_id < ?1 ORDER BY audit_id LIMIT ?2)";

#[async_trait]
impl AuditStore for SqliteStore {
    async fn record_act(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.write_act(AuditedAct::always(entry), |_| Ok(())).await
    }

    async fn list_acts(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        let statement = match (&query.operator, query.act) {
            (None, None) => LIST,
            (Some(_), None) => OF_OPERATOR,
            (None, Some(_)) => OF_ACT,
            (Some(_), Some(_)) => OF_BOTH,
        };
        let before = query.before.map_or(AFTER_ALL, AuditId::to_bytes);
        let mut list = sqlx::query(statement)
            .bind(before.to_vec())
            .bind(int(query.limit));
        if let Some(operator) = &query.operator {
            list = list.bind(operator.as_str());
        }
        if let Some(act) = query.act {
            list = list.bind(act.as_str());
        }
        let rows = list.fetch_all(&mut *self.read().await?).await?;
        rows.iter().map(|row| rows::audit_entry(row)).collect()
    }

    async fn purge_acts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let first_kept = AuditId::first_of(before).to_bytes();
        let old: Option<i64> = sqlx::query_scalar(ANY_BEFORE)
            .bind(first_kept.to_vec())
            .fetch_optional(&mut *self.read().await?)
            .await?;
        if old.is_none() {
            return Ok(0);
        }
        self.write(move |connection| {
            execute(connection, MOVE_HORIZON, (before.as_millisecond(),))?;
            Ok(execute(connection, PURGE, params![first_kept, int(limit)])?)
        })
        .await
    }
}

impl SqliteStore {
    /// Runs one unit of work in the next commit, and records its act with it.
    pub(super) async fn write_act<T, F>(&self, act: AuditedAct<T>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let unit = move |connection: &Connection| {
            let done = work(connection)?;
            if let Some(entry) = act.entry_for(&done) {
                record(connection, entry)?;
            }
            Ok((done, act))
        };
        let (done, act) = self.write(unit).await?;
        act.log(&done);
        Ok(done)
    }
}

fn record(connection: &Connection, entry: &AuditEntry) -> Result<(), StoreError> {
    let values = params![
        entry.id.to_bytes(),
        entry.at.as_millisecond(),
        entry.operator.as_str(),
        entry.act.as_str(),
        entry.subject,
        entry.from.map(|from| from.to_string()),
    ];
    execute(connection, ADD, values)?;
    Ok(())
}
