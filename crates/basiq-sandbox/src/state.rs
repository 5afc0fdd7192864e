//! The sandbox's state: users, connections and jobs. Also starts jobs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    bank::{self, QUEUED, SandboxBank},
    bounded_map::BoundedMap,
    calls::CallLog,
    error::ApiError,
    fault::{self, Fault, FaultKind},
    life::{GivenAnswer, ScriptedJob, StepState},
    plan::{self, BankConditions, BankLogin},
    script::{JobScript, Origin, ScriptRetries, ScriptStep, StepEnd},
    token::IssuedTokens,
    view::{ACCOUNTS, TRANSACTIONS, VERIFY},
};

/// The maximum number of users, of connections and of jobs that are kept.
const REMEMBERED: usize = 100_000;

/// A person.
#[derive(Debug, Clone)]
pub(super) struct SandboxUser {
    pub(super) id: String,
    /// The given fields of the person: `email`, `mobile`, names and others.
    pub(super) profile: Map<String, Value>,
    pub(super) connections: Vec<String>,
}

/// A bank that is connected to a person.
#[derive(Debug, Clone)]
pub(super) struct SandboxConnection {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) institution_id: String,
    /// `web`, or the format of an uploaded statement: `pdf` or `csv`.
    pub(super) method: &'static str,
    pub(super) created: Timestamp,
    pub(super) last_used: Timestamp,
    login: BankLogin,
    latest_job: Option<String>,
    before: ConnectionData,
}

impl SandboxConnection {
    /// Returns the known credentials.
    pub(super) fn login(&self) -> &BankLogin {
        &self.login
    }
}

/// The result of a connection's jobs: its status, and which data was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionData {
    /// `pending`, `active` or `invalid`.
    pub(super) status: &'static str,
    pub(super) accounts: bool,
    pub(super) transactions: bool,
}

/// A job: either one with a script, or a fixed document.
#[derive(Debug, Clone)]
pub(super) enum StoredJob {
    Life(Box<ScriptedJob>),
    Document(Value),
}

/// The result of a call that starts a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StartedJob {
    pub(super) id: String,
    /// False if a job was already queued or running, and `id` is that job.
    pub(super) is_new: bool,
}

/// The whole state of a sandbox.
#[derive(Debug)]
pub(super) struct SandboxState {
    pub(super) users: BoundedMap<SandboxUser>,
    pub(super) connections: BoundedMap<SandboxConnection>,
    pub(super) jobs: BoundedMap<StoredJob>,
    pub(super) tokens: IssuedTokens,
    pub(super) faults: Vec<Fault>,
    pub(super) calls: CallLog,
    /// Jobs whose end was not yet announced by a webhook.
    pub(super) unannounced: Vec<String>,
    announces: bool,
    speed: f64,
    update_retries: ScriptRetries,
    dice: StdRng,
    times_asked: u64,
}

/// Creates a new id in Basiq's format.
pub(super) fn new_id() -> String {
    Uuid::new_v4().to_string()
}

impl SandboxState {
    pub(super) fn new(
        speed: f64,
        update_retries: ScriptRetries,
        faults: Vec<Fault>,
        chance: u64,
    ) -> Self {
        Self {
            users: BoundedMap::at_most(REMEMBERED),
            connections: BoundedMap::at_most(REMEMBERED),
            jobs: BoundedMap::at_most(REMEMBERED),
            tokens: IssuedTokens::default(),
            faults,
            calls: CallLog::default(),
            unannounced: Vec::new(),
            announces: false,
            speed,
            update_retries,
            dice: StdRng::seed_from_u64(chance),
            times_asked: chance,
        }
    }

    /// Starts to keep the list of jobs whose end must be announced.
    pub(super) fn announce(&mut self) {
        self.announces = true;
    }

    /// Chooses at random the faults that the next call meets.
    pub(super) fn draw_faults(&mut self) -> Vec<FaultKind> {
        let dice = &mut self.dice;
        let met = |fault: &&Fault| fault.rate >= 1.0 || dice.random::<f64>() < fault.rate;
        let met = self.faults.iter().filter(met);
        met.map(|fault| fault.kind.clone()).collect()
    }

    pub(super) fn add_user(&mut self, id: String, profile: Map<String, Value>) -> SandboxUser {
        let user = SandboxUser {
            id: id.clone(),
            profile,
            connections: Vec::new(),
        };
        self.users.keep(id, user.clone());
        user
    }

    pub(super) fn user(&self, id: &str) -> Result<&SandboxUser, ApiError> {
        let missing = || ApiError::not_found("User does not exist.");
        self.users.get(id).ok_or_else(missing)
    }

    pub(super) fn connection(&self, user: &str, id: &str) -> Result<&SandboxConnection, ApiError> {
        self.user(user)?;
        self.connections
            .get(id)
            .filter(|connection| connection.user_id == user)
            .ok_or_else(|| ApiError::not_found("Connection does not exist."))
    }

