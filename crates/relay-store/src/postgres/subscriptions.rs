//! Subscriptions and their notices.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{AuditAct, BasiqId, ClientId, Requester, Subscription, SubscriptionId};
use sqlx::{Postgres, QueryBuilder};

use crate::{
    AuditEntry, NewSubscription, StoreError, SubscriptionDetails, SubscriptionQuery,
    SubscriptionResult, SubscriptionStore,
    audit::AuditedAct,
    postgres::{
        PgSession, PgStore,
        registration::{LOCK_CLIENTS, NEAR_CAP, SHARE_CLIENTS},
        row::plain,
        subscription_ends::end,
    },
    rows::{self, IdBytes, int},
    rules::SubscriptionRow,
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
            ", CASE WHEN l.listed_at >= s.created_at THEN l.listed_at END AS listed_at, l.next_list_at, \
             (SELECT count(*) FROM watches w WHERE w.subscription_id = s.subscription_id \
                 AND w.settled_at IS NULL) AS open_watches \
             FROM subscriptions s LEFT JOIN LATERAL (SELECT l.listed_at, l.next_list_at FROM due_lists l \
                 WHERE l.user_id = s.user_id AND s.ended_at IS NULL OFFSET 0) l ON TRUE ",
            $which
        )
    };
}

pub(super) const ONE: &str =
    details!("WHERE s.subscription_id = $1 AND ($2::bigint IS NULL OR s.client_id = $2)");

const MANY: &str = details!("WHERE TRUE");

pub(super) const ACTIVE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM subscriptions s WHERE s.user_id = $1 AND s.ended_at IS NULL \
     AND (SELECT c.revoked_at FROM clients c WHERE c.client_id = s.client_id) IS NULL"
);

pub(super) const SAME: &str = "SELECT subscription_id FROM subscriptions WHERE user_id = $1 \
    AND client_id = $2 AND md5(callback_url) = md5($3) \
    AND coalesce(connection_id, '') = coalesce($4::text, '') AND ended_at IS NULL";

pub(super) const IS_REVOKED: &str =
    "SELECT revoked_at IS NOT NULL FROM clients WHERE client_id = $1";

/// Counts a client's active subscriptions, up to a limit.
pub(super) const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM subscriptions \
    WHERE client_id = $1 AND coalesce(ended_at, 0) = 0 LIMIT $2) s";

/// Adds a subscription, unless another relay adds the same one now.
pub(super) const ADD: &str = "INSERT INTO subscriptions (subscription_id, client_id, user_id, connection_id, \
    callback_url, callback_host, events, notices, locale, metadata, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";

/// A list that is being read began before the subscription, so `hinted_at` makes another one follow it.
pub(super) const MAKE_DUE: &str = "INSERT INTO due_lists AS l (user_id, next_list_at, hinted_at) \
    VALUES ($1, $2, $2) ON CONFLICT (user_id) DO UPDATE SET \
    next_list_at = least(l.next_list_at, $2), hinted_at = greatest(l.hinted_at, $2)";

#[async_trait]
impl SubscriptionStore for PgStore {
    async fn subscribe(&self, new: NewSubscription) -> Result<SubscriptionResult, StoreError> {
        for lock in [SHARE_CLIENTS, LOCK_CLIENTS] {
            let result = self
                .write((&new, lock), |connection, (new, lock)| {
                    Box::pin(subscribe(connection, new, lock))
                })
                .await?;
            if let Some(result) = result {
                if matches!(result, SubscriptionResult::Created(_)) {
                    self.notify_of_lists();
                }
                return Ok(result);
            }
        }
        Err(StoreError::refused("a subscription was not answered"))
    }

