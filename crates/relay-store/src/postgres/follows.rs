//! Watches that somebody follows as they change.

use async_trait::async_trait;
use relay_domain::{Client, WatchId};

use crate::{
    EarlierLook, FollowStore, StoreError, WatchDetails, WatchVersion,
    postgres::{
        PgStore, details,
        indexes::each,
        row::{columns, list},
    },
    rows,
};

pub(super) const OWNER: &str = "SELECT c.client_id, c.name, c.key_hash, c.secret, \
    c.previous_secret, c.previous_until, c.callback_certificate, c.callback_headers, c.created_at, c.revoked_at \
    FROM watches w JOIN clients c ON c.client_id = w.client_id \
    WHERE w.watch_id = $1 AND c.revoked_at IS NULL";

/// Returns a text for each watch that changes with the watch. A look that finds no change does not change it, unless
/// hints put off the next look. A job's memory may contain an escaped NUL, which PostgreSQL's JSON type cannot hold, so
/// regular expressions find its members. Quotes inside the memory's texts are escaped, so they match only those
/// members.
pub(super) const VERSIONS: &str = "SELECT w.watch_id, \
    concat_ws(' ', w.state, w.updated_at, w.progress, \
        substring(j.memory from '\"changed_at\":\"([^\"]*)\"'), \
        substring(j.memory from '\"look_without_hints_at\":\"([^\"]*)\"'), \
        e.n, e.updated_at, e.attempts, \
        (SELECT o.next_attempt_at FROM outbox o WHERE o.source_id = w.watch_id)) AS version \
    FROM unnest($1::bytea[]) i (watch_id) JOIN watches w ON w.watch_id = i.watch_id \
    JOIN jobs j ON j.job_id = w.job_id \
    CROSS JOIN LATERAL (SELECT count(*) AS n, max(updated_at) AS updated_at, \
        sum(length(attempts)) AS attempts FROM events WHERE events.source_id = w.watch_id) e";

/// Makes looks due earlier. The rows are locked in the order of their ids.
pub(super) const EARLIER: &str = concat!(
    "WITH looks AS (SELECT j.job_id, l.at FROM unnest($1::text[], $2::bigint[]) l (job_id, at) \
     JOIN due_jobs j ON ",
    each!("j.job_id", "l.job_id"),
    " AND j.next_look_at + 0 > l.at ORDER BY l.job_id || '' FOR UPDATE OF j) \
     UPDATE due_jobs SET next_look_at = looks.at FROM looks WHERE ",
    each!("due_jobs.job_id", "looks.job_id")
);

#[async_trait]
impl FollowStore for PgStore {
    async fn find_owner(&self, id: WatchId) -> Result<Option<Client>, StoreError> {
        let row = sqlx::query(OWNER)
            .bind(id.to_bytes())
            .fetch_optional(self.pool())
            .await?;
        row.as_ref()
            .map(|row| rows::client(row, &self.0.sealer))
            .transpose()
    }

    async fn find_watches(&self, ids: &[WatchId]) -> Result<Vec<WatchDetails>, StoreError> {
        details::find_all(&mut self.read().await?.session(), ids).await
    }

    async fn watch_versions(
        &self,
        ids: &[WatchId],
    ) -> Result<Vec<(WatchId, WatchVersion)>, StoreError> {
        let rows = sqlx::query(VERSIONS)
            .bind(list(ids))
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| rows::version(row)).collect()
    }

    async fn look_earlier(&self, looks: Vec<EarlierLook>) -> Result<(), StoreError> {
        self.write(looks, |connection, looks| {
            Box::pin(async move {
                sqlx::query(EARLIER)
                    .bind(columns(looks, |look| look.job_id.as_str()))
                    .bind(columns(looks, |look| look.at.as_millisecond()))
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
