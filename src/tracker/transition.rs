//! Derives from an outcome the new state of one watch and the event that reports it. Pure.

use basiq_client::normalise::Catalogue;
use jiff::Timestamp;
use relay_domain::{
    Event, EventBody, EventChallenge, EventContext, EventId, JobMemory, Outcome, Status, ToldSoFar,
    Verdict, Watch, WatchState,
};
use relay_store::WatchChange;
use url::Url;

use crate::tracker::schedule::challenge_expiry;

/// The data that the events of all watches of a job share.
#[derive(Debug, Clone, Copy)]
pub struct ReportContext<'a> {
    /// The memory of the job, including this look.
    pub memory: &'a JobMemory,
    /// The `url`s of the job's successful steps.
    pub resources: &'a [String],
    /// The texts for the person.
    pub catalogue: &'a Catalogue,
    /// The base URL of Basiq, for relative links.
    pub basiq_url: &'a Url,
    /// The time of the look.
    pub now: Timestamp,
}

/// Returns how an outcome changes a watch, or `None` if the watch stays as it is.
#[must_use]
pub fn advance(
    watch: &Watch,
    outcome: &Outcome,
    context: &ReportContext<'_>,
) -> Option<WatchChange> {
    match outcome {
        Outcome::Running => match watch.state {
            WatchState::AwaitingUser => Some(change_state(watch, WatchState::Watching)),
            // A queued update and a bank in major outage keep their state until they settle.
            WatchState::Watching
            | WatchState::Delayed
            | WatchState::Settled
            | WatchState::Cancelled => None,
        },
        Outcome::Unknown => None,
        Outcome::Tell(verdict) => report(watch, verdict, context),
    }
}

fn change_state(watch: &Watch, state: WatchState) -> WatchChange {
    WatchChange {
        watch_id: watch.id,
        state,
        progress: watch.progress,
        event: None,
    }
}

fn report(watch: &Watch, verdict: &Verdict, context: &ReportContext<'_>) -> Option<WatchChange> {
    let (state, progress) = state_after(watch, verdict, context.memory);
    let is_news = verdict.is_final || progress != watch.progress;
    if !is_news {
        return (state != watch.state).then(|| change_state(watch, state));
    }
    let mut progress = ToldSoFar {
        transitions: progress.transitions + 1,
        ..progress
    };
    let mut event = None;
    if watch.request.options.events.includes(verdict.status) {
        progress.sequence += 1;
        event = Some(event_of(watch, verdict, progress, context));
    }
    Some(WatchChange {
        watch_id: watch.id,
        state,
        progress,
        event,
    })
}

/// Returns the state that a verdict leads to, and the watch's progress after the verdict. The progress is
/// unchanged if the watch already got this event.
fn state_after(watch: &Watch, verdict: &Verdict, memory: &JobMemory) -> (WatchState, ToldSoFar) {
    let progress = watch.progress;
    if verdict.is_final {
        return (WatchState::Settled, progress);
    }
    match verdict.status {
        Status::ActionRequired => (
            WatchState::AwaitingUser,
            ToldSoFar {
                told_challenge: memory.challenges.count,
                ..progress
            },
        ),
        Status::Delayed => (
            WatchState::Delayed,
            ToldSoFar {
                told_delay: true,
                ..progress
            },
        ),
        // Only a bank in major outage leads to a failure that is not final. The relay waits for the bank.
        Status::Success | Status::Failed => (
            WatchState::Delayed,
            ToldSoFar {
                told_outage: true,
                ..progress
            },
        ),
    }
}

fn event_of(
    watch: &Watch,
    verdict: &Verdict,
    progress: ToldSoFar,
    context: &ReportContext<'_>,
) -> Event {
    let challenge = verdict
        .challenge
        .as_ref()
        .map(|_| ())
        .and(open_challenge(watch, context));
    let options = &watch.request.options;
    let body = EventBody {
        event_type: format!("job.{}", verdict.status),
        timestamp: context.now,
        sequence: progress.sequence,
        is_final: verdict.is_final,
        watch_id: Some(watch.id),
        job_id: Some(watch.request.job_id.to_string()),
        status: verdict.status,
        failed_step: verdict.failed_step.clone(),
        error_code: verdict.error_code.clone(),
        user_message: context
            .catalogue
            .user_message(&verdict.message, &options.locale)
            .to_owned(),
        action: verdict.action,
        retry_at: verdict.retry_at,
        detail: verdict.detail.clone(),
        challenge: challenge.clone(),
        context: EventContext::of_job(&context.memory.context, watch.subscription_id),
        resources: context.resources.to_vec(),
        metadata: options.metadata.clone(),
    };
    Event {
        id: EventId::derive(watch.id, progress.transitions),
        body,
        deadline: challenge.map(|challenge| challenge.expires_at),
    }
}

fn open_challenge(watch: &Watch, context: &ReportContext<'_>) -> Option<EventChallenge> {
    let open = context.memory.challenges.open.as_ref()?;
    let own = format!("jobs/{}/mfa", watch.request.job_id);
    let link = open.challenge.respond_to.as_deref().unwrap_or(&own);
    let respond_to = resolve(context.basiq_url, link).or_else(|| resolve(context.basiq_url, &own));
    Some(EventChallenge {
        method: open.challenge.method.clone(),
        description: open.challenge.description.clone(),
        inputs: open.challenge.inputs.clone(),
        expires_at: challenge_expiry(open.first_seen_at, open.challenge.expiry_ms),
        respond_to: respond_to?.to_string(),
    })
}

/// Resolves a link. An absolute link is kept if its scheme is HTTP or HTTPS. A relative one is resolved below
/// the base URL of Basiq.
fn resolve(base: &Url, link: &str) -> Option<Url> {
    if let Ok(absolute) = Url::parse(link) {
        return matches!(absolute.scheme(), "https" | "http").then_some(absolute);
    }
    let mut base = base.clone();
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    base.join(link.trim_start_matches('/')).ok()
}
