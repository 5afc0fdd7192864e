//! Builds the rows of subscriptions, notices and forwarded messages, and decides which jobs become watches.

use jiff::Timestamp;
use relay_domain::{BasiqId, Event, EventId, Subscription, WatchId, WatchOptions, WatchRequest};

use crate::{
    ForwardedMessage, FoundJob, MessageSummary, NewNotice, NewSubscription, NewWatch, StoreError,
    error::unwritable,
    rows::{AnyRow, ColumnReader, IdBytes},
};

/// A subscription to register, as the columns of `subscriptions`.
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

/// An event that tells of a notice, with its body.
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

/// What the store knows of a job that a list shows, for one subscription.
#[derive(Default)]
pub(crate) struct JobHistory {
    /// Whether an earlier list of the subscription took the job.
    pub(crate) is_seen: bool,
    /// Whether the client watches or watched the job for the same callback. A watch that was cancelled with another
    /// subscription does not count.
    pub(crate) is_watched: bool,
}

impl JobHistory {
    /// Reads the history from a row.
    pub(crate) fn read(row: &dyn AnyRow) -> Result<Self, StoreError> {
        let cells = ColumnReader::of("watches", "job_id", row);
        Ok(Self {
            is_seen: cells.get("is_seen")?,
            is_watched: cells.get("is_watched")?,
        })
    }

    /// Returns whether the subscription needs a watch of the job.
    pub(crate) fn needs_watch(&self) -> bool {
        !self.is_watched && !self.is_seen
    }
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

#[cfg(test)]
mod tests {
    use relay_domain::{
        CallbackRules, CallbackUrl, ClientId, EventFilter, Locale, Metadata, NoticeFilter,
        SubscriptionId, SubscriptionRequest,
    };

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    /// Makes a subscription to a person, half a second after a full second.
    fn subscription(connection_id: Option<&str>) -> Subscription {
        let url = "https://app.example/hooks/bank";
        let request = SubscriptionRequest {
            user_id: "u-1".parse().unwrap(),
            connection_id: connection_id.map(|id| id.parse().unwrap()),
            callback_url: CallbackUrl::parse(url, &CallbackRules::default()).unwrap(),
            events: EventFilter::ALL,
            notices: NoticeFilter::ALL,
            locale: Locale::parse("fr").unwrap(),
            metadata: Metadata::default(),
        };
        Subscription::begun(SubscriptionId::new(at(500)), ClientId(7), request, at(500))
    }

    fn job(id: &str, connection_id: Option<&str>, ended_at: Option<Timestamp>) -> FoundJob {
        FoundJob {
            job_id: id.parse().unwrap(),
            connection_id: connection_id.map(str::to_owned),
            ended_at,
        }
    }

    fn found<'l>(subscriptions: &'l [Subscription], jobs: &'l [FoundJob]) -> Vec<&'l str> {
        let found = jobs_of_subscriptions(subscriptions, jobs);
        found
            .iter()
            .map(|found| found.job.job_id.as_str())
            .collect()
    }

    #[test]
    fn a_job_that_ended_before_the_subscription_concerns_it_not() {
        let jobs = [
            job("running", None, None),
            job("second-before", None, Some(at(-1))),
            job("same-second", None, Some(at(0))),
            job("after", None, Some(at(900))),
        ];
        let expected = ["running", "same-second", "after"];
        assert_eq!(found(&[subscription(None)], &jobs), expected);
    }

    #[test]
    fn a_subscription_to_a_connection_gets_only_its_jobs() {
        let jobs = [
            job("its", Some("C-1"), None),
            job("anothers", Some("c-2"), None),
            job("unknown", None, None),
        ];
        assert_eq!(found(&[subscription(Some("c-1"))], &jobs), ["its"]);
    }

    #[test]
    fn each_subscription_gets_the_job() {
        let both = [subscription(None), subscription(Some("c-1"))];
        assert_eq!(found(&both, &[job("its", Some("c-1"), None)]), ["its"; 2]);
    }

    #[test]
    fn a_found_job_is_watched_as_its_subscription_asks() {
        let subscription = subscription(None);
        let job = job("its", None, None);
        let found = JobOfSubscription {
            subscription: &subscription,
            job: &job,
        };
        let watch = watch_of(&found, 10, at(900));
        assert_eq!(watch.subscription_id, Some(subscription.id));
        assert_eq!((watch.client_id, watch.max_open), (ClientId(7), 10));
        assert_eq!(watch.request.job_id, job.job_id);
        let (asked, request) = (&subscription.request, &watch.request);
        assert_eq!(request.callback_url, asked.callback_url);
        assert_eq!(request.options.locale, asked.locale);
        assert_eq!(request.options.events, asked.events);
    }
}
