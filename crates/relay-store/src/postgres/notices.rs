//! Adds notices to subscriptions.

use jiff::Timestamp;

use crate::{
    NewNotice, StoreError,
    postgres::{PgSession, attempts, row::plain},
    rules::notice_row,
};

/// Counts one more notice of an active subscription. Returns the number.
pub(super) const COUNT_NOTICE: &str = "UPDATE subscriptions SET noticed = noticed + 1 \
    WHERE subscription_id = $1 AND ended_at + 0 IS NULL RETURNING noticed";

pub(super) const ADD_NOTICE: &str = "INSERT INTO events (event_id, source_id, kind, client_id, state, \
    updated_at, created_at, body) VALUES ($1, $2, 'notice', $3, 'pending', $4, $4, $5)";

/// Adds notices of subscriptions that are still active, and queues each behind the earlier ones. Returns the number of
/// notices. The caller has locked the list of the subscriptions' person.
pub(super) async fn notify(
    connection: &mut PgSession<'_>,
    notices: &[NewNotice],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut added = 0;
    for new in notices {
        let id = new.subscription.id.to_bytes();
        let counted: Option<i64> = sqlx::query_scalar(COUNT_NOTICE)
            .bind(id)
            .fetch_optional(&mut *connection)
            .await?;
        let Some(sequence) = counted else {
            continue;
        };
        let sequence = u32::try_from(sequence).unwrap_or(u32::MAX);
        let (row, at) = (notice_row(new, sequence, now)?, now.as_millisecond());
        sqlx::query(ADD_NOTICE)
            .bind(row.event_id)
            .bind(id)
            .bind(row.client_id)
            .bind(at)
            .bind(plain(&row.body))
            .execute(&mut *connection)
            .await?;
        attempts::queue_next(connection, &[(id, at)]).await?;
        added += 1;
    }
    Ok(added)
}
