//! Follows a watch: polls it, less and less often while nothing changes.

use std::time::Duration;

use anyhow::{Result, bail};
use http::StatusCode;
use relay_domain::WatchState;
use serde_json::Value;
use tokio::time::Instant;

use crate::cli::{
    challenge::ChallengeDocument,
    exit::CommandFailure,
    relay_client::{RelayCallError, RelayClient},
    watch::{
        news::{SeenSoFar, WatchDifference, WatchEnding, is_first_attempt_awaited},
        report::WatchReporter,
    },
    watch_document::{EventDocument, WatchDocument},
};

/// The wait between two polls after a change.
const SHORTEST: Duration = Duration::from_secs(1);
/// The maximum wait between two polls while nothing changes. A challenge stays open for two minutes.
const LONGEST: Duration = Duration::from_secs(10);
/// How long the relay may be out of reach.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a job may stay unseen before the report says so.
const UNSEEN: Duration = Duration::from_secs(3);
/// The maximum wait for the first attempt of the last event. It is longer than the default time-out of an attempt.
const LAST_ATTEMPT: Duration = Duration::from_secs(20);

/// Follows one watch.
#[derive(Debug)]
pub(super) struct WatchPoller {
    relay: RelayClient,
    reporter: WatchReporter,
    watch: WatchDocument,
    seen: SeenSoFar,
}

impl WatchPoller {
    /// Registers the watch, or finds the existing one.
    pub(super) async fn begin(
        relay: RelayClient,
        mut reporter: WatchReporter,
        registration: &Value,
    ) -> Result<Self, CommandFailure> {
        let registering = relay.post::<WatchDocument>("watch", registration);
        let registered = reporter.during("waiting for the relay", registering).await;
        let (status, watch) = registered?;
        let is_new = status == StatusCode::ACCEPTED;
        reporter.begun(&watch, is_new)?;
        Ok(Self {
            relay,
            reporter,
            watch,
            seen: SeenSoFar::default(),
        })
    }

    /// The id of the watch.
    pub(super) fn watch_id(&self) -> &str {
        &self.watch.id
    }

    /// Prints each change until the watch ends. Returns how it ended.
    pub(super) async fn follow(&mut self) -> Result<WatchEnding> {
        let (began, mut is_unseen_told) = (Instant::now(), false);
        let (mut wait, mut ended_at) = (SHORTEST, None);
        loop {
            let has_news = self.tell_news().await?;
            let is_unseen = self.watch.steps.is_empty() && began.elapsed() >= UNSEEN;
            if is_unseen && !is_unseen_told {
                is_unseen_told = true;
                let trouble = self.relay.upstream_trouble().await;
                self.reporter.unseen(trouble)?;
            }
            if let Some(ending) = self.ending(&mut ended_at) {
                self.reporter.ended(&ending, &self.command("redeliver"))?;
                return Ok(ending);
            }
            wait = next_wait(wait, has_news);
            let what = self.waits_for();
            let pause = tokio::time::sleep(wait);
            self.reporter.during(&what, pause).await;
            self.watch = self.look(&what).await?;
        }
    }

    async fn tell_news(&mut self) -> Result<bool> {
        let redeliver = self.command("redeliver");
        let all = self.seen.take(&self.watch);
        for one in &all {
            self.reporter.tell(one, &redeliver)?;
            let question = self.watch.open_question();
            match (&one.news, question) {
                (WatchDifference::Event(event), Some(asked)) if event.id == asked.id => {
                    let asked = asked.clone();
                    self.tell_challenge(&asked).await?;
                }
                _ => {}
            }
        }
        Ok(!all.is_empty())
    }

    /// Tells what the bank asks, and the command that answers it. If the challenge cannot be read, only the command.
    async fn tell_challenge(&mut self, event: &EventDocument) -> Result<()> {
        let reading = ChallengeDocument::read(&self.relay, &self.watch.id, &event.id);
        let read = self.reporter.during("reading the challenge", reading).await;
        let challenge = read.ok().flatten();
        let command = self.command("answer");
        self.reporter.asked(event, challenge.as_ref(), &command)
    }

    fn command(&self, command: &str) -> String {
        self.relay.command_line(command, &self.watch.id)
    }

    /// Says in a few words what the watch waits for.
    fn waits_for(&self) -> String {
        match WatchState::from_word(&self.watch.state) {
            Some(WatchState::AwaitingUser) => "waiting for the person's answer".to_owned(),
            Some(WatchState::Delayed) => "waiting for the bank".to_owned(),
            Some(WatchState::Settled | WatchState::Cancelled) => {
                "waiting for the callback's answer".to_owned()
            }
            Some(WatchState::Watching) | None => match self.watch.next_poll_at {
                Some(at) => format!("the relay looks again at {}", self.reporter.time(at)),
                None => "waiting for news".to_owned(),
            },
        }
    }

    /// Returns how the watch ended, once there is nothing more to wait for.
    fn ending(&self, ended_at: &mut Option<Instant>) -> Option<WatchEnding> {
        let ending = WatchEnding::of(&self.watch)?;
        let passed = ended_at.get_or_insert_with(Instant::now).elapsed();
        let is_over = passed > LAST_ATTEMPT || !is_first_attempt_awaited(&self.watch);
        is_over.then_some(ending)
    }

    /// Reads the watch. If the relay is out of reach, retries for `PATIENCE`.
    async fn look(&mut self, what: &str) -> Result<WatchDocument> {
        let (began, mut wait) = (Instant::now(), SHORTEST);
        let path = format!("watch/{}", self.watch.id);
        loop {
            let reading = self.relay.get(&path);
            match self.reporter.during(what, reading).await {
                Ok(watch) => return Ok(watch),
                Err(RelayCallError::Away(error)) if began.elapsed() < PATIENCE => {
                    self.reporter.away(&error);
                }
                Err(
                    RelayCallError::Away(error)
                    | RelayCallError::BadRequest(error)
                    | RelayCallError::Failed(error),
                ) => {
                    bail!(error)
                }
            }
            let pause = tokio::time::sleep(wait);
            self.reporter.during("waiting for the relay", pause).await;
            wait = next_wait(wait, false);
        }
    }
}

/// Returns the wait before the next poll.
fn next_wait(before: Duration, has_news: bool) -> Duration {
    if has_news {
        SHORTEST
    } else {
        (before + before / 4).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_a_second_apart_after_news_and_at_most_ten_without() {
        let mut waits = vec![SHORTEST];
        for _ in 0..15 {
            let last = waits[waits.len() - 1];
            waits.push(next_wait(last, false));
        }
        assert!(waits.is_sorted());
        assert_eq!(waits.last(), Some(&LONGEST));
        let first_five: Duration = waits.iter().take(5).sum();
        assert!(first_five < Duration::from_secs(9), "{first_five:?}");
        assert_eq!(next_wait(LONGEST, true), SHORTEST);
    }
}
