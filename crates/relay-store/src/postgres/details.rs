//! Watches with their events, read in two statements however many they are.

use relay_domain::{ClientId, WatchId};
use sqlx::postgres::PgRow;

use crate::{
    StoreError, WatchDetails,
    postgres::{PgSession, row::list},
    rows,
};

/// The columns of a watch, from `watches w`.
macro_rules! watch_columns {
    () => {
        "w.watch_id, w.client_id, w.job_id, w.callback_url, w.operation, w.events, w.until_step, \
         w.locale, w.metadata, w.state, w.progress, w.created_at, w.updated_at, w.settled_at, \
         w.traceparent, w.subscription_id"
    };
}
pub(super) use watch_columns;

/// When the job of a watch is looked at next.
macro_rules! next_look_at {
    () => {
        "(SELECT d.next_look_at FROM due_jobs d WHERE d.job_id = w.job_id) AS next_look_at"
    };
}
pub(super) use next_look_at;

/// Selects the columns that [`with_events`] reads, from `watches w`.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            watch_columns!(),
            ", j.memory, ",
            $crate::postgres::details::next_look_at!(),
            " FROM watches w JOIN jobs j ON j.job_id = w.job_id ",
            $rest
        )
    };
}

pub(super) const SELECT: &str = select!("");

pub(super) const ONE: &str =
    select!("WHERE w.watch_id = $1 AND ($2::bigint IS NULL OR w.client_id = $2)");

pub(super) const MANY: &str = select!("WHERE w.watch_id = ANY($1)");

pub(super) const EVENTS: &str = "SELECT e.source_id, e.event_id, e.body, e.state, e.attempts, \
    (SELECT o.next_attempt_at FROM outbox o WHERE o.source_id = e.source_id \
        AND o.event_id = e.event_id) AS next_attempt_at \
    FROM unnest($1::bytea[]) i (source_id) JOIN events e ON e.source_id = i.source_id \
    ORDER BY e.event_id";

/// Returns one watch with its details, if it exists and belongs to the given owner.
pub(super) async fn find(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    id: WatchId,
) -> Result<Option<WatchDetails>, StoreError> {
    let row = sqlx::query(ONE)
        .bind(id.to_bytes())
        .bind(owner.map(|client| client.0))
        .fetch_optional(&mut *connection)
        .await?;
    let details = with_events(connection, row.as_slice()).await?;
    Ok(details.into_iter().next())
}

/// Returns those of these watches that exist, with their details.
pub(super) async fn find_all(
    connection: &mut PgSession<'_>,
    ids: &[WatchId],
) -> Result<Vec<WatchDetails>, StoreError> {
    let rows = sqlx::query(MANY)
        .bind(list(ids))
        .fetch_all(&mut *connection)
        .await?;
    with_events(connection, &rows).await
}

/// Reads the details of the watches in rows of [`SELECT`].
pub(super) async fn with_events(
    connection: &mut PgSession<'_>,
    rows: &[PgRow],
) -> Result<Vec<WatchDetails>, StoreError> {
    let details = rows.iter().map(|row| rows::without_events(row));
    let mut details = details.collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<_> = details.iter().map(|one| one.watch.id.to_bytes()).collect();
    let rows = sqlx::query(EVENTS).bind(ids).fetch_all(connection).await?;
    let mut events = rows::events(&rows)?;
    for one in &mut details {
        one.events = events.remove(&one.watch.id).unwrap_or_default();
    }
    Ok(details)
}
