//! Builds the rows of subscriptions, notices and forwarded messages, and decides which jobs become watches.

use jiff::Timestamp;
use relay_domain::{BasiqId, Event, EventId, Subscription, WatchId, WatchOptions, WatchRequest};

use crate::{
    ForwardedMessage, FoundJob, MessageSummary, NewNotice, NewSubscription, NewWatch, StoreError,
    error::unwritable, rows::IdBytes,
};

/// The row of a new subscription.
pub(crate) struct SubscriptionRow<'n> {
    pub(crate) subscription_id: IdBytes,
    pub(crate) client_id: i64,
    pub(crate) user_id: &'n str,
    pub(crate) connection_id: Option<&'n str>,
    pub(crate) callback_url: &'n str,
    pub(crate) callback_host: &'n str,
    pub(crate) events: i64,
    pub(crate) notices: i64,
    pub(crate) locale: &'n str,
    pub(crate) metadata: &'n str,
    pub(crate) created_at: i64,
}

impl<'n> From<&'n NewSubscription> for SubscriptionRow<'n> {
    fn from(new: &'n NewSubscription) -> Self {
        let request = &new.request;
        Self {
            subscription_id: new.id.to_bytes(),
            client_id: new.client_id.0,
            user_id: request.user_id.as_str(),
            connection_id: request.connection_id.as_ref().map(BasiqId::as_str),
            callback_url: request.callback_url.as_str(),
            callback_host: request.callback_url.host(),
            events: i64::from(request.events.bits()),
            notices: i64::from(request.notices.bits()),
            locale: request.locale.as_str(),
            metadata: request.metadata.as_str(),
            created_at: new.now.as_millisecond(),
        }
    }
}

/// The row of a notice's event.
pub(crate) struct NoticeRow {
    pub(crate) event_id: IdBytes,
    pub(crate) client_id: i64,
    pub(crate) body: String,
}

/// Builds the row of a notice that is the `sequence`th of its subscription.
pub(crate) fn notice_row(
    new: &NewNotice,
    sequence: u32,
    now: Timestamp,
) -> Result<NoticeRow, StoreError> {
    let subscription = &new.subscription;
    let event = Event {
        id: EventId::of_notice(subscription.id, sequence),
        body: new
            .notice
            .body_for(subscription, sequence, &new.user_message, now),
        deadline: None,
    };
    Ok(NoticeRow {
        event_id: event.id.to_bytes(),
        client_id: subscription.client_id.0,
        body: event.to_json().map_err(unwritable)?,
    })
}

/// The row of a message of Basiq's that is passed on.
pub(crate) struct MessageRow<'m> {
    pub(crate) event_id: IdBytes,
    pub(crate) callback_url: &'m str,
    pub(crate) host: &'m str,
    pub(crate) headers: String,
    pub(crate) body: &'m [u8],
    /// What lists show of the message, as JSON.
    pub(crate) summary: String,
}

/// Builds the row of a message of Basiq's.
pub(crate) fn message_row(
    message: &ForwardedMessage,
    now: Timestamp,
) -> Result<MessageRow<'_>, StoreError> {
    let summary = MessageSummary {
        message_id: message.headers.id.clone(),
        event_type: message.event_type.clone(),
    };
    Ok(MessageRow {
        event_id: EventId::new(now).to_bytes(),
        callback_url: message.callback_url.as_str(),
        host: message.callback_url.host(),
        headers: serde_json::to_string(&message.headers).map_err(unwritable)?,
        body: &message.body,
        summary: serde_json::to_string(&summary).map_err(unwritable)?,
    })
}

/// A job that a subscription may not have seen yet.
pub(crate) struct JobOfSubscription<'l> {
    pub(crate) subscription: &'l Subscription,
    pub(crate) job: &'l FoundJob,
}

/// Returns the jobs of a list that concern these subscriptions. Leaves out jobs of another connection than the one
/// that a subscription names, and jobs that ended before the subscription.
pub(crate) fn jobs_of_subscriptions<'l>(
    subscriptions: &'l [Subscription],
    jobs: &'l [FoundJob],
) -> Vec<JobOfSubscription<'l>> {
    let pairs = subscriptions.iter().flat_map(|subscription| {
        let concern = jobs.iter().filter(|job| concerns(subscription, job));
        concern.map(move |job| JobOfSubscription { subscription, job })
    });
    pairs.collect()
}

fn concerns(subscription: &Subscription, job: &FoundJob) -> bool {
    // Basiq writes whole seconds, so a job that ended within the subscription's first second counts
    let ended_before = job
        .ended_at
        .is_some_and(|ended_at| ended_at.as_second() < subscription.created_at.as_second());
    subscription.covers(job.connection_id.as_deref()) && !ended_before
}

/// Builds the watch of a job that a subscription found.
pub(crate) fn watch_of(found: &JobOfSubscription<'_>, max_open: u64, now: Timestamp) -> NewWatch {
    let (subscription, request) = (found.subscription, &found.subscription.request);
    NewWatch {
        id: WatchId::new(now),
        client_id: subscription.client_id,
        request: WatchRequest {
            job_id: found.job.job_id.clone(),
            callback_url: request.callback_url.clone(),
            options: WatchOptions {
                events: request.events,
                locale: request.locale.clone(),
                metadata: request.metadata.clone(),
                ..WatchOptions::default()
            },
        },
        max_open,
        now,
        trace: None,
        subscription_id: Some(subscription.id),
    }
}
