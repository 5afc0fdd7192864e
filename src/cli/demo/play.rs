//! Plays a scenario: does what the person, the backend and the bank do, and collects the events.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use relay_domain::clock::Clock;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cli::demo::{
    report::{ScenarioUpdate, ScenarioUpdateKind},
    scenario::{DemoFlow, DemoScenario, RIGHT, UNLUCKY},
    stage::DemoStage,
};

/// The maximum time from receiving the last attempt until the relay has recorded it.
const RECORD_PATIENCE: Duration = Duration::from_secs(3);

/// A scenario that is played, and where its news go.
pub(super) struct ScenarioPlay<'s> {
    scenario: &'static DemoScenario,
    stage: &'s DemoStage,
    news: mpsc::Sender<ScenarioUpdate>,
}

/// What happens in a scenario after a job has ended.
#[derive(Debug)]
enum NextStep {
    /// The backend starts another job, by this operation, and watches it.
    Watch(String, Option<&'static str>),
    /// Basiq starts another job by itself.
    Wait,
    /// Nothing more.
    End,
}

impl<'s> ScenarioPlay<'s> {
    pub(super) fn new(
        scenario: &'static DemoScenario,
        stage: &'s DemoStage,
        news: mpsc::Sender<ScenarioUpdate>,
    ) -> Self {
        Self {
            scenario,
            stage,
            news,
        }
    }

    /// Plays the scenario until its final event, within a time limit. Returns the events that the callback accepted,
    /// in order.
    pub(super) async fn run(self, limit: Duration) -> Result<Vec<Value>> {
        self.tell(ScenarioUpdateKind::Begins).await?;
        let played = tokio::time::timeout(limit, self.play()).await;
        self.tell(ScenarioUpdateKind::Ends).await?;
        played.unwrap_or_else(|_| bail!("did not end within {} s", limit.as_secs()))
    }

    async fn tell(&self, kind: ScenarioUpdateKind) -> Result<()> {
        let (at, scenario) = (Clock::system().now(), self.scenario);
        let news = ScenarioUpdate { at, scenario, kind };
        self.news.send(news).await.context("nobody prints")
    }

    /// Tells what the person, the backend or the bank does next.
    async fn acts(&self, what: &'static str) -> Result<()> {
        self.tell(ScenarioUpdateKind::Acts(what)).await
    }

    async fn play(&self) -> Result<Vec<Value>> {
        let (scenario, stage) = (self.scenario, self.stage);
        let person = stage.basiq.create_user(scenario.slug).await?;
        let job_id = stage
            .basiq
            .connect_bank(&person, &scenario.login, scenario.bank)
            .await?;
        let mut events = stage.events_of(scenario.slug);
        match scenario.flow {
            DemoFlow::Subscribes => stage.subscribe(scenario, &person).await?,
            _ => stage.watch(scenario, &job_id, None).await?,
        }
        let mut accepted = Vec::new();
        let watch_id = loop {
            let received = events.recv().await.context("the receiver stopped")?;
            if received.verified != Some(true) {
                bail!("an event came whose signature is not valid");
            }
            let (answered, body) = (received.status_answered, received.body);
            self.tell(ScenarioUpdateKind::Told {
                answered,
                body: body.clone(),
            })
            .await?;
            if !(200..300).contains(&answered) {
                continue;
            }
            let watch_id = body.get("watchId").and_then(Value::as_str);
            let watch_id = watch_id.context("the event names no watch")?.to_owned();
            self.react(&watch_id, &body).await?;
            let is_final = body.get("final") == Some(&Value::Bool(true));
            accepted.push(body);
            if !is_final {
                continue;
            }
            match self.next_job(&person, &accepted).await? {
                NextStep::Watch(job_id, operation) => {
                    stage.watch(scenario, &job_id, operation).await?;
                }
                NextStep::Wait => {}
                NextStep::End => break watch_id,
            }
        };
        self.check_attempts(&watch_id).await?;
        Ok(accepted)
    }

    /// Does what the person or the bank does after an event.
    async fn react(&self, watch_id: &str, event: &Value) -> Result<()> {
        match event.get("action").and_then(Value::as_str) {
            Some("answer-mfa") => match self.scenario.answer {
                Some(answer) => {
                    self.acts("the person answers").await?;
                    self.stage.answer(watch_id, answer).await
                }
                None => self.acts("nobody answers").await,
            },
            Some("wait-for-bank") => {
                self.acts("the outage ends").await?;
                self.stage.end_outage();
                Ok(())
            }
            Some("wait") => self.acts("Basiq tries again").await,
            _ => Ok(()),
        }
    }

    /// Starts the next job of the scenario, if the backend starts one. Returns what happens next.
    async fn next_job(&self, person: &str, told: &[Value]) -> Result<NextStep> {
        let basiq = &self.stage.basiq;
        let connection = told
            .last()
            .and_then(|event| event.pointer("/context/connectionId"))
            .and_then(Value::as_str);
        let connection = || connection.context("the event does not tell its connection");
        Ok(match (self.scenario.flow, told.len()) {
            (DemoFlow::Resubmits, 1) => {
                self.acts("the backend sends the right one").await?;
                let job = basiq.update(person, connection()?, &RIGHT).await?;
                NextStep::Watch(job, Some("update"))
            }
            (DemoFlow::Updates, 1) => {
                self.acts("the backend updates the login").await?;
                let job = basiq.update(person, connection()?, &UNLUCKY).await?;
                NextStep::Watch(job, Some("update"))
            }
            (DemoFlow::TriesThreeTimes, 1 | 2) => {
                self.acts("the backend tries again").await?;
                let job = basiq.refresh(person, connection()?).await?;
                NextStep::Watch(job, Some("refresh"))
            }
            (DemoFlow::Subscribes, 1) => {
                self.acts("the night comes").await?;
                NextStep::Wait
            }
            _ => NextStep::End,
        })
    }

    /// Checks that the relay has recorded the expected number of attempts for the last event.
    async fn check_attempts(&self, watch_id: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + RECORD_PATIENCE;
        let expected = self.scenario.attempts;
        loop {
            let (status, attempts) = self.stage.last_delivery(watch_id).await?;
            if status == "delivered" && attempts == expected {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "its last event is {status} after {attempts} attempts, not delivered after {expected}"
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
