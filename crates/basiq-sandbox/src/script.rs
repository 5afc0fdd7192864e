//! The script of a job: its steps, how long each takes, and how each ends.

use relay_domain::StepFailure;
use std::time::Duration;

/// The operation that started a job. A job document does not contain it. It decides which links the document has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A new connection. The job links to it only after the login was tried.
    Create,
    /// New credentials for a connection.
    Update,
    /// New data for a connection.
    Refresh,
    /// An uploaded bank statement: its job never links to its source.
    Statement,
    /// A report. Its job has a `status` of its own, and no links after it failed.
    Report,
}

/// A job whose course is written in advance.
#[derive(Debug, Clone, PartialEq)]
pub struct JobScript {
    /// The operation that started the job.
    pub origin: Origin,
    /// The user it belongs to; `None` means a new user. The user is created if it does not exist.
    pub user_id: Option<String>,
    /// The connection it belongs to; `None` means a new connection. The connection is created if it does not exist.
    pub connection_id: Option<String>,
    /// The bank's id, such as `AU00000`.
    pub institution_id: String,
    /// How long the first step stays `pending`.
    pub queued: Duration,
    /// How a failed job is retried without a new call, if at all.
    pub retries: Option<ScriptRetries>,
    /// The steps, in order. Steps after one that fails or hangs stay `pending` for ever.
    pub steps: Vec<ScriptStep>,
}

impl JobScript {
    /// Creates a script that starts at once: a refresh of a new user's connection to Hooli Bank.
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

/// Retries of a failed job. They start without a new call, until the job is seven days old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptRetries {
    /// The time from a failure to the next retry.
    pub interval: Duration,
    /// The retry, counted from 1, at which the failed step succeeds. Without it, none succeeds.
    pub succeeds_on: Option<u32>,
}

/// One step of a [`JobScript`]. Durations are for a sandbox at speed 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptStep {
    /// The title: one of Basiq's, such as `verify-credentials`, or any other.
    pub title: String,
    /// The time from the step's begin to its end. For a challenge: until the bank asks.
    pub takes: Duration,
    /// How the step ends.
    pub end: StepEnd,
}

impl ScriptStep {
    /// Creates a step.
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
    /// It succeeds.
    Succeeds,
    /// It is not needed, so it is skipped.
    Skipped,
    /// It fails, with or without a reason.
    Fails(Option<StepFailure>),
    /// It waits for an answer, and fails without one.
    Asks(ScriptChallenge),
    /// It never ends.
    Hangs,
}

/// A challenge that the bank asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptChallenge {
    /// `token` or `security-questions`.
    pub method: String,
    /// The bank's description.
    pub description: String,
    /// One prompt for each answer.
    pub inputs: Vec<String>,
    /// The accepted answers of each prompt.
    pub answers: Vec<Vec<String>>,
    /// How long the challenge waits for an answer.
    pub window: Duration,
    /// The next challenge after a right answer, if any.
    pub then: Option<Box<Self>>,
}

/// The time for an answer, from Basiq's newer documents (`expiryMs`).
const WINDOW: Duration = Duration::from_mins(2);

impl ScriptChallenge {
    /// Creates a challenge for a one-time password. The right answer is `1234`.
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

    /// Creates a challenge with these questions, each with its accepted answers.
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

    /// Adds a challenge that the bank asks after a right answer.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.then = Some(Box::new(next));
        self
    }

    /// Iterates over this challenge and all that may follow, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |challenge| challenge.then.as_deref())
    }

    /// Returns whether each prompt has one of its accepted answers.
    pub(super) fn is_answered_by(&self, given: &[String]) -> bool {
        given.len() == self.answers.len()
            && given
                .iter()
                .zip(&self.answers)
                .all(|(answer, right)| right.contains(answer))
    }
}
