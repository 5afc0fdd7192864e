//! What will happen to a job: its steps, how long each takes and how it ends.

use std::time::Duration;

use crate::domain::StepFailure;

/// What started a job. A job document does not tell; it decides where links are and what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A new connection: its address is not known before the login was tried.
    Create,
    /// New credentials for a connection.
    Update,
    /// New data for a connection.
    Refresh,
    /// An uploaded bank statement: its job never links to its source.
    Statement,
    /// A report: its job has a `status` of its own, and no links once it failed.
    Report,
}

/// A job written down beforehand.
#[derive(Debug, Clone, PartialEq)]
pub struct JobScript {
    /// What started it.
    pub origin: Origin,
    /// The user it belongs to; a new one if none is named. Made if it does not exist.
    pub user_id: Option<String>,
    /// The connection it belongs to; a new one if none is named. Made if it does not exist.
    pub connection_id: Option<String>,
    /// The bank, such as `AU00000`.
    pub institution_id: String,
    /// How long the first step stays `pending`.
    pub queued: Duration,
    /// How it is tried again by itself after a failure, if it is.
    pub retries: Option<ScriptRetries>,
    /// The steps, in order. What follows a step that fails or hangs stays `pending` for ever.
    pub steps: Vec<ScriptStep>,
}

impl JobScript {
    /// A refresh of a new user's connection to Hooli Bank that begins at once.
    #[must_use]
    pub fn new(steps: Vec<ScriptStep>) -> Self {
        Self {
            origin: Origin::Refresh,
            user_id: None,
            connection_id: None,
            institution_id: "AU00000".to_owned(),
            queued: Duration::ZERO,
            retries: None,
            steps,
        }
    }
}

/// Tries of a failed job that follow by themselves, until it is seven days old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptRetries {
    /// From a failure to the next try.
    pub interval: Duration,
    /// The retry at which the step that failed succeeds, counted from 1; none does without it.
    pub succeeds_on: Option<u32>,
}

/// One step of a [`JobScript`]. Durations are those of a sandbox at speed 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptStep {
    /// Basiq's title, such as `verify-credentials`, or any other.
    pub title: String,
    /// From its begin to its end; for a challenge, until it is asked.
    pub takes: Duration,
    /// How it ends.
    pub end: StepEnd,
}

impl ScriptStep {
    /// A step.
    #[must_use]
    pub fn new(title: &str, takes: Duration, end: StepEnd) -> Self {
        Self {
            title: title.to_owned(),
            takes,
            end,
        }
    }
}

/// How a step ends.
#[derive(Debug, Clone, PartialEq)]
pub enum StepEnd {
    /// It works.
    Succeeds,
    /// It turns out not to be needed.
    Skipped,
    /// It fails and says why, or not.
    Fails(Option<StepFailure>),
    /// It waits for an answer, and fails without one.
    Asks(ScriptChallenge),
    /// It never ends.
    Hangs,
}

/// A question the bank will ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptChallenge {
    /// `token` or `security-questions`.
    pub method: String,
    /// The bank's text.
    pub description: String,
    /// One prompt for each answer.
    pub inputs: Vec<String>,
    /// For each prompt, every answer that is right.
    pub answers: Vec<Vec<String>>,
    /// How long an answer is waited for.
    pub window: Duration,
    /// What the bank asks next, once this was answered right.
    pub then: Option<Box<Self>>,
}

/// How long answers are waited for, as Basiq's newer documents say (`expiryMs`).
const WINDOW: Duration = Duration::from_mins(2);

impl ScriptChallenge {
    /// A one-time password; `1234` is right.
    #[must_use]
    pub fn token() -> Self {
        Self {
            method: "token".to_owned(),
            description: "We sent a code to your phone. Please enter it here.".to_owned(),
            inputs: vec!["OTP Password".to_owned()],
            answers: vec![vec!["1234".to_owned()]],
            window: WINDOW,
            then: None,
        }
    }

    /// Questions, each with the answers that are right.
    #[must_use]
    pub fn questions(questions: &[(&str, &[&str])]) -> Self {
        let owned = |answers: &&[&str]| answers.iter().map(|&answer| answer.to_owned()).collect();
        Self {
            method: "security-questions".to_owned(),
            description: "Please answer your bank's security questions.".to_owned(),
            inputs: questions
                .iter()
                .map(|(asked, _)| (*asked).to_owned())
                .collect(),
            answers: questions.iter().map(|(_, right)| owned(right)).collect(),
            window: WINDOW,
            then: None,
        }
    }

    /// Has the bank ask once more after a right answer.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.then = Some(Box::new(next));
        self
    }

    /// The challenge and all that may follow it, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |challenge| challenge.then.as_deref())
    }

    /// Whether every prompt has one of its right answers.
    pub(super) fn is_answered_by(&self, given: &[String]) -> bool {
        given.len() == self.answers.len()
            && given
                .iter()
                .zip(&self.answers)
                .all(|(answer, right)| right.contains(answer))
    }
}
