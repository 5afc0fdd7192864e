//! A job whose bank is in major outage, and what the bank's state means for its watches.

use basiq_client::normalise;
use jiff::Timestamp;
use relay_domain::{Bank, JobMemory, Outcome, Phase, Watch, clock::later};
use relay_store::{DueJob, Look, OutageChange};

use crate::tracker::{
    bank::BankState,
    look::{LookContext, LookInProgress, LookResult, after_spread, started_at},
};

/// Returns whether no call is necessary: the bank serves again, and every watch got the event of the outage.
pub(super) fn is_back_for_all(due: &DueJob) -> bool {
    due.bank_is_back && due.watches.iter().all(|watch| watch.progress.told_outage)
}

impl LookContext {
    /// Ends the wait for a bank that serves again.
    pub(super) fn end_outage(&self, due: DueJob) -> Look {
        let now = self.clock.now();
        let memory = due.memory.clone();
        let mut look = LookInProgress {
            due,
            began: now,
            now,
            memory,
        };
        let judge = |watch| self.judge_outage(&look, watch, &BankState::Serving, None);
        let outcomes = look.due.watches.iter().map(judge).collect();
        look.memory.phase = Phase::Running;
        let next = after_spread(now, self.config.poll_max_interval);
        self.conclude(look, LookResult::of_outcomes(outcomes, next))
    }

    /// Returns what the bank's state means for a watch that got the event of the outage. `code` is the error code of the
    /// job, if its document has one now.
    pub(super) fn judge_outage(
        &self,
        look: &LookInProgress,
        watch: &Watch,
        bank: &BankState,
        code: Option<String>,
    ) -> Outcome {
        let code = outage_code(&look.due.memory.phase).or(code);
        let step = failed_step(&look.memory);
        match bank {
            BankState::Serving => Outcome::Tell(Box::new(normalise::bank_is_back(code, step))),
            BankState::Out { .. } | BankState::Unknown
                if self.is_too_old(&look.memory, watch, look.now) =>
            {
                Outcome::Tell(Box::new(normalise::outage_outlived(code, step)))
            }
            BankState::Out { .. } | BankState::Unknown => Outcome::Running,
        }
    }

    /// Returns how this look changes the record of the bank's outage.
    pub(super) fn outage_change(&self, look: &LookInProgress, bank: &BankState) -> OutageChange {
        let Phase::Outage { bank: awaited, .. } = &look.memory.phase else {
            return OutageChange::None;
        };
        let waited = awaited_bank(&look.due) == Some(awaited);
        match bank {
            BankState::Out { bank, known } if !(*known && waited) => {
                let next = after_spread(look.now, self.config.outage_poll_interval);
                OutageChange::Began(bank.clone(), next)
            }
            BankState::Out { .. } | BankState::Serving | BankState::Unknown => {
                OutageChange::Unchanged
            }
        }
    }

    /// Returns whether the job has exceeded the maximum age for a watch.
    pub(super) fn is_too_old(&self, memory: &JobMemory, watch: &Watch, now: Timestamp) -> bool {
        later(started_at(memory, watch), self.config.job_max_age) <= now
    }
}

/// Returns the bank that the job waited for before this look.
fn awaited_bank(due: &DueJob) -> Option<&Bank> {
    match &due.memory.phase {
        Phase::Outage { bank, .. } if !due.bank_is_back => Some(bank),
        Phase::Outage { .. } | Phase::Running | Phase::RetryQueue { .. } => None,
    }
}

fn outage_code(phase: &Phase) -> Option<String> {
    match phase {
        Phase::Outage { error_code, .. } => Some(error_code.clone()),
        Phase::Running | Phase::RetryQueue { .. } => None,
    }
}

fn failed_step(memory: &JobMemory) -> Option<String> {
    memory
        .steps
        .iter()
        .find(|step| step.status == "failed")
        .map(|step| step.title.clone())
}
