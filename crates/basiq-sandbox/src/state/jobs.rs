//! Jobs: how one starts, how its challenge is answered, and what it leaves behind.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    agenda::AgendaItem,
    bank::{self, ConnectionMethod, QUEUED, SandboxBank},
    error::ApiError,
    fault,
    life::{GivenAnswer, ScriptedJob, StepState},
    login::BankLogin,
    plan::{self, BankConditions, BankVisit},
    script::{JobScript, Origin, ScriptStep, StepEnd},
    state::{ConnectionData, SandboxConnection, SandboxState, SandboxUser, new_id, no_connection},
    view::{ACCOUNTS, TRANSACTIONS, VERIFY},
};

/// A job: either one with a script, or a fixed document.
#[derive(Debug, Clone)]
pub(crate) enum StoredJob {
    Life(Box<ScriptedJob>),
    Document(Value),
}

/// The result of a call that starts a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartedJob {
    pub(crate) id: String,
    /// False if a job was already queued or running, and `id` is that job.
    pub(crate) is_new: bool,
}

impl SandboxState {
    /// Returns the running job that connects the user to that bank with that login. Queued jobs count as running.
    pub(crate) fn being_made(
        &self,
        user: &SandboxUser,
        institution_id: &str,
        method: ConnectionMethod,
        login: &BankLogin,
        now: Timestamp,
    ) -> Option<StartedJob> {
        self.connections_of(user)
            .into_iter()
            .filter(|c| c.institution_id == institution_id)
            .filter(|c| c.method == method && c.login == *login)
            .find_map(|connection| self.running(connection, now))
    }

    /// Returns the connection's job that is queued or running.
    pub(crate) fn running(
        &self,
        connection: &SandboxConnection,
        now: Timestamp,
    ) -> Option<StartedJob> {
        let id = connection.latest_job.as_ref()?;
        match self.jobs.get(id)? {
            StoredJob::Life(job) if job.is_running(now) => Some(StartedJob {
                id: id.clone(),
                is_new: false,
            }),
            _ => None,
        }
    }

    /// Starts a job that reads a bank, unless one is queued or running. A given `login` replaces the known one.
    pub(crate) fn read_bank(
        &mut self,
        connection_id: &str,
        origin: Origin,
        login: Option<BankLogin>,
        now: Timestamp,
    ) -> Result<StartedJob, ApiError> {
        let connection = self.connections.get(connection_id);
        let connection = connection.ok_or_else(no_connection)?;
        if let Some(running) = self.running(connection, now) {
            return Ok(running);
        }
        let (method, user_id) = (connection.method, connection.user_id.clone());
        let login = login.unwrap_or_else(|| connection.login.clone());
        let institution_id = connection.institution_id.clone();
        let bank = bank::find_bank(&institution_id).ok_or_else(no_connection)?;
        let conditions = self.conditions(bank, &user_id);
        let visit = BankVisit {
            login: &login,
            method,
            origin,
        };
        let mut script = JobScript {
            origin,
            user_id: Some(user_id),
            connection_id: Some(connection_id.to_owned()),
            institution_id,
            queued: QUEUED,
            retries: None,
            steps: plan::read_bank(bank, &visit, conditions),
        };
        let waits = origin == Origin::Update && plan::meets_unavailable_bank(&script.steps);
        script.retries = waits.then_some(self.rules.update_retries);
        if let Some(connection) = self.connections.get_mut(connection_id) {
            connection.login = login;
        }
        Ok(self.start(script, now))
    }

    fn conditions(&mut self, bank: &SandboxBank, user_id: &str) -> BankConditions {
        if bank.mfa == bank::MfaRule::Sometimes {
            self.times_asked = self.times_asked.wrapping_add(1);
        }
        BankConditions {
            asks: self.times_asked % 2 == 1,
            outage: fault::is_out(&self.faults, bank.id),
            without_consent: !self.has_consent(user_id),
        }
    }

