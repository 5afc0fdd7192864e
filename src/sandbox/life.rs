//! A job's life: from its script and the answers given, what it is at any moment. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::sandbox::script::{JobScript, ScriptChallenge, ScriptStep, StepEnd};

/// How long an answer is looked at before the step succeeds.
const CHECKING: Duration = Duration::from_secs(1);

/// How long a failed update is tried again.
const RETRIED_FOR: Duration = Duration::from_hours(7 * 24);

/// A job that goes through its script as time passes.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Basiq's kind of id: a UUID.
    pub(super) id: String,
    /// Whose job it is.
    pub(super) user_id: String,
    /// Its connection; none for a report.
    pub(super) connection_id: Option<String>,
    /// When it was made.
    pub(super) created: Timestamp,
    /// How many times faster than written it goes.
    pub(super) speed: f64,
    /// What happens.
    pub(super) script: JobScript,
    /// The answers given, by step, in order.
    pub(super) answers: BTreeMap<usize, Vec<Answer>>,
}

/// An answer to a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// When it came.
    pub(super) at: Timestamp,
    /// Whether it was right.
    pub(super) right: bool,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepState {
    /// Not begun.
    Pending,
    /// Begun; for a challenge: answered, and the answer is looked at.
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
    /// The word in a job document.
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

/// The moment a step changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    step: usize,
    state: StepState,
}

/// A job at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    /// When it last changed.
    pub(super) updated: Timestamp,
    /// Its steps, in order.
    pub(super) steps: Vec<StepState>,
}

