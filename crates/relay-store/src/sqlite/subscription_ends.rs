//! How subscriptions end: by their clients, by a callback that is gone, or because the person is gone.

use jiff::Timestamp;
use relay_domain::{ClientId, SubscriptionId, WatchId};
use rusqlite::Connection;

use crate::{
    StoreError,
    rows::{IdBytes, time},
    sqlite::{
        statement::{execute, scalar, scalars},
        watches,
    },
};

/// Ends a subscription. Clocks may differ, or be set back, and yet no end is before its beginning.
pub(super) const END: &str = "UPDATE subscriptions SET ended_at = max(?2, created_at) \
    WHERE subscription_id = ?1 AND ended_at IS NULL RETURNING ended_at";

/// Ends the lists of a person without an active subscription. The result of a list that is being read is dropped.
pub(super) const REST_LIST: &str = "DELETE FROM due_lists WHERE user_id = ?1 AND NOT EXISTS \
    (SELECT 1 FROM subscriptions s WHERE s.user_id = due_lists.user_id AND s.ended_at IS NULL)";

const USER: &str = "SELECT user_id FROM subscriptions WHERE subscription_id = ?1";

pub(super) const OPEN_WATCHES: &str =
    "SELECT watch_id FROM watches WHERE subscription_id = ?1 AND settled_at IS NULL";

/// Lets other subscriptions of the client with the same callback take the job of a watch `?1` of the subscription `?2`.
pub(super) const FORGET_JOB: &str = "DELETE FROM seen_jobs \
    WHERE job_id = (SELECT j.job_id FROM watches w CROSS JOIN jobs j ON j.job_no = w.job_no WHERE w.watch_id = ?1) \
    AND subscription_id IN (SELECT s.subscription_id FROM subscriptions ended CROSS JOIN subscriptions s \
        ON s.user_id = ended.user_id AND s.client_id = ended.client_id AND s.callback_url = ended.callback_url \
        AND s.ended_at IS NULL WHERE ended.subscription_id = ?2)";

/// Makes the list of a person due, so that other subscriptions take the jobs of one that ended.
pub(super) const LIST_SOON: &str =
    "UPDATE due_lists SET next_list_at = min(next_list_at, ?2) WHERE user_id = ?1";

const UNQUEUE: &str = "DELETE FROM outbox WHERE source_id = ?1";

pub(super) const ACTIVE_OF_CLIENT: &str =
    "SELECT subscription_id FROM subscriptions WHERE client_id = ?1 AND ifnull(ended_at, 0) = 0";

/// Ends a subscription, unless it has ended. Cancels its open watches, and its notices that were not delivered: one that
/// ended with its person may have some.
pub(super) fn end(
    connection: &Connection,
    subscription: IdBytes,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ended_at = close(connection, subscription, now)?.unwrap_or(now);
    let open: Vec<IdBytes> = scalars(connection, OPEN_WATCHES, (subscription,))?;
    for watch in &open {
        // a watch that was cancelled with its subscription has the same time
        watches::cancel(connection, WatchId::from(*watch), ended_at)?;
        execute(connection, FORGET_JOB, (watch, subscription))?;
    }
    if !open.is_empty() {
        let user: Option<String> = scalar(connection, USER, (subscription,))?;
        execute(connection, LIST_SOON, (user, now.as_millisecond()))?;
    }
    execute(
        connection,
        watches::CANCEL_EVENTS,
        (subscription, now.as_millisecond()),
    )?;
    execute(connection, UNQUEUE, (subscription,))?;
    Ok(())
}

/// Ends all active subscriptions of a client.
pub(super) fn end_all(
    connection: &Connection,
    client: ClientId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let active: Vec<IdBytes> = scalars(connection, ACTIVE_OF_CLIENT, (client.0,))?;
    active
        .into_iter()
        .try_for_each(|subscription| end(connection, subscription, now))
}

/// Marks a subscription as ended, if it is active. Returns when it ended.
fn close(
    connection: &Connection,
    subscription: IdBytes,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let ended_at = scalar(connection, END, (subscription, now.as_millisecond()))?;
    if ended_at.is_some() {
        let user: Option<String> = scalar(connection, USER, (subscription,))?;
        execute(connection, REST_LIST, (user,))?;
    }
    Ok(time(ended_at))
}

/// Ends subscriptions to a person who is gone, and leaves their watches and notices as they are.
pub(super) fn close_each(
    connection: &Connection,
    subscriptions: &[SubscriptionId],
    now: Timestamp,
) -> Result<(), StoreError> {
    for subscription in subscriptions {
        close(connection, subscription.to_bytes(), now)?;
    }
    Ok(())
}
