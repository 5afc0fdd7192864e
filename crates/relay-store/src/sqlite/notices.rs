//! Adds notices to subscriptions.

use jiff::Timestamp;
use rusqlite::Connection;

use crate::{
    NewNotice, StoreError,
    rows::ColumnReader,
    rules::notice_row,
    sqlite::{
        attempts,
        statement::{execute, fetch_optional},
    },
};

/// Counts one more notice of an active subscription. Returns the number.
const COUNT_NOTICE: &str = "UPDATE subscriptions SET noticed = noticed + 1 \
    WHERE subscription_id = ?1 AND ended_at IS NULL RETURNING noticed";

const ADD_NOTICE: &str = "INSERT INTO events (event_id, source_id, kind, client_id, state, \
    updated_at, created_at, body) VALUES (?1, ?2, 'notice', ?3, 'pending', ?4, ?4, ?5)";

/// Adds notices of subscriptions that are still active, and queues each behind the earlier ones. Returns the number of
/// notices.
pub(super) fn notify(
    connection: &Connection,
    notices: &[NewNotice],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut added = 0;
    for new in notices {
        let id = new.subscription.id.to_bytes();
        let Some(counted) = fetch_optional(connection, COUNT_NOTICE, (id,))? else {
            continue;
        };
        let counted = ColumnReader::of("subscriptions", "subscription_id", &counted);
        let row = notice_row(new, counted.number("noticed")?, now)?;
        let at = now.as_millisecond();
        execute(
            connection,
            ADD_NOTICE,
            (row.event_id, id, row.client_id, at, row.body),
        )?;
        execute(connection, attempts::QUEUE_NEXT, (id, at))?;
        added += 1;
    }
    Ok(added)
}
