//! A look that brought no document. It ends no watch, unless Basiq reports for long enough that the job does
//! not exist or belongs to another account.

use std::time::Duration;

use basiq_client::{BasiqError, normalise};
use jiff::Timestamp;
use relay_domain::{JobMemory, Outcome, Verdict, Watch, clock::later};
use relay_store::{DueJob, Look};
use tracing::{debug, warn};

use crate::tracker::{
    bank::BANK_TIME_LIMIT,
    look::{LookContext, LookInProgress, LookResult, after_spread},
    schedule::{back_off, next_look_at_absent},
};

/// How long to wait after a look that could not be made because the relay lacked resources.
const NO_RESOURCES_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait after a refused key. The client waits as long before it tries the key again.
const KEY_REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The longest wait after failed looks while a challenge is open.
const CHALLENGE_BACK_OFF: Duration = Duration::from_secs(5);

impl LookContext {
    /// Handles a look that brought no document. The look is retried. It ends a watch only if Basiq reports for
    /// long enough that the job does not exist or is not ours.
    pub(super) async fn without_document(
        &self,
        due: DueJob,
        began: Timestamp,
        error: &BasiqError,
    ) -> (Look, &'static str) {
        let now = self.clock.now();
        let mut memory = due.memory.clone();
        memory.look_without_hints_at = None;
        let look = LookInProgress {
            due,
            began,
            now,
            memory,
        };
        match error {
            BasiqError::NotFound { .. } => (self.absent(look, Absence::Missing).await, "not-found"),
            BasiqError::Forbidden { .. } => {
                (self.absent(look, Absence::Forbidden).await, "forbidden")
            }
            BasiqError::KeyRefused => {
                let next = after_spread(now, KEY_REFUSED_PAUSE);
                (self.conclude_unknown(look, next), "key-refused")
            }
            BasiqError::Resting { remaining } => {
                // No call was made, so no error is counted.
                let next = later(now, *remaining);
                (self.conclude_unknown(look, next), "resting")
            }
            BasiqError::NoResources(_) => {
                // No call was made here either.
                let next = later(now, NO_RESOURCES_PAUSE);
                (self.conclude_unknown(look, next), "no-resources")
            }
            BasiqError::Throttled { retry_after, .. } => {
                (self.failed(look, *retry_after), "throttled")
            }
            BasiqError::Status {
                status: 400 | 404..=428,
                ..
            } => {
                warn!(job.id = %look.due.job_id, %error, "a look was refused, will try again");
                (self.refused(look), "refused")
            }
            BasiqError::TimedOut | BasiqError::Unreachable(_) => {
                // The client logs this once for all looks.
                debug!(job.id = %look.due.job_id, %error, "a look brought no answer, will try again");
                (self.failed(look, None), "error")
            }
            BasiqError::Status { .. } | BasiqError::Unreadable(_) => {
                warn!(job.id = %look.due.job_id, %error, "a look failed, will try again");
                (self.failed(look, None), "error")
            }
        }
    }

    fn failed(&self, mut look: LookInProgress, requested_wait: Option<Duration>) -> Look {
        look.memory.errors_in_a_row = look.memory.errors_in_a_row.saturating_add(1);
        let errors = look.memory.errors_in_a_row;
        let mut next = back_off(errors, requested_wait, look.now, rand::random());
        if look.memory.challenges.open.is_some() && requested_wait.is_none() {
            // The person has a minute or two, so a longer wait would lose the challenge.
            next = next.min(later(look.now, CHALLENGE_BACK_OFF));
        }
        self.conclude_unknown(look, next)
    }

    /// Handles a look that Basiq refused for another reason. It is retried until the job is too old.
    fn refused(&self, look: LookInProgress) -> Look {
        let too_old = |watch: &Watch| self.is_too_old(&look.memory, watch, look.now);
        if !look.due.watches.iter().any(too_old) {
            return self.failed(look, None);
        }
        let outcomes = look.due.watches.iter().map(|watch| {
            if too_old(watch) {
                Outcome::Tell(Box::new(normalise::watch_expired()))
            } else {
                Outcome::Unknown
            }
        });
        let outcomes = outcomes.collect();
        let next = back_off(u32::MAX, None, look.now, rand::random());
        self.conclude(look, LookResult::of_outcomes(outcomes, next))
    }

