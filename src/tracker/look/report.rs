//! The log lines and metrics of a look.

use basiq_client::normalise::{self, Finding};
use jiff::Timestamp;
use metrics::{counter, histogram};
use relay_domain::{EndDetection, JobKind, Outcome, WatchState, clock::between};
use relay_store::{DurationsFound, Look, WatchChange};
use tracing::{info, warn};

use crate::{
    telemetry::BoundedLabel,
    tracker::{
        look::{LookContext, LookInProgress},
        stages::{self, EndTimes},
    },
};

/// Australia has fewer banks than this.
static INSTITUTIONS: BoundedLabel = BoundedLabel::new(200);

/// Logs and counts an unknown error code, so that the code can be added to the catalogue.
pub(super) fn note_unknown_code(look: &LookInProgress, outcomes: &[Outcome]) {
    let coded = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Tell(verdict) => verdict.error_code.as_deref().map(|code| (verdict, code)),
        Outcome::Running | Outcome::Unknown => None,
    });
    let Some((verdict, code)) = coded else { return };
    if !normalise::is_known_code(code) {
        counter!("relay_unknown_error_codes_total").increment(1);
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
        let waited = between(settled_at, look.at);
        histogram!("relay_detection_seconds").record(waited.as_secs_f64());
    }
}

/// Counts a look that brought a document, and the job's end if this look is the first to see it. The job's bank is known
/// from the document, or from an earlier job of the same connection.
pub(super) fn measure_look(
    context: &LookContext,
    look: &LookInProgress,
    finding: &Finding,
    found: &DurationsFound,
) {
    let (tally, activity) = (&context.tally, &context.activity);
    let before = &look.due.memory;
    let kind = JobKind::of(look.memory.context.job_type.as_deref());
    tally.count_look(kind);
    counter!("relay_job_looks_total", "job_type" => kind.as_str()).increment(1);
    let has_ended = matches!(finding, Finding::Succeeded | Finding::Failed(_));
    if !has_ended || stages::had_ended(&before.steps) {
        return;
    }
    let end = EndTimes {
        seen_running_at: before.seen_at,
        ended_at: look.now,
        hinted_at: look.due.hinted_at,
        found_at: look.now,
    };
    let detection = end.detection();
    let noticed = match detection {
        EndDetection::Hint { .. } => "hint",
        EndDetection::Look { .. } => "look",
    };
    tally.count_end(kind, detection);
    counter!("relay_job_ends_total", "job_type" => kind.as_str(), "noticed_by" => noticed)
        .increment(1);
    let result = match finding {
        Finding::Failed(_) => "failed",
        _ => "success",
    };
    if let Some(bank) = &found.institution_id {
        let begun = look.memory.created.or(look.memory.first_look_at);
        let took = between(begun.unwrap_or(look.now), look.now);
        activity.count_job_end(bank, *finding == Finding::Succeeded, took);
    }
    if let Some(bank) = look.memory.context.institution_id.as_deref() {
        let bank = INSTITUTIONS.value(bank);
        counter!("relay_institution_job_ends_total", "institution" => bank, "result" => result)
            .increment(1);
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
