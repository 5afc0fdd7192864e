//! Writes attempts to the log and the metrics.

use metrics::{counter, histogram};
use relay_domain::{ActivityRecorder, AttemptActivity};
use relay_store::{AfterAttempt, DueDelivery};
use tracing::{field::display, info, warn};

use crate::{
    delivery::{CallbackResponse, worker::UnrecordedResult},
    telemetry::BoundedLabel,
};

/// An operator adds clients by hand, so there are few.
static CLIENTS: BoundedLabel = BoundedLabel::new(100);

pub(super) fn log_attempt(due: &DueDelivery, answer: &CallbackResponse, next: AfterAttempt) {
    let attempt = &answer.attempt;
    let (id, event) = (due.id, due.event_id);
    let watch = due.source.watch_id().map(display);
    let job = due.source.job_id().map(display);
    let subscription = due.source.subscription_id().map(display);
    let host = due.callback_url.host();
    let duration = attempt.duration;
    match attempt.error {
        None => info!(
            delivery.id = %id, event.id = %event, watch.id = watch, job.id = job,
            subscription.id = subscription,
            delivery.attempt = attempt.number, callback.host = host,
            http.status = attempt.status, ?duration, "the callback accepted an event"
        ),
        Some(error) => warn!(
            delivery.id = %id, event.id = %event, watch.id = watch, job.id = job,
            subscription.id = subscription,
            delivery.attempt = attempt.number, callback.host = host,
            http.status = attempt.status, %error, ?duration, next = %described(next),
            "the callback did not accept an event"
        ),
    }
}

/// Counts a recorded result in the metrics, and for the console.
pub(super) fn count(result: &UnrecordedResult, activity: &ActivityRecorder) {
    let next = result.record.next;
    let label = match (next, &result.record.attempt) {
        (AfterAttempt::RetryAt(_), None) => "postponed",
        _ => result_label(next),
    };
    counter!("relay_deliveries_total", "result" => label).increment(1);
    if let Some(client) = &result.client {
        let client = CLIENTS.value(client);
        counter!("relay_client_deliveries_total", "client" => client, "result" => label)
            .increment(1);
    }
    count_activity(result, activity);
    match next {
        AfterAttempt::Delivered => {
            if let Some(since_event) = result.since_event {
                histogram!("relay_settle_to_delivery_seconds").record(since_event);
            }
        }
        AfterAttempt::Dead => counter!("relay_deliveries_dead_total").increment(1),
        AfterAttempt::RetryAt(_) | AfterAttempt::Expired | AfterAttempt::Gone => {}
    }
}

fn count_activity(result: &UnrecordedResult, activity: &ActivityRecorder) {
    let next = result.record.next;
    let accepted = next == AfterAttempt::Delivered;
    if let Some(attempt) = &result.record.attempt {
        let counts = accepted && !result.is_redelivery;
        activity.count_attempt(&AttemptActivity {
            host: &result.host,
            client: result.client.as_deref(),
            accepted,
            took: attempt.duration,
            since_event: result.since_event.filter(|_| counts),
        });
    }
    if matches!(next, AfterAttempt::Dead | AfterAttempt::Expired) {
        activity.count_given_up(1);
    }
}

/// Counts deliveries that were given up without another attempt.
pub(super) fn count_dead(deliveries: usize, activity: &ActivityRecorder) {
    let count = u64::try_from(deliveries).unwrap_or(u64::MAX);
    activity.count_given_up(count);
    if count > 0 {
        counter!("relay_deliveries_total", "result" => "dead").increment(count);
        counter!("relay_deliveries_dead_total").increment(count);
    }
}

/// Returns the metric's label for what follows an attempt.
fn result_label(next: AfterAttempt) -> &'static str {
    match next {
        AfterAttempt::Delivered => "delivered",
        AfterAttempt::RetryAt(_) => "retried",
        AfterAttempt::Dead => "dead",
        AfterAttempt::Expired => "expired",
        AfterAttempt::Gone => "gone",
    }
}

fn described(next: AfterAttempt) -> String {
    match next {
        AfterAttempt::RetryAt(at) => format!("again at {at}"),
        AfterAttempt::Delivered
        | AfterAttempt::Dead
        | AfterAttempt::Expired
        | AfterAttempt::Gone => result_label(next).to_owned(),
    }
}
