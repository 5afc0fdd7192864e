//! A look at the bank instead of the job, while the bank is down for everybody.

use jiff::Timestamp;
use tracing::warn;

use crate::{
    domain::{JobMemory, Outcome, Phase, Watch},
    normalise,
    store::{DueJob, Look},
    tracker::{
        bank::{Bank, is_out},
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
        let answer = is_out(&self.client, &bank).await;
        let now = self.clock.now();
        let mut memory = due.memory.clone();
        let next = after_spread(now, self.config.outage_poll_interval);
        let code = outage_code(&memory.phase);
        let verdict = match answer {
            Ok(false) => {
                memory.phase = Phase::Running;
                Some(normalise::bank_is_back(code, failed_step(&memory)))
            }
            Ok(true) => None,
            Err(error) => {
                warn!(job.id = %due.job_id, %error, "the bank's status cannot be asked");
                None
            }
        };
        let outlived =
            normalise::outage_outlived(outage_code(&due.memory.phase), failed_step(&memory));
        let outcomes = due.watches.iter().map(|watch| match &verdict {
            Some(verdict) => Outcome::Tell(Box::new(verdict.clone())),
            None if self.is_too_old(&memory, watch, now) => {
                Outcome::Tell(Box::new(outlived.clone()))
            }
            None => Outcome::Running,
        });
        let reading = Reading {
            outcomes: outcomes.collect(),
            resources: Vec::new(),
            next_look_at: next,
            is_urgent: false,
            connection: None,
        };
        (
            self.conclude(Progressing { due, now, memory }, reading),
            "bank",
        )
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
