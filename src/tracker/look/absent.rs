//! A look that brought no document: it ends no watch, unless Basiq says for long enough that the job
//! does not exist or is not ours.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use crate::{
    basiq::BasiqError,
    domain::{JobMemory, Outcome},
    normalise,
    store::{DueJob, Look},
    tracker::{
        look::{Parts, Progressing, Reading, after_spread},
        schedule::{self, back_off, next_look_at_absent},
    },
};

/// After a refused key, looks wait as long as the client does before it tries the key again.
const KEY_REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause after failed looks while a challenge is open.
const CHALLENGE_BACK_OFF: Duration = Duration::from_secs(5);

impl Parts {
    /// A look that brought no document: it is tried again, and ends no watch unless Basiq says for
    /// long enough that the job does not exist or is not ours.
    pub(super) fn without_document(&self, due: DueJob, error: &BasiqError) -> (Look, &'static str) {
        let now = self.clock.now();
        let memory = due.memory.clone();
        let look = Progressing { due, now, memory };
        match error {
            BasiqError::NotFound { .. } => (self.absent(look, Absence::Missing), "not-found"),
            BasiqError::Forbidden { .. } => (self.absent(look, Absence::Forbidden), "forbidden"),
            BasiqError::KeyRefused => {
                let next = after_spread(now, KEY_REFUSED_PAUSE);
                (self.conclude_running(look, next), "key-refused")
            }
            BasiqError::Throttled { retry_after, .. } => {
                (self.failed(look, *retry_after), "throttled")
            }
            BasiqError::Status { .. }
            | BasiqError::TimedOut
            | BasiqError::Unreachable(_)
            | BasiqError::Unreadable(_) => {
                warn!(job.id = %look.due.job_id, %error, "a look failed, will try again");
                (self.failed(look, None), "error")
            }
        }
    }

    fn failed(&self, mut look: Progressing, asked: Option<Duration>) -> Look {
        look.memory.errors_in_a_row = look.memory.errors_in_a_row.saturating_add(1);
        let errors = look.memory.errors_in_a_row;
        let mut next = back_off(errors, asked, look.now, rand::random());
        if look.memory.challenges.open.is_some() && asked.is_none() {
            // The person has a minute or two: waiting longer would lose the challenge.
            next = next.min(schedule::after(look.now, CHALLENGE_BACK_OFF));
        }
        self.conclude_running(look, next)
    }

    fn absent(&self, mut look: Progressing, absence: Absence) -> Look {
        let now = look.now;
        let (since, verdict) = match absence {
            Absence::Missing => {
                look.memory.forbidden_since = None;
                (
                    *look.memory.missing_since.get_or_insert(now),
                    normalise::job_not_found(),
                )
            }
            Absence::Forbidden => {
                look.memory.missing_since = None;
                (
                    *look.memory.forbidden_since.get_or_insert(now),
                    normalise::job_not_accessible(),
                )
            }
        };
        look.memory.errors_in_a_row = 0;
        let grace = self.config.job_not_found_grace;
        let outcomes = look.due.watches.iter().map(|watch| {
            // A watch that has just joined gets its own grace.
            let since = since.max(watch.created_at);
            if schedule::after(since, grace) <= now {
                Outcome::Tell(Box::new(verdict.clone()))
            } else {
                Outcome::Running
            }
        });
        let reading = Reading {
            outcomes: outcomes.collect(),
            resources: Vec::new(),
            next_look_at: next_look_at_absent(since, now, grace),
            is_urgent: is_urgent(&look.memory),
            connection: None,
        };
        self.conclude(look, reading)
    }

    fn conclude_running(&self, look: Progressing, next_look_at: Timestamp) -> Look {
        let outcomes = look.due.watches.iter().map(|_| Outcome::Running).collect();
        let nothing = Reading {
            outcomes,
            resources: Vec::new(),
            next_look_at,
            is_urgent: is_urgent(&look.memory),
            connection: None,
        };
        // A failed look says nothing of the job: no watch changes its state by it.
        Look {
            changes: Vec::new(),
            ..self.conclude(look, nothing)
        }
    }
}

/// A job that was never seen, or that waits for the person, stays urgent when a look fails.
fn is_urgent(memory: &JobMemory) -> bool {
    memory.first_look_at.is_none() || memory.challenges.open.is_some()
}

#[derive(Clone, Copy)]
enum Absence {
    Missing,
    Forbidden,
}
