//! How long jobs of the same kind take. The store knows this. Basiq is also asked, once a day for each bank and
//! job type.

use std::time::Duration;

use basiq_client::normalise::Finding;
use jiff::Timestamp;
use relay_domain::{BasiqAverages, ErrorChain, JobContext, JobSnapshot, Outcome, clock::between};
use relay_store::{DurationSample, DurationsFound};
use tracing::{debug, warn};

use crate::tracker::{
    bank::{BANK_TIME_LIMIT, USUAL_METHOD},
    look::{LookContext, LookInProgress},
    stages,
};

/// How long Basiq's averages are reused. They cover seven days, so they may be a day old.
pub(super) const AVERAGES_LAST: Duration = Duration::from_hours(24);

impl LookContext {
    /// Returns what the store knows about jobs of the same kind, or only the bank if no more is needed. Returns nothing
    /// if the store fails.
    pub(super) async fn durations_after(
        &self,
        outcomes: &[Outcome],
        context: &JobContext,
    ) -> DurationsFound {
        if !needs_durations(outcomes, context) {
            return DurationsFound {
                institution_id: context.institution_id.clone(),
                ..DurationsFound::default()
            };
        }
        self.store
            .durations_of(context)
            .await
            .unwrap_or_else(|error| {
                warn!(error = %ErrorChain(&error), "the known durations of jobs cannot be read");
                DurationsFound::default()
            })
    }

    /// Fetches Basiq's averages for the bank, unless a relay already did so within a day. If Basiq fails
    /// or reports none, the averages are empty.
    pub(super) async fn ask_averages(
        &self,
        found: &DurationsFound,
        context: &JobContext,
        now: Timestamp,
    ) -> Option<BasiqAverages> {
        let bank = found.institution_id.as_deref()?;
        let known = found
            .averages_at
            .is_some_and(|at| between(at, now) < AVERAGES_LAST);
        let job_type = context.job_type.as_deref().unwrap_or_default();
        if known || !self.averages_asked_for.claim_fetch(bank, job_type, now) {
            return None;
        }
        let call = self.client.connector(bank, USUAL_METHOD);
        let answer = tokio::time::timeout(BANK_TIME_LIMIT, call).await;
        let Ok(Ok(connector)) = answer else {
            debug!(
                institution.id = bank,
                "Basiq does not say how long the bank's jobs take"
            );
            return Some(BasiqAverages::default());
        };
        Some(
            connector
                .averages
                .map_or_else(BasiqAverages::default, |averages| BasiqAverages {
                    verify_credentials: averages.verify_credentials,
                    retrieve_accounts: averages.retrieve_accounts,
                    total: averages.total,
                }),
        )
    }
}

/// Returns whether the store must be asked for durations. After the last look at a job only its bank matters, which the
/// job document may name.
fn needs_durations(outcomes: &[Outcome], context: &JobContext) -> bool {
    context.institution_id.is_none() || !outcomes.iter().all(Outcome::is_final)
}

/// Returns what the look teaches: how a settled job ended, and Basiq's averages if they were fetched.
/// Failed jobs count too, because their end must also be noticed in time.
pub(super) fn sample(
    look: &LookInProgress,
    snapshot: &JobSnapshot,
    finding: &Finding,
    found: &DurationsFound,
    averages: Option<BasiqAverages>,
) -> Option<DurationSample> {
    let has_settled = matches!(finding, Finding::Succeeded | Finding::Failed(_));
    let before = &look.due.memory;
    // A job that had ended before teaches nothing, whatever hints came since.
    let has_news = has_settled && !stages::had_ended(&before.steps);
    let end = has_news
        .then(|| stages::end(before, snapshot, look.due.hinted_at, look.now))
        .flatten();
    if end.is_none() && averages.is_none() {
        return None;
    }
    let context = &look.memory.context;
    Some(DurationSample {
        institution_id: context
            .institution_id
            .clone()
            .or_else(|| found.institution_id.clone()),
        connection_id: context.connection_id.clone().filter(|_| has_settled),
        job_type: context.job_type.clone().unwrap_or_default(),
        end,
        averages,
    })
}

#[cfg(test)]
mod tests {
    use relay_domain::{Action, Status, Verdict};

    use super::*;

    fn told(is_final: bool) -> Outcome {
        Outcome::Tell(Box::new(Verdict {
            status: Status::Delayed,
            action: Action::Wait,
            is_final,
            failed_step: None,
            error_code: None,
            message: String::new(),
            retry_at: None,
            detail: None,
            challenge: None,
        }))
    }

    #[test]
    fn durations_are_needed_for_a_next_look_or_to_find_the_bank() {
        let of_bank = |institution_id| JobContext {
            institution_id,
            ..JobContext::default()
        };
        let (known, unknown) = (of_bank(Some("AU00000".to_owned())), of_bank(None));
        assert!(!needs_durations(&[told(true), told(true)], &known));
        assert!(needs_durations(&[told(true), told(false)], &known));
        assert!(needs_durations(&[told(true), Outcome::Running], &known));
        assert!(needs_durations(&[told(true)], &unknown));
    }
}