    /// Starts a job from its script. The script's user and connection must exist, if it names any.
    pub(crate) fn start(&mut self, script: JobScript, now: Timestamp) -> StartedJob {
        let id = new_id();
        let connection = script
            .connection_id
            .as_ref()
            .and_then(|id| self.connections.get(id));
        if let Some(connection) = connection {
            let before = self.gained(connection, now);
            let connection_id = connection.id.clone();
            if let Some(connection) = self.connections.get_mut(&connection_id) {
                connection.before = before;
                connection.latest_job = Some(id.clone());
                connection.last_used = now;
            }
        }
        let job = ScriptedJob {
            id: id.clone(),
            user_id: script.user_id.clone().unwrap_or_default(),
            connection_id: script.connection_id.clone(),
            created: now,
            speed: self.rules.speed,
            script,
            answers: BTreeMap::new(),
        };
        let first = job.moments().first().map(|change| change.at);
        if let Some(first) = first.filter(|_| self.follows_jobs()) {
            self.agenda.add(first, AgendaItem::Job(id.clone()));
        }
        self.jobs.keep(id.clone(), StoredJob::Life(Box::new(job)));
        StartedJob { id, is_new: true }
    }

    /// Returns the result of the connection's jobs until `now`.
    pub(crate) fn gained(&self, connection: &SandboxConnection, now: Timestamp) -> ConnectionData {
        let latest = connection.latest_job.as_ref();
        match latest.and_then(|id| self.jobs.get(id)) {
            Some(StoredJob::Life(job)) => after_job(connection.before, job, now),
            _ => connection.before,
        }
    }

    /// Answers the open challenge of a job. A wrong answer ends the job, without a second try.
    pub(crate) fn answer(
        &mut self,
        id: &str,
        given: &[String],
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let closed = || ApiError::not_valid("jobId", "The job does not wait for an answer.");
        let Some(StoredJob::Life(job)) = self.jobs.get_mut(id) else {
            return Err(closed());
        };
        let (step, challenge) = job.open_challenge(now).ok_or_else(closed)?;
        if given.len() != challenge.inputs.len() {
            let detail = format!("{} answers are expected.", challenge.inputs.len());
            return Err(ApiError::not_valid("mfa-response", &detail));
        }
        let right = challenge.is_answered_by(given);
        let answers = job.answers.entry(step).or_default();
        answers.push(GivenAnswer { at: now, right });
        if self.follows_jobs() {
            self.agenda.add(now, AgendaItem::Job(id.to_owned()));
        }
        if right {
            return Ok(());
        }
        Err(ApiError::not_valid(
            "mfa-response",
            "The answer was not accepted by the institution.",
        ))
    }
}

/// Returns the result of a job at `now`, added to what was there before it.
pub(super) fn after_job(
    before: ConnectionData,
    job: &ScriptedJob,
    now: Timestamp,
) -> ConnectionData {
    let done = |title| job.state_of(title, now) == Some(StepState::Success);
    let is_failed = |(_, state): &(&ScriptStep, StepState)| *state == StepState::Failed;
    let steps = job.script.steps.iter().zip(job.at(now).steps);
    let failed = steps.into_iter().find(is_failed);
    let status = if failed.is_some_and(|(step, _)| is_for_the_person(step)) {
        "invalid"
    } else if done(VERIFY) {
        "active"
    } else {
        before.status
    };
    ConnectionData {
        status,
        accounts: before.accounts || done(ACCOUNTS),
        transactions: before.transactions || done(TRANSACTIONS),
    }
}

/// Returns whether only the person can fix this failure. Such a failure makes the connection `invalid`.
fn is_for_the_person(step: &ScriptStep) -> bool {
    match &step.end {
        StepEnd::Fails(Some(failure)) => matches!(
            failure.code.as_deref(),
            Some(
                "invalid-credentials"
                    | "authorization-failed"
                    | "user-action-required"
                    | "account-not-accessible-requires-user-action"
            )
        ),
        _ => false,
    }
}
