//! The log lines and metrics of a look.

use basiq_client::normalise;
use jiff::Timestamp;
use relay_domain::{Outcome, WatchState};
use relay_store::{Look, WatchChange};
use tracing::{info, warn};

use crate::tracker::{look::LookInProgress, schedule};

/// Logs and counts an unknown error code, so that the code can be added to the catalogue.
pub(super) fn note_unknown_code(look: &LookInProgress, outcomes: &[Outcome]) {
    let told = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Tell(verdict) => verdict.error_code.as_deref().map(|code| (verdict, code)),
        Outcome::Running => None,
    });
    let Some((verdict, code)) = told else { return };
    if !normalise::is_known_code(code) {
        metrics::counter!("relay_unknown_error_codes_total").increment(1);
        let step = verdict.failed_step.as_deref();
        warn!(job.id = %look.due.job_id, error.code = code, step.title = step, "unknown error code");
    }
}

/// Records how long a job had been settled at Basiq before a look noticed. `settled_at` is the time in the job
/// document.
pub(super) fn measure_detection(look: &Look, settled_at: Option<Timestamp>) {
    let settles = look
        .changes
        .iter()
        .any(|change| change.state == WatchState::Settled);
    if let (true, Some(settled_at)) = (settles, settled_at) {
        let waited = schedule::between(settled_at, look.at);
        metrics::histogram!("relay_detection_seconds").record(waited.as_secs_f64());
    }
}

pub(super) fn log_change(look: &LookInProgress, change: &WatchChange) {
    let context = &look.memory.context;
    let (user_id, connection_id) = (context.user_id.as_deref(), context.connection_id.as_deref());
    let event = change.event.as_ref();
    info!(
        watch.id = %change.watch_id,
        job.id = %look.due.job_id,
        user.id = user_id,
        connection.id = connection_id,
        watch.state = %change.state,
        event.id = event.map(|event| event.id.to_string()),
        event.status = event.map(|event| event.body.status.as_str()),
        event.action = event.map(|event| event.body.action.as_str()),
        error.code = event.and_then(|event| event.body.error_code.as_deref()),
        "the watch changed its state"
    );
}
