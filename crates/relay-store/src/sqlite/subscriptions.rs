//! Subscriptions and their notices.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{AuditAct, BasiqId, ClientId, Requester, Subscription, SubscriptionId};
use rusqlite::{Connection, params};
use sqlx::{QueryBuilder, Sqlite};

use crate::{
    AuditEntry, NewSubscription, StoreError, SubscriptionDetails, SubscriptionQuery,
    SubscriptionResult, SubscriptionStore,
    audit::AuditedAct,
    rows::{self, IdBytes, int},
    rules::SubscriptionRow,
    sqlite::{
        SqliteStore,
        file_health::FileHealth,
        salvage::{readable, skip_damage},
        statement::{OwnedRow, execute, fetch_all, fetch_optional, scalar},
        subscription_ends::end,
    },
};

/// The columns of a subscription, from `subscriptions s`.
macro_rules! columns {
    () => {
        "s.subscription_id, s.client_id, s.user_id, s.connection_id, s.callback_url, s.events, \
         s.notices, s.locale, s.metadata, s.created_at, s.ended_at"
    };
}

/// Selects subscriptions with what is known of their lists.
macro_rules! details {
    ($which:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", iif(l.listed_at >= s.created_at, l.listed_at, NULL) AS listed_at, l.next_list_at, \
             (SELECT count(*) FROM watches w WHERE w.subscription_id = s.subscription_id \
                 AND w.settled_at IS NULL) AS open_watches \
             FROM subscriptions s LEFT JOIN due_lists l ON l.user_id = s.user_id AND s.ended_at IS NULL ",
            $which
        )
    };
}

pub(super) const ONE: &str =
    details!("WHERE s.subscription_id = ?1 AND s.client_id = ifnull(?2, s.client_id)");

const MANY: &str = details!("WHERE 1");

pub(super) const ACTIVE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM subscriptions s CROSS JOIN clients c ON c.client_id = s.client_id \
     WHERE s.user_id = ?1 AND s.ended_at IS NULL AND c.revoked_at IS NULL"
);

/// Finds the rows of the active subscriptions to a person by the index alone.
pub(super) const ACTIVE_ROWS: &str = "SELECT rowid FROM subscriptions WHERE user_id = ?1 AND ended_at IS NULL \
    ORDER BY client_id, callback_url";

/// Finds these rows from the other end of the index.
pub(super) const LATEST_ACTIVE_ROWS: &str = "SELECT rowid FROM subscriptions WHERE user_id = ?1 \
    AND ended_at IS NULL ORDER BY client_id DESC, callback_url DESC";

pub(super) const ACTIVE_ROW: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM subscriptions s CROSS JOIN clients c ON c.client_id = s.client_id \
     WHERE s.rowid = ?1 AND c.revoked_at IS NULL"
);

pub(super) const SAME: &str = "SELECT subscription_id FROM subscriptions WHERE user_id = ?1 \
    AND client_id = ?2 AND callback_url = ?3 AND ifnull(connection_id, '') = ifnull(?4, '') AND ended_at IS NULL";

const IS_REVOKED: &str = "SELECT revoked_at IS NOT NULL FROM clients WHERE client_id = ?1";

/// Counts a client's active subscriptions, up to a limit.
pub(super) const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM subscriptions \
    WHERE client_id = ?1 AND ifnull(ended_at, 0) = 0 LIMIT ?2)";

const ADD: &str = "INSERT INTO subscriptions (subscription_id, client_id, user_id, connection_id, \
    callback_url, callback_host, events, notices, locale, metadata, created_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// A list that is being read began before the subscription, so `hinted_at` makes another one follow it.
const MAKE_DUE: &str = "INSERT INTO due_lists (user_id, next_list_at, hinted_at) VALUES (?1, ?2, ?2) \
    ON CONFLICT (user_id) DO UPDATE SET next_list_at = min(next_list_at, ?2), \
    hinted_at = max(ifnull(hinted_at, 0), ?2)";

#[async_trait]
impl SubscriptionStore for SqliteStore {
    async fn subscribe(&self, new: NewSubscription) -> Result<SubscriptionResult, StoreError> {
        self.write(move |connection| subscribe(connection, &new))
            .await
    }

