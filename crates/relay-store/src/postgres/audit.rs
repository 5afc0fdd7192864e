//! The audit log.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::AuditId;

use crate::{
    AuditEntry, AuditQuery, AuditStore, StoreError,
    audit::AuditedAct,
    postgres::{PgSession, PgStore, plain, pool::TransactionBody},
    rows::{self, IdBytes, int},
};

pub(super) const ADD: &str = "INSERT INTO audit (audit_id, at, operator, act, subject, peer) \
    VALUES ($1, $2, $3, $4, $5, $6)";

/// Lists entries before `$1`, at most `$2` of them.
macro_rules! list {
    ($filter:literal) => {
        concat!(
            "SELECT audit_id, at, operator, act, subject, peer FROM audit WHERE audit_id < $1",
            $filter,
            " ORDER BY audit_id DESC LIMIT $2"
        )
    };
}

pub(super) const LIST: &str = list!("");
pub(super) const OF_OPERATOR: &str = list!(" AND operator = $3");
pub(super) const OF_ACT: &str = list!(" AND act = $3");
pub(super) const OF_BOTH: &str = list!(" AND operator = $3 AND act = $4");

/// Bytes that sort after every entry's id.
const AFTER_ALL: IdBytes = [0xff; 16];

/// Finds an entry that is old enough to be deleted, if the database grants the relay the right to delete it.
pub(super) const ANY_BEFORE: &str = "SELECT 1 FROM audit WHERE audit_id < $1 \
    AND has_table_privilege('audit', 'DELETE') \
    AND has_table_privilege('audit_horizon', 'INSERT') ORDER BY audit_id LIMIT 1";

pub(super) const MOVE_HORIZON: &str = "INSERT INTO audit_horizon AS h (one, kept_since) VALUES (1, $1) \
    ON CONFLICT (one) DO UPDATE SET kept_since = greatest(h.kept_since, excluded.kept_since)";

pub(super) const PURGE: &str = "DELETE FROM audit WHERE ctid = ANY(ARRAY(\
    SELECT a.ctid FROM audit a WHERE a.audit_id < $1 ORDER BY a.audit_id LIMIT $2))";

#[async_trait]
impl AuditStore for PgStore {
    async fn record_act(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let act = AuditedAct::always(entry);
        self.write_act(act, (), |_, ()| Box::pin(async { Ok(()) }))
            .await
    }

    async fn list_acts(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        let statement = match (&query.operator, query.act) {
            (None, None) => LIST,
            (Some(_), None) => OF_OPERATOR,
            (None, Some(_)) => OF_ACT,
            (Some(_), Some(_)) => OF_BOTH,
        };
        let before = query.before.map_or(AFTER_ALL, AuditId::to_bytes);
        let mut list = sqlx::query(statement).bind(before).bind(int(query.limit));
        if let Some(operator) = &query.operator {
            list = list.bind(plain(operator.as_str()));
        }
        if let Some(act) = query.act {
            list = list.bind(act.as_str());
        }
        let rows = list.fetch_all(&mut self.read().await?.session()).await?;
        rows.iter().map(|row| rows::audit_entry(row)).collect()
    }

    async fn purge_acts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.write((before, limit), |connection, (before, limit)| {
            Box::pin(purge(connection, *before, *limit))
        })
        .await
    }
}

impl PgStore {
    /// Runs one transaction, and records its act in it. Runs it again after a conflict with another one.
    pub(super) async fn write_act<A: Sync, T>(
        &self,
        act: AuditedAct<T>,
        input: A,
        work: TransactionBody<A, T>,
    ) -> Result<T, StoreError> {
        let done = self.0.pool.write_act(&act, input, work).await?;
        act.log(&done);
        Ok(done)
    }
}

/// Records an act in the transaction that does it.
pub(super) async fn record(
    connection: &mut PgSession<'_>,
    entry: &AuditEntry,
) -> Result<(), StoreError> {
    sqlx::query(ADD)
        .bind(entry.id.to_bytes())
        .bind(entry.at.as_millisecond())
        .bind(plain(entry.operator.as_str()))
        .bind(entry.act.as_str())
        .bind(plain(&entry.subject))
        .bind(entry.from.map(|from| from.to_string()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn purge(
    connection: &mut PgSession<'_>,
    before: Timestamp,
    limit: usize,
) -> Result<u64, StoreError> {
    let first_kept = AuditId::first_of(before).to_bytes();
    let old: Option<i32> = sqlx::query_scalar(ANY_BEFORE)
        .bind(first_kept)
        .fetch_optional(&mut *connection)
        .await?;
    if old.is_none() {
        return Ok(0);
    }
    sqlx::query(MOVE_HORIZON)
        .bind(before.as_millisecond())
        .execute(&mut *connection)
        .await?;
    let purged = sqlx::query(PURGE)
        .bind(first_kept)
        .bind(int(limit))
        .execute(connection)
        .await?;
    Ok(purged.rows_affected())
}
