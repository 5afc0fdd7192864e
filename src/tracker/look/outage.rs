//! A look at the bank instead of the job, while the bank is down for everybody.

use jiff::Timestamp;
use tracing::warn;

use crate::{
    domain::{JobMemory, Outcome, Phase, Watch},
    normalise,
    store::{DueJob, Look},
    tracker::{
        bank::{Bank, BankState, is_out},
        look::{Parts, Progressing, Reading, after_spread, started_at},
        schedule,
    },
};

/// The bank to look at instead of the job: it is out, and every watch was told so.
pub(super) fn outage_to_wait_out(due: &DueJob) -> Option<Bank> {
    let Phase::Outage {
        institution_id,
        method,
        ..
    } = &due.memory.phase
    else {
        return None;
    };
    due.watches
        .iter()
        .all(|watch| watch.progress.told_outage)
        .then(|| Bank {
            institution_id: institution_id.clone(),
            method: method.clone(),
        })
}

impl Parts {
    /// Looks at the connector of a bank that is down for everybody.
    pub(super) async fn look_at_bank(&self, due: DueJob, bank: Bank) -> (Look, &'static str) {
        let state = match is_out(&self.client, &bank).await {
            Ok(true) => BankState::Out(bank),
            Ok(false) => BankState::Serving,
            Err(error) => {
                warn!(job.id = %due.job_id, %error, "the bank's status cannot be asked");
                BankState::Unknown
            }
        };
        let now = self.clock.now();
        let memory = due.memory.clone();
        let mut look = Progressing { due, now, memory };
        let judge = |watch| self.judge_outage(&look, watch, &state);
        let outcomes = look.due.watches.iter().map(judge).collect();
        if state == BankState::Serving {
            look.memory.phase = Phase::Running;
        }
        let next = after_spread(now, self.config.outage_poll_interval);
        let next = look.due.watches.iter().fold(next, |next, watch| {
            let end = schedule::after(started_at(&look.memory, watch), self.config.job_max_age);
            if end > now { next.min(end) } else { next }
        });
        (
            self.conclude(look, Reading::without_news(outcomes, next)),
            "bank",
        )
    }

    /// What the state of its bank means for a watch that was told of the outage.
    pub(super) fn judge_outage(
        &self,
        look: &Progressing,
        watch: &Watch,
        bank: &BankState,
    ) -> Outcome {
        let (code, step) = (
            outage_code(&look.due.memory.phase),
            failed_step(&look.memory),
        );
        match bank {
            BankState::Serving => Outcome::Tell(Box::new(normalise::bank_is_back(code, step))),
            BankState::Out(_) | BankState::Unknown
                if self.is_too_old(&look.memory, watch, look.now) =>
            {
                Outcome::Tell(Box::new(normalise::outage_outlived(code, step)))
            }
            BankState::Out(_) | BankState::Unknown => Outcome::Running,
        }
    }

    fn is_too_old(&self, memory: &JobMemory, watch: &Watch, now: Timestamp) -> bool {
        schedule::after(started_at(memory, watch), self.config.job_max_age) <= now
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
