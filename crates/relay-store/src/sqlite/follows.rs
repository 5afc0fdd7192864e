//! Watches that somebody follows as they change.

use async_trait::async_trait;
use relay_domain::{Client, WatchId};

use crate::{
    EarlierLook, FollowStore, StoreError, WatchDetails, WatchVersion, rows,
    sqlite::{SqliteStore, details, row::id_list, statement::execute_each},
};

pub(super) const OWNER: &str = "SELECT c.client_id, c.name, c.key_hash, c.secret, \
    c.previous_secret, c.previous_until, c.callback_certificate, c.callback_headers, c.created_at, c.revoked_at \
    FROM watches w CROSS JOIN clients c ON c.client_id = w.client_id \
    WHERE w.watch_id = ?1 AND c.revoked_at IS NULL";

/// Reads versions. A look that finds no change does not change the version, unless hints put off the next look.
pub(super) const VERSIONS: &str = "SELECT w.watch_id, \
    concat_ws(' ', w.state, w.updated_at, w.progress, \
        iif(json_valid(j.memory), json_extract(j.memory, '$.changed_at'), ''), \
        iif(json_valid(j.memory), json_extract(j.memory, '$.look_without_hints_at'), ''), \
        (SELECT concat_ws(' ', count(*), sum(length(e.attempts)), max(e.updated_at)) \
            FROM events e WHERE e.source_id = w.watch_id), \
        (SELECT o.next_attempt_at FROM outbox o WHERE o.source_id = w.watch_id)) AS version \
    FROM json_each(?1) i CROSS JOIN watches w ON w.watch_id = unhex(i.value) \
    CROSS JOIN jobs j ON j.job_no = w.job_no";

pub(super) const EARLIER: &str = "UPDATE due_jobs SET next_look_at = ?2 \
    WHERE job_no = (SELECT job_no FROM jobs WHERE job_id = ?1) AND next_look_at > ?2";

#[async_trait]
impl FollowStore for SqliteStore {
    async fn find_owner(&self, id: WatchId) -> Result<Option<Client>, StoreError> {
        let row = sqlx::query(OWNER)
            .bind(id.to_bytes().to_vec())
            .fetch_optional(self.readers()?)
            .await?;
        row.as_ref()
            .map(|row| rows::client(row, &self.0.sealer))
            .transpose()
    }

    async fn find_watches(&self, ids: &[WatchId]) -> Result<Vec<WatchDetails>, StoreError> {
        details::find_all(&mut *self.read().await?, ids).await
    }

    async fn watch_versions(
        &self,
        ids: &[WatchId],
    ) -> Result<Vec<(WatchId, WatchVersion)>, StoreError> {
        let rows = sqlx::query(VERSIONS)
            .bind(id_list(ids.iter().map(|id| id.to_bytes())))
            .fetch_all(self.readers()?)
            .await?;
        rows.iter().map(|row| rows::version(row)).collect()
    }

    async fn look_earlier(&self, looks: Vec<EarlierLook>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let looks = looks
                .iter()
                .map(|look| (look.job_id.as_str(), look.at.as_millisecond()));
            execute_each(connection, EARLIER, looks)?;
            Ok(())
        })
        .await
    }
}