impl Job {
    /// Every change to come if no further answer is given, in order.
    pub(super) fn moments(&self) -> Vec<Moment> {
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
            let again = |step| Moment {
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

    /// One try from its begin; a step that would fail succeeds if it `works`.
    fn run(&self, mut begins: Timestamp, works: bool) -> Vec<Moment> {
        let mut moments = Vec::new();
        for (index, step) in self.script.steps.iter().enumerate() {
            let mut changes = self.changes(index, step, begins);
            if let (true, Some((_, end @ StepState::Failed))) = (works, changes.last_mut()) {
                *end = StepState::Success;
            }
            moments.extend(changes.iter().map(|&(at, state)| Moment {
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

    /// How a step goes that asks: each right answer is looked at, and the next challenge follows.
    fn asking(
        &self,
        challenge: &ScriptChallenge,
        answers: &[Answer],
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

    /// What the job is at `now`.
    pub(super) fn at(&self, now: Timestamp) -> Snapshot {
        let mut snapshot = Snapshot {
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

    /// When the job settles if no further answer is given; never, if a step hangs.
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

    /// Whether the job is queued or running at `now`.
    pub(super) fn is_running(&self, now: Timestamp) -> bool {
        self.settles_at().is_none_or(|settled| settled > now)
    }

    /// The challenge that waits for an answer at `now`, and its step.
    pub(super) fn open_challenge(&self, now: Timestamp) -> Option<(usize, &ScriptChallenge)> {
        let open = self.at(now);
        let index = open.steps.iter().position(|&s| s == StepState::Asking)?;
        match &self.script.steps.get(index)?.end {
            StepEnd::Asks(first) => Some((index, self.challenge_of(index, first))),
            _ => None,
        }
    }

    /// Which of a step's challenges is the latest: each answer leads to the next, if there is one.
    pub(super) fn challenge_of<'a>(
        &self,
        step: usize,
        first: &'a ScriptChallenge,
    ) -> &'a ScriptChallenge {
        let answered = self.answers.get(&step).map_or(0, Vec::len);
        let asked = first.all().take(answered + 1);
        asked.last().unwrap_or(first)
    }

    /// Where the step of that title is at `now`, if the job has one.
    pub(super) fn state_of(&self, title: &str, now: Timestamp) -> Option<StepState> {
        let index = self.script.steps.iter().position(|s| s.title == title)?;
        self.at(now).steps.get(index).copied()
    }

    /// How long something lasts at this job's speed.
    pub(super) fn scaled(&self, duration: Duration) -> Duration {
        scaled(duration, self.speed)
    }

    fn after(&self, time: Timestamp, duration: Duration) -> Timestamp {
        later(time, self.scaled(duration))
    }
}

/// How long something lasts on a clock that runs `speed` times faster.
pub(super) fn scaled(duration: Duration, speed: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() / speed).unwrap_or(Duration::MAX)
}

/// A time some while later, or the end of time.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    i64::try_from(by.as_millis())
        .ok()
        .and_then(|millis| time.as_millisecond().checked_add(millis))
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::script::ScriptRetries;

    const START: i64 = 1_800_000_000_000;

    fn ms(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(START + millis).unwrap()
    }

    fn job(speed: f64, middle: ScriptStep) -> Job {
        let step = |title: &str, millis| {
            ScriptStep::new(title, Duration::from_millis(millis), StepEnd::Succeeds)
        };
        let steps = vec![step("first", 2000), middle, step("last", 3000)];
        Job {
            id: "j".to_owned(),
            user_id: "u".to_owned(),
            connection_id: None,
            created: ms(0),
            speed,
            script: JobScript {
                queued: Duration::from_millis(300),
                ..JobScript::new(steps)
            },
            answers: BTreeMap::new(),
        }
    }

    fn middle(end: StepEnd) -> ScriptStep {
        ScriptStep::new("middle", Duration::from_secs(1), end)
    }

    /// The job at a moment as `updated` in milliseconds and the steps' words; `?` marks an open
    /// challenge.
    fn told(job: &Job, millis: i64) -> (i64, String) {
        let seen = job.at(ms(millis));
        let word = |state: &StepState| match state {
            StepState::Asking => "?",
            other => other.as_str(),
        };
        let words: Vec<_> = seen.steps.iter().map(word).collect();
        (seen.updated.as_millisecond() - START, words.join(" "))
    }

    fn check(job: &Job, table: &[(i64, i64, &str)]) {
        for &(millis, updated, words) in table {
            let expected = (updated, words.to_owned());
            assert_eq!(told(job, millis), expected, "at {millis} ms");
        }
    }

    #[test]
    fn a_job_goes_through_its_steps_as_time_passes() {
        let plain = job(1.0, middle(StepEnd::Succeeds));
        let table = [
            (0, 0, "pending pending pending"),
            (299, 0, "pending pending pending"),
            (300, 300, "in-progress pending pending"),
            (2299, 300, "in-progress pending pending"),
            (2300, 2300, "success in-progress pending"),
            (3300, 3300, "success success in-progress"),
            (6299, 3300, "success success in-progress"),
            (6300, 6300, "success success success"),
            (9_000_000, 6300, "success success success"),
        ];
        check(&plain, &table);
        assert_eq!(plain.settles_at(), Some(ms(6300)));
        assert!(plain.is_running(ms(6299)) && !plain.is_running(ms(6300)));
    }

    #[test]
    fn a_faster_clock_only_shortens_the_waits() {
        let fast = job(10.0, middle(StepEnd::Succeeds));
        check(
            &fast,
            &[
                (30, 30, "in-progress pending pending"),
                (230, 230, "success in-progress pending"),
                (630, 630, "success success success"),
            ],
        );
    }

    #[test]
    fn what_follows_a_failed_or_hanging_step_stays_pending() {
        let failing = job(1.0, middle(StepEnd::Fails(None)));
        check(&failing, &[(90_000, 3300, "success failed pending")]);
        assert_eq!(failing.settles_at(), Some(ms(3300)));
        let hanging = job(1.0, middle(StepEnd::Hangs));
        check(&hanging, &[(90_000, 2300, "success in-progress pending")]);
        assert_eq!(hanging.settles_at(), None);
    }

    #[test]
    fn a_step_that_is_not_needed_is_skipped() {
        let skipping = job(1.0, middle(StepEnd::Skipped));
        check(
            &skipping,
            &[
                (2300, 2300, "success pending pending"),
                (3300, 3300, "success skipped in-progress"),
            ],
        );
        assert_eq!(skipping.settles_at(), Some(ms(6300)));
    }

    #[test]
    fn a_challenge_waits_for_its_answer_and_expires_without() {
        let asking = job(1.0, middle(StepEnd::Asks(ScriptChallenge::token())));
        check(
            &asking,
            &[
                (3299, 2300, "success pending pending"),
                (3300, 3300, "success ? pending"),
                (123_299, 3300, "success ? pending"),
                (123_300, 123_300, "success failed pending"),
            ],
        );
        assert!(asking.open_challenge(ms(3300)).is_some());
        assert!(asking.open_challenge(ms(123_300)).is_none());
    }

    #[test]
    fn a_right_answer_lets_the_job_go_on_and_a_wrong_one_ends_it() {
        let mut asking = job(1.0, middle(StepEnd::Asks(ScriptChallenge::token())));
        let at = ms(10_000);
        asking.answers.insert(1, vec![Answer { at, right: true }]);
        check(
            &asking,
            &[
                (9999, 3300, "success ? pending"),
                (10_000, 10_000, "success in-progress pending"),
                (11_000, 11_000, "success success in-progress"),
                (14_000, 14_000, "success success success"),
            ],
        );
        asking.answers.insert(1, vec![Answer { at, right: false }]);
        check(&asking, &[(10_000, 10_000, "success failed pending")]);
        assert_eq!(asking.settles_at(), Some(at));
    }

    #[test]
    fn an_update_is_tried_again_at_intervals_until_it_works_or_is_a_week_old() {
        let mut queued = job(1.0, middle(StepEnd::Fails(None)));
        queued.script.retries = Some(ScriptRetries {
            interval: Duration::from_hours(2),
            succeeds_on: Some(2),
        });
        let (failed, hours) = (3300, 7_200_000);
        let second = failed + 2 * hours + 3000;
        check(
            &queued,
            &[
                (failed, failed, "success failed pending"),
                (failed + hours - 1, failed, "success failed pending"),
                (
                    failed + hours,
                    failed + hours,
                    "in-progress pending pending",
                ),
                (
                    failed + hours + 3000,
                    failed + hours + 3000,
                    "success failed pending",
                ),
                (second, second - 3000 + 3000, "in-progress pending pending"),
                (second + 6000, second + 6000, "success success success"),
            ],
        );
        let settled = queued.settles_at().unwrap();
        assert_eq!(settled, ms(second + 6000));
        queued.script.retries = queued.script.retries.map(|retries| ScriptRetries {
            succeeds_on: None,
            ..retries
        });
        let settled = queued.settles_at().unwrap().as_millisecond() - START;
        let week = 7 * 24 * 3_600_000;
        assert!(
            (week - hours..week + 10_000).contains(&settled),
            "{settled}"
        );
        assert!(queued.is_running(ms(week - hours)));
    }

    #[test]
    fn a_duration_too_long_for_a_clock_ends_with_time_itself() {
        assert_eq!(later(ms(0), Duration::MAX), Timestamp::MAX);
        assert_eq!(scaled(Duration::MAX, 0.001), Duration::MAX);
    }
}
