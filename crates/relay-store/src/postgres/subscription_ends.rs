//! How subscriptions end: by their clients, by a callback that is gone, or because the person is gone.

use jiff::Timestamp;
use relay_domain::{BasiqId, ClientId, SubscriptionId};

use crate::{
    StoreError,
    postgres::{PgSession, indexes::none, row::columns, watches},
    rows::{IdBytes, time},
};

/// Locks the list of a subscription's person, which is locked before the subscription.
pub(super) const LOCK_LIST: &str = "SELECT 1 FROM due_lists WHERE user_id = \
    (SELECT s.user_id FROM subscriptions s WHERE s.subscription_id = $1) FOR UPDATE";

/// Ends subscriptions. Clocks may differ, or be set back, and yet no end is before its beginning. `+ 0` keeps PostgreSQL
/// from searching all active subscriptions.
pub(super) const END: &str = "UPDATE subscriptions SET ended_at = greatest($2, created_at) \
    WHERE subscription_id = ANY($1) AND ended_at + 0 IS NULL RETURNING user_id, ended_at";

/// Ends the lists of people without an active subscription. The result of a list that is being read is dropped.
pub(super) const REST_LISTS: &str = concat!(
    "DELETE FROM due_lists l WHERE l.user_id = ANY($1) AND ",
    none!("subscriptions s WHERE s.user_id = l.user_id AND s.ended_at IS NULL")
);

pub(super) const OPEN_WATCHES: &str = "SELECT watch_id, job_id FROM watches \
    WHERE subscription_id = $1 AND settled_at IS NULL";

/// Locks those of the watches that are still the subscription's and open. A client may have made one its own.
pub(super) const HOLD_WATCHES: &str = "SELECT watch_id, job_id FROM watches \
    WHERE watch_id = ANY($1) AND subscription_id = $2 AND settled_at IS NULL ORDER BY watch_id FOR NO KEY UPDATE";

/// Lets other subscriptions of the client with the same callback take jobs of the subscription `$1`.
pub(super) const FORGET_JOBS: &str = "DELETE FROM seen_jobs WHERE job_id = ANY($2) \
    AND subscription_id = ANY(ARRAY(SELECT s.subscription_id FROM subscriptions ended CROSS JOIN LATERAL \
        (SELECT s.subscription_id FROM subscriptions s WHERE s.user_id = ended.user_id \
            AND s.client_id = ended.client_id AND s.callback_url = ended.callback_url \
            AND s.ended_at IS NULL OFFSET 0) s WHERE ended.subscription_id = $1))";

/// Makes the list of a person due, so that other subscriptions take the jobs of one that ended.
pub(super) const LIST_SOON: &str = "UPDATE due_lists SET next_list_at = least(next_list_at, $2) \
    WHERE user_id = (SELECT s.user_id FROM subscriptions s WHERE s.subscription_id = $1)";

pub(super) const ACTIVE_OF_CLIENT: &str =
    "SELECT subscription_id FROM subscriptions WHERE client_id = $1 AND coalesce(ended_at, 0) = 0";

/// Ends a subscription, unless it has ended. Cancels its open watches, and its notices that were not delivered: one that
/// ended with its person may have some.
pub(super) async fn end(
    connection: &mut PgSession<'_>,
    subscription: IdBytes,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(LOCK_LIST)
        .bind(subscription)
        .execute(&mut *connection)
        .await?;
    let open: Vec<(IdBytes, String)> = sqlx::query_as(OPEN_WATCHES)
        .bind(subscription)
        .fetch_all(&mut *connection)
        .await?;
    let (watches, jobs): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    watches::lock_jobs(connection, &jobs).await?;
    // a watch that was cancelled with its subscription has the same time
    let ended_at = close(connection, subscription, now).await?.unwrap_or(now);
    cancel_watches(connection, subscription, &watches, ended_at).await?;
    sqlx::query(watches::CANCEL_EVENTS)
        .bind([subscription].as_slice())
        .bind(now.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}

/// Cancels those of these watches that are still the subscription's, whose jobs the caller has locked. Other
/// subscriptions take their jobs.
async fn cancel_watches(
    connection: &mut PgSession<'_>,
    subscription: IdBytes,
    watches: &[IdBytes],
    now: Timestamp,
) -> Result<(), StoreError> {
    let held: Vec<(IdBytes, String)> = sqlx::query_as(HOLD_WATCHES)
        .bind(watches)
        .bind(subscription)
        .fetch_all(&mut *connection)
        .await?;
    if held.is_empty() {
        return Ok(());
    }
    let (watches, jobs): (Vec<_>, Vec<_>) = held.into_iter().unzip();
    watches::cancel(connection, &watches, &jobs, now).await?;
    sqlx::query(FORGET_JOBS)
        .bind(subscription)
        .bind(&jobs)
        .execute(&mut *connection)
        .await?;
    sqlx::query(LIST_SOON)
        .bind(subscription)
        .bind(now.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends all active subscriptions of a client, whose row the caller has locked.
pub(super) async fn end_all(
    connection: &mut PgSession<'_>,
    client: ClientId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let active: Vec<IdBytes> = sqlx::query_scalar(ACTIVE_OF_CLIENT)
        .bind(client.0)
        .fetch_all(&mut *connection)
        .await?;
    for subscription in active {
        end(connection, subscription, now).await?;
    }
    Ok(())
}

/// Marks a subscription as ended, if it is active. Returns when it ended.
async fn close(
    connection: &mut PgSession<'_>,
    subscription: IdBytes,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let ended: Option<(String, i64)> = sqlx::query_as(END)
        .bind([subscription].as_slice())
        .bind(now.as_millisecond())
        .fetch_optional(&mut *connection)
        .await?;
    let (user, ended_at) = ended.unzip();
    sqlx::query(REST_LISTS)
        .bind(user.as_slice())
        .execute(connection)
        .await?;
    Ok(time(ended_at))
}

/// Ends subscriptions to a person who is gone, and leaves their watches and notices as they are. The caller has locked
/// the person's list.
pub(super) async fn close_each(
    connection: &mut PgSession<'_>,
    user_id: &BasiqId,
    subscriptions: &[SubscriptionId],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(END)
        .bind(columns(subscriptions, |id| id.to_bytes()))
        .bind(now.as_millisecond())
        .execute(&mut *connection)
        .await?;
    sqlx::query(REST_LISTS)
        .bind([user_id.as_str()].as_slice())
        .execute(connection)
        .await?;
    Ok(())
}
