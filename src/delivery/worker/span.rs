//! The span of an attempt in the trace of its watch.

use relay_store::DueDelivery;
use tracing::{Instrument, Span, debug_span, field::Empty};

use crate::{delivery::AttemptOutcome, telemetry};

/// Runs an attempt in its own span, a child in the trace of the request that registered the watch.
///
/// The span has debug level because only traces use it. The log reports the attempt separately.
pub(super) async fn traced(
    due: &DueDelivery,
    attempt: impl Future<Output = AttemptOutcome>,
) -> AttemptOutcome {
    let span = debug_span!(
        parent: None,
        "delivery",
        otel.kind = "client",
        otel.status_code = Empty,
        delivery.id = %due.id,
        delivery.attempt = due.attempts.saturating_add(1),
        event.id = %due.event_id,
        watch.id = due.source.watch_id().map(display),
        job.id = due.source.job_id().map(display),
        subscription.id = due.source.subscription_id().map(display),
        callback.host = due.callback_url.host(),
        http.status = Empty,
        error = Empty,
    );
    telemetry::join_traces(&span, due.trace.into_iter());
    let outcome = attempt.instrument(span.clone()).await;
    tell(&span, &outcome);
    outcome
}

fn tell(span: &Span, outcome: &AttemptOutcome) {
    let AttemptOutcome::Answered(answer) = outcome else {
        return;
    };
    span.record("http.status", answer.attempt.status);
    if let Some(error) = answer.attempt.error {
        span.record("otel.status_code", "ERROR");
        span.record("error", error.as_str());
    }
}