    async fn absent(&self, mut look: LookInProgress, absence: Absence) -> Look {
        let now = look.now;
        let (since, verdict) = look.note_absence(absence);
        let grace = self.config.job_not_found_grace;
        // A watch that has just joined gets its own grace period.
        let is_over = |watch: &Watch| later(since.max(watch.created_at), grace) <= now;
        let may_end = look.due.watches.iter().any(is_over)
            && self.other_calls_are_answered(absence, since).await;
        let outcomes = look.due.watches.iter().map(|watch| {
            if may_end && is_over(watch) {
                Outcome::Tell(Box::new(verdict.clone()))
            } else if self.is_too_old(&look.memory, watch, now) {
                Outcome::Tell(Box::new(normalise::watch_expired()))
            } else {
                Outcome::Unknown
            }
        });
        let outcomes = outcomes.collect();
        let next_look_at = next_look_at_absent(since, now, grace);
        let is_urgent = is_urgent(&look.memory);
        let reading = LookResult {
            is_urgent,
            ..LookResult::of_outcomes(outcomes, next_look_at)
        };
        self.conclude(look, reading)
    }

    /// Returns whether Basiq responds differently to other calls. If Basiq reports every resource as unknown,
    /// or every one as forbidden, that says nothing about this job.
    async fn other_calls_are_answered(&self, absence: Absence, since: Timestamp) -> bool {
        if self.client.answered_since(since) {
            return true;
        }
        let asked = tokio::time::timeout(BANK_TIME_LIMIT, self.client.ask_anything());
        match asked.await.unwrap_or(Err(BasiqError::TimedOut)) {
            Ok(()) => true,
            Err(BasiqError::NotFound { .. }) => matches!(absence, Absence::Forbidden),
            // A refusal of this request is also a response from Basiq itself.
            Err(BasiqError::Forbidden { .. } | BasiqError::Status { status: 400, .. }) => {
                matches!(absence, Absence::Missing)
            }
            Err(
                BasiqError::Status { .. }
                | BasiqError::Throttled { .. }
                | BasiqError::KeyRefused
                | BasiqError::Resting { .. }
                | BasiqError::NoResources(_)
                | BasiqError::TimedOut
                | BasiqError::Unreachable(_)
                | BasiqError::Unreadable(_),
            ) => false,
        }
    }

    /// Schedules the next look. The watches stay as they are, because a failed look says nothing about the job.
    fn conclude_unknown(&self, look: LookInProgress, next_look_at: Timestamp) -> Look {
        let outcomes = look.due.watches.iter().map(|_| Outcome::Unknown).collect();
        let is_urgent = is_urgent(&look.memory);
        let result = LookResult {
            is_urgent,
            ..LookResult::of_outcomes(outcomes, next_look_at)
        };
        self.conclude(look, result)
    }
}

/// Returns whether a job keeps its priority after a failed look. A job that was never seen or that waits for
/// the person does.
fn is_urgent(memory: &JobMemory) -> bool {
    memory.first_look_at.is_none() || memory.challenges.open.is_some()
}

impl LookInProgress {
    /// Records since when the job is absent. Returns this time and the verdict that follows after the grace
    /// period.
    fn note_absence(&mut self, absence: Absence) -> (Timestamp, Verdict) {
        let memory = &mut self.memory;
        memory.errors_in_a_row = 0;
        // A time in the future means that the clock was set back.
        let now = self.now;
        let known = |since: Option<Timestamp>| since.filter(|since| *since <= now).unwrap_or(now);
        match absence {
            Absence::Missing => {
                memory.forbidden_since = None;
                let since = known(memory.missing_since);
                memory.missing_since = Some(since);
                (since, normalise::job_not_found())
            }
            Absence::Forbidden => {
                memory.missing_since = None;
                let since = known(memory.forbidden_since);
                memory.forbidden_since = Some(since);
                (since, normalise::job_not_accessible())
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Absence {
    Missing,
    Forbidden,
}
