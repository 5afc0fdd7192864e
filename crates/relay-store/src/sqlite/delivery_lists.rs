//! Lists of deliveries, by their state.

use relay_domain::DeliveryState;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::{
    DeliveryEntry, DeliveryQuery, StoreError,
    rows::{self, int},
    rules,
    sqlite::deliveries::callback_joins,
};

/// Selects the columns that a list shows of a delivery, from `events e`. The parts are the URL of the callback, the
/// time of the next attempt, and the tables.
macro_rules! listed {
    ($callback_url:literal, $next_attempt_at:literal, $from:expr) => {
        concat!(
            "SELECT e.event_id, e.kind, e.client_id, e.state, e.updated_at, e.attempts, e.body, ",
            $callback_url,
            " AS callback_url, ",
            $next_attempt_at,
            " AS next_attempt_at FROM ",
            $from
        )
    };
}

/// Lists deliveries.
pub(super) async fn list(
    connection: &mut SqliteConnection,
    query: &DeliveryQuery,
) -> Result<Vec<DeliveryEntry>, StoreError> {
    let mut entries = Vec::new();
    for mut statement in list_statements(query) {
        let rows = statement.build().fetch_all(&mut *connection).await?;
        for row in &rows {
            entries.push(rows::entry(row)?);
        }
    }
    Ok(rules::merged(entries, query))
}

/// Returns the statements that list deliveries. SQLite uses a partial index only for a statement that repeats the
/// index's condition.
pub(super) fn list_statements(query: &DeliveryQuery) -> Vec<QueryBuilder<Sqlite>> {
    match query.state {
        DeliveryState::Pending => vec![list_pending(query)],
        DeliveryState::Delivered => vec![
            list_delivered(query, DELIVERED_OF_WATCHES),
            list_delivered(query, DELIVERED_OF_SUBSCRIPTIONS),
        ],
        DeliveryState::Dead
        | DeliveryState::Expired
        | DeliveryState::Superseded
        | DeliveryState::Cancelled => vec![list_undelivered(query)],
    }
}

/// Lists what waits in the outbox, by source.
fn list_pending(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(listed!(
        "coalesce(w.callback_url, s.callback_url, m.callback_url)",
        "o.next_attempt_at",
        concat!(
            "outbox o CROSS JOIN events e ON e.event_id = o.event_id",
            callback_joins!(),
            "WHERE 1"
        )
    ));
    if let Some(owner) = query.owner {
        statement.push(" AND o.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        statement
            .push(" AND o.source_id < (SELECT a.source_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes().to_vec())
            .push(")");
    }
    statement
        .push(" ORDER BY o.source_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Selects the delivered events of watches. They are found among all events of the watches, of which most are
/// delivered.
const DELIVERED_OF_WATCHES: &str = listed!(
    "w.callback_url",
    "NULL",
    "(SELECT watch_id AS source_id, client_id, callback_url FROM watches) w \
     CROSS JOIN events e ON e.source_id = w.source_id WHERE e.state = 'delivered'"
);

/// Selects the delivered notices of subscriptions.
const DELIVERED_OF_SUBSCRIPTIONS: &str = listed!(
    "w.callback_url",
    "NULL",
    "(SELECT subscription_id AS source_id, client_id, callback_url FROM subscriptions) w \
     CROSS JOIN events e ON e.source_id = w.source_id WHERE e.state = 'delivered'"
);

/// Lists delivered events, by source.
fn list_delivered(query: &DeliveryQuery, select: &'static str) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(select);
    if let Some(owner) = query.owner {
        statement.push(" AND w.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        let id = id.to_bytes().to_vec();
        statement
            .push(" AND w.source_id <= (SELECT a.source_id FROM events a WHERE a.event_id = ")
            .push_bind(id.clone())
            .push(") AND (w.source_id < (SELECT a.source_id FROM events a WHERE a.event_id = ")
            .push_bind(id.clone())
            .push(") OR e.event_id < ")
            .push_bind(id)
            .push(")");
    }
    statement
        .push(" ORDER BY w.source_id DESC, e.event_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Lists events that ended undelivered, the latest end first.
fn list_undelivered(query: &DeliveryQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(listed!(
        "coalesce(w.callback_url, s.callback_url, m.callback_url)",
        "NULL",
        concat!("events e", callback_joins!(), "WHERE e.state = '")
    ));
    statement.push(query.state.as_str()).push("'");
    if let Some(owner) = query.owner {
        statement.push(" AND e.client_id = ").push_bind(owner.0);
    }
    if let Some((updated_at, id)) = query.after {
        statement
            .push(" AND (e.updated_at, e.event_id) < (")
            .push_bind(updated_at.as_millisecond())
            .push(", ")
            .push_bind(id.to_bytes().to_vec())
            .push(")");
    }
    statement
        .push(" ORDER BY e.updated_at DESC, e.event_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}
