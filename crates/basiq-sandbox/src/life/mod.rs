//! The life of a job: computes its state at any time from its script and the answers given. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use relay_domain::clock::later;

use crate::script::{JobScript, ScriptChallenge, ScriptStep, StepEnd};

/// How long the bank checks an answer before the step succeeds.
const CHECKING: Duration = Duration::from_secs(1);

/// How long a failed update is retried.
const RETRIED_FOR: Duration = Duration::from_hours(7 * 24);

/// A job that runs through its script as time passes.
#[derive(Debug, Clone)]
pub(super) struct ScriptedJob {
    /// The id, a UUID as at Basiq.
    pub(super) id: String,
    /// The user the job belongs to.
    pub(super) user_id: String,
    /// The job's connection; `None` for a report.
    pub(super) connection_id: Option<String>,
    /// The time when the job was created.
    pub(super) created: Timestamp,
    /// How many times faster than written the script runs.
    pub(super) speed: f64,
    /// The script.
    pub(super) script: JobScript,
    /// The answers given, in order, by the index of their step.
    pub(super) answers: BTreeMap<usize, Vec<GivenAnswer>>,
}

/// An answer to a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenAnswer {
    /// The time when the answer came.
    pub(super) at: Timestamp,
    /// Whether it was right.
    pub(super) right: bool,
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepState {
    /// Not begun.
    Pending,
    /// Begun. For a challenge: it is answered, and the bank checks the answer.
    InProgress,
    /// Waits for an answer.
    Asking,
    /// Done.
    Success,
    /// Not needed.
    Skipped,
    /// Failed.
    Failed,
}

impl StepState {
    /// Returns the word for this state in a job document.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress | Self::Asking => "in-progress",
            Self::Success => "success",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// A change of a step's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepChange {
    pub(super) at: Timestamp,
    step: usize,
    state: StepState,
}

/// The state of a job at one time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JobAtTime {
    /// The time of the last change.
    pub(super) updated: Timestamp,
    /// The states of the steps, in order.
    pub(super) steps: Vec<StepState>,
}

impl ScriptedJob {
    /// Returns every change, in order, as if no further answer comes.
    pub(super) fn moments(&self) -> Vec<StepChange> {
        let begins = self.after(self.created, self.script.queued);
        let mut moments = self.run(begins, false);
        let Some(retries) = self.script.retries else {
            return moments;
        };
        let over = self.after(self.created, RETRIED_FOR);
        for retry in 1.. {
            let failed = moments
                .last()
                .filter(|last| last.state == StepState::Failed);
            let Some(failed) = failed.copied() else { break };
            let begins = self.after(failed.at, retries.interval);
            if begins > over || begins <= failed.at {
                break;
            }
            let again = |step| StepChange {
                at: begins,
                step,
                state: StepState::Pending,
            };
            moments.extend((0..self.script.steps.len()).map(again));
            let works = retries.succeeds_on.is_some_and(|on| retry >= on);
            moments.extend(self.run(begins, works));
        }
        moments
    }

    /// Runs the steps once from `begins`. If `works`, a step that would fail succeeds.
    fn run(&self, mut begins: Timestamp, works: bool) -> Vec<StepChange> {
        let mut moments = Vec::new();
        for (index, step) in self.script.steps.iter().enumerate() {
            let mut changes = self.changes(index, step, begins);
            if let (true, Some((_, end @ StepState::Failed))) = (works, changes.last_mut()) {
                *end = StepState::Success;
            }
            moments.extend(changes.iter().map(|&(at, state)| StepChange {
                at,
                step: index,
                state,
            }));
            match changes.last() {
                Some(&(ended, StepState::Success | StepState::Skipped)) => begins = ended,
                _ => break,
            }
        }
        moments
    }

    fn changes(
        &self,
        index: usize,
        step: &ScriptStep,
        begins: Timestamp,
    ) -> Vec<(Timestamp, StepState)> {
        let ends = self.after(begins, step.takes);
        let begun = (begins, StepState::InProgress);
        match &step.end {
            StepEnd::Succeeds => vec![begun, (ends, StepState::Success)],
            StepEnd::Skipped => vec![(ends, StepState::Skipped)],
            StepEnd::Fails(_) => vec![begun, (ends, StepState::Failed)],
            StepEnd::Hangs => vec![begun],
            StepEnd::Asks(challenge) => {
                let answers = self.answers.get(&index).map_or(&[][..], Vec::as_slice);
                self.asking(challenge, answers, ends)
            }
        }
    }