    async fn find_subscription(
        &self,
        owner: Option<ClientId>,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionDetails>, StoreError> {
        let mut view = self.read().await?;
        find(&mut view.session(), owner, id.to_bytes()).await
    }

    async fn list_subscriptions(
        &self,
        query: &SubscriptionQuery,
    ) -> Result<Vec<SubscriptionDetails>, StoreError> {
        let mut view = self.read().await?;
        let rows = list(query).build().fetch_all(&mut view.session()).await?;
        rows.iter()
            .map(|row| rows::subscription_details(row))
            .collect()
    }

    async fn subscriptions_to(&self, user_id: &BasiqId) -> Result<Vec<Subscription>, StoreError> {
        let mut view = self.read().await?;
        active(&mut view.session(), user_id.as_str()).await
    }

    async fn end_subscription(
        &self,
        by: &Requester,
        id: SubscriptionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = AuditEntry::of_requester(by, AuditAct::SubscriptionEnded, id.to_string(), now);
        self.write_act(
            AuditedAct::new(entry, |found| *found),
            (by.owner(), id.to_bytes(), now),
            |connection, (owner, id, now)| {
                Box::pin(async move {
                    if find(connection, *owner, *id).await?.is_none() {
                        return Ok(false);
                    }
                    end(connection, *id, *now).await?;
                    Ok(true)
                })
            },
        )
        .await
    }
}

async fn find(
    connection: &mut PgSession<'_>,
    owner: Option<ClientId>,
    id: IdBytes,
) -> Result<Option<SubscriptionDetails>, StoreError> {
    let row = sqlx::query(ONE)
        .bind(id)
        .bind(owner.map(|client| client.0))
        .fetch_optional(connection)
        .await?;
    row.map(|row| rows::subscription_details(&row)).transpose()
}

/// Returns the statement that lists subscriptions.
pub(super) fn list(query: &SubscriptionQuery) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new(MANY);
    if let Some(owner) = query.owner {
        // a person has few subscriptions
        let owned = match query.user_id {
            Some(_) => " AND s.client_id + 0 = ",
            None => " AND s.client_id = ",
        };
        statement.push(owned).push_bind(owner.0);
    }
    if let Some(user_id) = &query.user_id {
        statement
            .push(" AND s.user_id = ")
            .push_bind(user_id.to_string());
    }
    if let Some(before) = query.before {
        statement
            .push(" AND s.subscription_id < ")
            .push_bind(before.to_bytes());
    }
    statement
        .push(" ORDER BY s.subscription_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// Returns the active subscriptions to a person. Leaves out those that cannot be read.
pub(super) async fn active(
    connection: &mut PgSession<'_>,
    user_id: &str,
) -> Result<Vec<Subscription>, StoreError> {
    let rows = sqlx::query(ACTIVE).bind(user_id).fetch_all(connection);
    let rows = rows.await?;
    Ok(rows::readable_subscriptions(&rows, |_| {}))
}

/// Adds a subscription. Returns `None` if the client is so close to its cap that its row must be locked exclusively.
async fn subscribe(
    connection: &mut PgSession<'_>,
    new: &NewSubscription,
    lock: &'static str,
) -> Result<Option<SubscriptionResult>, StoreError> {
    let row = SubscriptionRow::from(new);
    sqlx::query(lock)
        .bind([row.client_id].as_slice())
        .execute(&mut *connection)
        .await?;
    let revoked: Option<bool> = sqlx::query_scalar(IS_REVOKED)
        .bind(row.client_id)
        .fetch_optional(&mut *connection)
        .await?;
    if revoked.unwrap_or(true) {
        return Ok(Some(SubscriptionResult::Revoked));
    }
    if let Some(existing) = same(connection, &row).await? {
        return Ok(Some(SubscriptionResult::Existing(Box::new(existing))));
    }
    let limit = i64::try_from(new.max_active).unwrap_or(i64::MAX);
    let active: i64 = sqlx::query_scalar(COUNT)
        .bind(row.client_id)
        .bind(limit)
        .fetch_one(&mut *connection)
        .await?;
    if active >= limit {
        return Ok(Some(SubscriptionResult::AtCap));
    }
    let near = limit.saturating_sub_unsigned(NEAR_CAP);
    if lock == SHARE_CLIENTS && active >= near {
        return Ok(None);
    }
    add(connection, &row).await.map(Some)
}

async fn add(
    connection: &mut PgSession<'_>,
    row: &SubscriptionRow<'_>,
) -> Result<SubscriptionResult, StoreError> {
    sqlx::query(MAKE_DUE)
        .bind(row.user_id)
        .bind(row.created_at)
        .execute(&mut *connection)
        .await?;
    let added = sqlx::query(ADD)
        .bind(row.subscription_id)
        .bind(row.client_id)
        .bind(row.user_id)
        .bind(row.connection_id)
        .bind(row.callback_url)
        .bind(row.callback_host)
        .bind(row.events)
        .bind(row.notices)
        .bind(row.locale)
        .bind(plain(row.metadata))
        .bind(row.created_at)
        .execute(&mut *connection)
        .await?;
    let details = if added.rows_affected() == 0 {
        same(connection, row).await?
    } else {
        find(connection, None, row.subscription_id).await?
    };
    let details = details.ok_or_else(|| StoreError::Inconsistent {
        table: "subscriptions",
        column: "subscription_id",
        row: SubscriptionId::from(row.subscription_id).to_string(),
    })?;
    Ok(if added.rows_affected() == 0 {
        SubscriptionResult::Existing(Box::new(details))
    } else {
        SubscriptionResult::Created(Box::new(details))
    })
}

/// Returns the client's active subscription with the same person, connection and callback.
async fn same(
    connection: &mut PgSession<'_>,
    row: &SubscriptionRow<'_>,
) -> Result<Option<SubscriptionDetails>, StoreError> {
    let id: Option<IdBytes> = sqlx::query_scalar(SAME)
        .bind(row.user_id)
        .bind(row.client_id)
        .bind(row.callback_url)
        .bind(row.connection_id)
        .fetch_optional(&mut *connection)
        .await?;
    match id {
        Some(id) => find(connection, None, id).await,
        None => Ok(None),
    }
}