    /// Returns a user's connections, oldest first.
    pub(super) fn connections_of(&self, user: &SandboxUser) -> Vec<&SandboxConnection> {
        let ids = user.connections.iter();
        ids.filter_map(|id| self.connections.get(id)).collect()
    }

    /// Adds a connection without a job. The user must exist.
    pub(super) fn add_connection(&mut self, added: NewConnection<'_>, now: Timestamp) -> String {
        let id = added.id.unwrap_or_else(new_id);
        if let Some(user) = self.users.get_mut(added.user_id) {
            user.connections.push(id.clone());
        }
        let connection = SandboxConnection {
            id: id.clone(),
            user_id: added.user_id.to_owned(),
            institution_id: added.institution_id.to_owned(),
            method: added.method,
            created: now,
            last_used: now,
            login: added.login,
            latest_job: None,
            before: ConnectionData {
                status: "pending",
                accounts: false,
                transactions: false,
            },
        };
        self.connections.keep(id.clone(), connection);
        id
    }

    /// Returns the running job that connects the user to that bank with that login. Queued jobs count as running.
    pub(super) fn being_made(
        &self,
        user: &SandboxUser,
        institution_id: &str,
        login: &BankLogin,
        now: Timestamp,
    ) -> Option<StartedJob> {
        self.connections_of(user)
            .into_iter()
            .filter(|c| c.institution_id == institution_id && c.login == *login)
            .find_map(|connection| self.running(connection, now))
    }

    /// Returns the connection's job that is queued or running.
    pub(super) fn running(
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
    pub(super) fn read_bank(
        &mut self,
        connection_id: &str,
        origin: Origin,
        login: Option<BankLogin>,
        now: Timestamp,
    ) -> Result<StartedJob, ApiError> {
        let missing = || ApiError::not_found("Connection does not exist.");
        let connection = self.connections.get(connection_id).ok_or_else(missing)?;
        if let Some(running) = self.running(connection, now) {
            return Ok(running);
        }
        let login = login.unwrap_or_else(|| connection.login.clone());
        let institution_id = connection.institution_id.clone();
        let user_id = connection.user_id.clone();
        let bank = bank::find_bank(&institution_id).ok_or_else(missing)?;
        let conditions = self.conditions(bank);
        let mut script = JobScript {
            origin,
            user_id: Some(user_id),
            connection_id: Some(connection_id.to_owned()),
            institution_id,
            queued: QUEUED,
            retries: None,
            steps: plan::read_bank(bank, &login, conditions),
        };
        let waits = origin == Origin::Update && plan::meets_unavailable_bank(&script.steps);
        script.retries = waits.then_some(self.update_retries);
        if let Some(connection) = self.connections.get_mut(connection_id) {
            connection.login = login;
        }
        Ok(self.start(script, now))
    }

    fn conditions(&mut self, bank: &SandboxBank) -> BankConditions {
        if bank.mfa == bank::MfaRule::Sometimes {
            self.times_asked = self.times_asked.wrapping_add(1);
        }
        BankConditions {
            asks: self.times_asked % 2 == 1,
            outage: fault::is_out(&self.faults, bank.id),
        }
    }

    /// Starts a job from its script. The script's user and connection must exist, if it names any.
    pub(super) fn start(&mut self, script: JobScript, now: Timestamp) -> StartedJob {
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
            speed: self.speed,
            script,
            answers: BTreeMap::new(),
        };
        if self.announces {
            self.unannounced.push(id.clone());
        }
        self.jobs.keep(id.clone(), StoredJob::Life(Box::new(job)));
        StartedJob { id, is_new: true }
    }

    /// Returns the result of the connection's jobs until `now`.
    pub(super) fn gained(&self, connection: &SandboxConnection, now: Timestamp) -> ConnectionData {
        let latest = connection.latest_job.as_ref();
        match latest.and_then(|id| self.jobs.get(id)) {
            Some(StoredJob::Life(job)) => after_job(connection.before, job, now),
            _ => connection.before,
        }
    }

    /// Answers the open challenge of a job. A wrong answer ends the job, without a second try.
    pub(super) fn answer(
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
        if right {
            return Ok(());
        }
        Err(ApiError::not_valid(
            "mfa-response",
            "The answer was not accepted by the institution.",
        ))
    }
}

/// A connection to add.
pub(super) struct NewConnection<'a> {
    /// The connection's id; `None` means a new id.
    pub(super) id: Option<String>,
    pub(super) user_id: &'a str,
    pub(super) institution_id: &'a str,
    pub(super) method: &'static str,
    pub(super) login: BankLogin,
}

fn after_job(before: ConnectionData, job: &ScriptedJob, now: Timestamp) -> ConnectionData {
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
pub(super) fn is_for_the_person(step: &ScriptStep) -> bool {
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