    /// Returns the changes of a step that asks. The bank checks each right answer, and then asks the next challenge.
    fn asking(
        &self,
        challenge: &ScriptChallenge,
        answers: &[GivenAnswer],
        asked: Timestamp,
    ) -> Vec<(Timestamp, StepState)> {
        let mut changes = vec![(asked, StepState::Asking)];
        let Some((answer, later)) = answers.split_first() else {
            changes.push((self.after(asked, challenge.window), StepState::Failed));
            return changes;
        };
        if !answer.right {
            changes.push((answer.at, StepState::Failed));
            return changes;
        }
        changes.push((answer.at, StepState::InProgress));
        let checked = self.after(answer.at, CHECKING);
        match &challenge.then {
            Some(next) => changes.extend(self.asking(next, later, checked)),
            None => changes.push((checked, StepState::Success)),
        }
        changes
    }

    /// Returns the job's state at `now`.
    pub(super) fn at(&self, now: Timestamp) -> JobAtTime {
        let mut snapshot = JobAtTime {
            updated: self.created,
            steps: vec![StepState::Pending; self.script.steps.len()],
        };
        for moment in self.moments() {
            if moment.at > now {
                break;
            }
            snapshot.updated = moment.at;
            if let Some(step) = snapshot.steps.get_mut(moment.step) {
                *step = moment.state;
            }
        }
        snapshot
    }

    /// Returns when the job settles if no further answer comes. Returns `None` if a step hangs.
    pub(super) fn settles_at(&self) -> Option<Timestamp> {
        let Some(last) = self.moments().last().copied() else {
            return self.script.steps.is_empty().then_some(self.created);
        };
        let is_last_step = last.step + 1 == self.script.steps.len();
        match last.state {
            StepState::Failed => Some(last.at),
            StepState::Success | StepState::Skipped if is_last_step => Some(last.at),
            _ => None,
        }
    }

    /// Returns whether the job is queued or running at `now`.
    pub(super) fn is_running(&self, now: Timestamp) -> bool {
        self.settles_at().is_none_or(|settled| settled > now)
    }

    /// Returns the challenge that waits for an answer at `now`, and the index of its step.
    pub(super) fn open_challenge(&self, now: Timestamp) -> Option<(usize, &ScriptChallenge)> {
        let open = self.at(now);
        let index = open.steps.iter().position(|&s| s == StepState::Asking)?;
        match &self.script.steps.get(index)?.end {
            StepEnd::Asks(first) => Some((index, self.challenge_of(index, first))),
            _ => None,
        }
    }

    /// Returns the latest challenge of a step. Each answer leads to the next challenge, if there is one.
    pub(super) fn challenge_of<'a>(
        &self,
        step: usize,
        first: &'a ScriptChallenge,
    ) -> &'a ScriptChallenge {
        let answered = self.answers.get(&step).map_or(0, Vec::len);
        let asked = first.all().take(answered + 1);
        asked.last().unwrap_or(first)
    }

    /// Returns the state at `now` of the step with that title, if the job has one.
    pub(super) fn state_of(&self, title: &str, now: Timestamp) -> Option<StepState> {
        let index = self.script.steps.iter().position(|s| s.title == title)?;
        self.at(now).steps.get(index).copied()
    }

    /// Returns when the step with that title last succeeded, if it did by `now`.
    pub(super) fn succeeded_at(&self, title: &str, now: Timestamp) -> Option<Timestamp> {
        let index = self.script.steps.iter().position(|s| s.title == title)?;
        let moments = self.moments().into_iter().rev();
        let is_success = |m: &StepChange| m.step == index && m.state == StepState::Success;
        let mut successes = moments.filter(is_success).map(|moment| moment.at);
        successes.find(|at| *at <= now)
    }

    /// Returns how long a duration takes at this job's speed.
    pub(super) fn scaled(&self, duration: Duration) -> Duration {
        scaled(duration, self.speed)
    }

    fn after(&self, time: Timestamp, duration: Duration) -> Timestamp {
        later(time, self.scaled(duration))
    }
}

/// Returns how long a duration takes on a clock that runs `speed` times faster.
pub(super) fn scaled(duration: Duration, speed: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() / speed).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
