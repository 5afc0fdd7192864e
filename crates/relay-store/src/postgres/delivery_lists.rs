//! Lists of deliveries, by their state.

use relay_domain::DeliveryState;
use sqlx::{Postgres, QueryBuilder};

use crate::{
    DeliveryEntry, DeliveryQuery, StoreError,
    postgres::PgSession,
    rows::{self, int},
    rules,
};

/// Joins the source of the callback of `events e`: the watch, the subscription or the message of Basiq's.
macro_rules! callback_joins {
    () => {
        " LEFT JOIN watches w ON w.watch_id = e.source_id \
         LEFT JOIN subscriptions s ON e.kind = 'notice' AND s.subscription_id = e.source_id \
         LEFT JOIN messages m ON e.kind = 'message' AND m.event_id = e.event_id "
    };
}

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
    connection: &mut PgSession<'_>,
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

/// Returns the statements that list deliveries.
pub(super) fn list_statements(query: &DeliveryQuery) -> Vec<QueryBuilder<Postgres>> {
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
fn list_pending(query: &DeliveryQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(listed!(
        "coalesce(w.callback_url, s.callback_url, m.callback_url)",
        "o.next_attempt_at",
        concat!(
            "outbox o JOIN events e ON e.event_id = o.event_id",
            callback_joins!(),
            "WHERE TRUE"
        )
    ));
    if let Some(owner) = query.owner {
        statement.push(" AND o.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        statement
            .push(" AND o.source_id < (SELECT a.source_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes())
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
    "NULL::bigint",
    "(SELECT watch_id AS source_id, client_id, callback_url FROM watches) w \
     CROSS JOIN LATERAL (SELECT * FROM events e \
         WHERE e.source_id = w.source_id AND e.state = 'delivered' OFFSET 0) e WHERE TRUE"
);

/// Selects the delivered notices of subscriptions.
const DELIVERED_OF_SUBSCRIPTIONS: &str = listed!(
    "w.callback_url",
    "NULL::bigint",
    "(SELECT subscription_id AS source_id, client_id, callback_url FROM subscriptions) w \
     CROSS JOIN LATERAL (SELECT * FROM events e \
         WHERE e.source_id = w.source_id AND e.state = 'delivered' OFFSET 0) e WHERE TRUE"
);

/// Lists delivered events, by source.
fn list_delivered(query: &DeliveryQuery, select: &'static str) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(select);
    if let Some(owner) = query.owner {
        statement.push(" AND w.client_id = ").push_bind(owner.0);
    }
    if let Some((_, id)) = query.after {
        statement
            .push(" AND w.source_id <= (SELECT a.source_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes())
            .push(") AND (w.source_id, e.event_id) < (SELECT a.source_id, a.event_id FROM events a WHERE a.event_id = ")
            .push_bind(id.to_bytes())
            .push(")");
    }
    statement
        .push(" ORDER BY w.source_id DESC, e.event_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Lists events that ended undelivered, the latest end first: the latest of each client, and the latest of these.
fn list_undelivered(query: &DeliveryQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(listed!(
        "coalesce(w.callback_url, s.callback_url, m.callback_url)",
        "NULL::bigint",
        "(SELECT u.updated_at, u.event_id \
         FROM (SELECT client_id FROM clients UNION ALL SELECT 0) c CROSS JOIN LATERAL \
         (SELECT u.updated_at, u.event_id FROM undelivered_events u \
             WHERE u.client_id = c.client_id AND u.state = "
    ));
    statement.push_bind(query.state.as_str());
    if let Some((updated_at, id)) = query.after {
        statement
            .push(" AND (u.updated_at, u.event_id) < (")
            .push_bind(updated_at.as_millisecond())
            .push(", ")
            .push_bind(id.to_bytes())
            .push(")");
    }
    let newest = " ORDER BY u.updated_at DESC, u.event_id DESC LIMIT ";
    statement
        .push(newest)
        .push_bind(int(query.limit))
        .push(") u");
    if let Some(owner) = query.owner {
        statement.push(" WHERE c.client_id = ").push_bind(owner.0);
    }
    statement
        .push(newest)
        .push_bind(int(query.limit))
        .push(concat!(
            ") u JOIN events e ON e.event_id = u.event_id",
            callback_joins!(),
            "ORDER BY u.updated_at DESC, u.event_id DESC"
        ));
    statement
}