    async fn find_subscription(
        &self,
        owner: Option<ClientId>,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionDetails>, StoreError> {
        let values = (id.to_bytes(), owner.map(|client| client.0));
        self.0
            .reader
            .read(move |connection| {
                let row = fetch_optional(connection, ONE, values)?;
                row.map(|row| rows::subscription_details(&row)).transpose()
            })
            .await
    }

    async fn list_subscriptions(
        &self,
        query: &SubscriptionQuery,
    ) -> Result<Vec<SubscriptionDetails>, StoreError> {
        let mut view = self.read().await?;
        let rows = list(query).build().fetch_all(&mut *view).await?;
        rows.iter()
            .map(|row| rows::subscription_details(row))
            .collect()
    }

    async fn subscriptions_to(&self, user_id: &BasiqId) -> Result<Vec<Subscription>, StoreError> {
        let (user, health) = (user_id.clone(), self.0.health.clone());
        let reader = &self.0.reader;
        let found = reader.read(move |connection| active(connection, user.as_str(), &health));
        match found.await {
            Err(failure) if failure.is_damage() => {
                let (user, health) = (user_id.clone(), self.0.health.clone());
                reader
                    .read(move |connection| undamaged(connection, user.as_str(), &health))
                    .await
            }
            found => found,
        }
    }

    async fn end_subscription(
        &self,
        by: &Requester,
        id: SubscriptionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let values = (id.to_bytes(), by.owner().map(|client| client.0));
        let entry = AuditEntry::of_requester(by, AuditAct::SubscriptionEnded, id.to_string(), now);
        let act = AuditedAct::new(entry, |found| *found);
        self.write_act(act, move |connection| {
            if fetch_optional(connection, ONE, values)?.is_none() {
                return Ok(false);
            }
            end(connection, id.to_bytes(), now)?;
            Ok(true)
        })
        .await
    }
}

/// Returns the statement that lists subscriptions.
pub(super) fn list(query: &SubscriptionQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(MANY);
    if let Some(owner) = query.owner {
        statement.push(" AND s.client_id = ").push_bind(owner.0);
    }
    if let Some(user_id) = &query.user_id {
        statement
            .push(" AND s.user_id = ")
            .push_bind(user_id.to_string());
    }
    if let Some(before) = query.before {
        statement
            .push(" AND s.subscription_id < ")
            .push_bind(before.to_bytes().to_vec());
    }
    statement
        .push(" ORDER BY s.subscription_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Returns the active subscriptions to a person. Leaves out those that cannot be read.
pub(super) fn active(
    connection: &Connection,
    user_id: &str,
    health: &FileHealth,
) -> Result<Vec<Subscription>, StoreError> {
    let rows = fetch_all(connection, ACTIVE, (user_id,))?;
    Ok(rows::readable_subscriptions(&rows, |failure| {
        health.note(failure);
    }))
}

/// Returns the active subscriptions to a person in a damaged file. Leaves out those on damaged pages.
fn undamaged(
    connection: &Connection,
    user_id: &str,
    health: &FileHealth,
) -> Result<Vec<Subscription>, StoreError> {
    let statements = [ACTIVE_ROWS, LATEST_ACTIVE_ROWS];
    let found: Vec<i64> = readable(connection, statements, (user_id,))?;
    let mut rows = Vec::with_capacity(found.len());
    for number in found {
        let row = fetch_optional(connection, ACTIVE_ROW, (number,)).map_err(StoreError::from);
        rows.extend(skip_damage(row)?);
    }
    Ok(rows::readable_subscriptions(&rows, |failure| {
        health.note(failure);
    }))
}

fn subscribe(
    connection: &Connection,
    new: &NewSubscription,
) -> Result<SubscriptionResult, StoreError> {
    let row = SubscriptionRow::from(new);
    let revoked: Option<bool> = scalar(connection, IS_REVOKED, (row.client_id,))?;
    if revoked.unwrap_or(true) {
        return Ok(SubscriptionResult::Revoked);
    }
    let key = (
        row.user_id,
        row.client_id,
        row.callback_url,
        row.connection_id,
    );
    if let Some(id) = scalar::<IdBytes>(connection, SAME, key)? {
        let existing = details(connection, id)?;
        return Ok(SubscriptionResult::Existing(Box::new(existing)));
    }
    let limit = i64::try_from(new.max_active).unwrap_or(i64::MAX);
    let active: Option<i64> = scalar(connection, COUNT, (row.client_id, limit))?;
    if active.unwrap_or(0) >= limit {
        return Ok(SubscriptionResult::AtCap);
    }
    execute(
        connection,
        ADD,
        params![
            row.subscription_id,
            row.client_id,
            row.user_id,
            row.connection_id,
            row.callback_url,
            row.callback_host,
            row.events,
            row.notices,
            row.locale,
            row.metadata,
            row.created_at
        ],
    )?;
    execute(connection, MAKE_DUE, (row.user_id, row.created_at))?;
    let created = details(connection, row.subscription_id)?;
    Ok(SubscriptionResult::Created(Box::new(created)))
}

fn details(connection: &Connection, id: IdBytes) -> Result<SubscriptionDetails, StoreError> {
    let row = fetch_optional(connection, ONE, (id, None::<i64>))?;
    let row: OwnedRow = row.ok_or_else(|| StoreError::Inconsistent {
        table: "subscriptions",
        column: "subscription_id",
        row: SubscriptionId::from(id).to_string(),
    })?;
    rows::subscription_details(&row)
}
