//! What the sandbox remembers: users, connections and jobs, and what starts a job.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::sandbox::{
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

/// How many of each are remembered.
const REMEMBERED: usize = 100_000;

/// A person.
#[derive(Debug, Clone)]
pub(super) struct SandboxUser {
    pub(super) id: String,
    /// What was told of the person: `email`, `mobile`, names.
    pub(super) profile: Map<String, Value>,
    pub(super) connections: Vec<String>,
}

/// A bank connected to a person.
#[derive(Debug, Clone)]
pub(super) struct SandboxConnection {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) institution_id: String,
    /// `web`, or `pdf` and `csv` of a statement.
    pub(super) method: &'static str,
    pub(super) created: Timestamp,
    pub(super) last_used: Timestamp,
    login: BankLogin,
    latest_job: Option<String>,
    before: ConnectionData,
}

impl SandboxConnection {
    /// The credentials known.
    pub(super) fn login(&self) -> &BankLogin {
        &self.login
    }
}

/// What its jobs have made of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionData {
    /// `pending`, `active` or `invalid`.
    pub(super) status: &'static str,
    pub(super) accounts: bool,
    pub(super) transactions: bool,
}

/// A job, or a document that stands for one.
#[derive(Debug, Clone)]
pub(super) enum StoredJob {
    Life(Box<ScriptedJob>),
    Document(Value),
}

/// A job that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StartedJob {
    pub(super) id: String,
    /// False if one was queued or running already: this is it.
    pub(super) is_new: bool,
}

/// Everything remembered.
#[derive(Debug)]
pub(super) struct SandboxState {
    pub(super) users: BoundedMap<SandboxUser>,
    pub(super) connections: BoundedMap<SandboxConnection>,
    pub(super) jobs: BoundedMap<StoredJob>,
    pub(super) tokens: IssuedTokens,
    pub(super) faults: Vec<Fault>,
    pub(super) calls: CallLog,
    /// Jobs whose end was not announced by a webhook yet.
    pub(super) unannounced: Vec<String>,
    announces: bool,
    speed: f64,
    update_retries: ScriptRetries,
    dice: StdRng,
    times_asked: u64,
}

/// A new id of Basiq's kind.
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

    /// Remembers from now on which jobs are to be announced.
    pub(super) fn announce(&mut self) {
        self.announces = true;
    }

    /// The faults that the next call meets.
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

    /// A user's connections, oldest first.
    pub(super) fn connections_of(&self, user: &SandboxUser) -> Vec<&SandboxConnection> {
        let ids = user.connections.iter();
        ids.filter_map(|id| self.connections.get(id)).collect()
    }

    /// Adds a connection without a job. The user exists.
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

    /// The user's connection to that bank with that login whose job is queued or running.
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

    /// The connection's job that is queued or running.
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

    /// Starts a job that reads a bank, unless one is queued or running. `login` replaces the one
    /// known.
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
        let weather = self.weather(bank);
        let mut script = JobScript {
            origin,
            user_id: Some(user_id),
            connection_id: Some(connection_id.to_owned()),
            institution_id,
            queued: QUEUED,
            retries: None,
            steps: plan::read_bank(bank, &login, weather),
        };
        let waits = origin == Origin::Update && plan::meets_unavailable_bank(&script.steps);
        script.retries = waits.then_some(self.update_retries);
        if let Some(connection) = self.connections.get_mut(connection_id) {
            connection.login = login;
        }
        Ok(self.start(script, now))
    }

    fn weather(&mut self, bank: &SandboxBank) -> BankConditions {
        if bank.mfa == bank::MfaRule::Sometimes {
            self.times_asked = self.times_asked.wrapping_add(1);
        }
        BankConditions {
            asks: self.times_asked % 2 == 1,
            outage: fault::is_out(&self.faults, bank.id),
        }
    }

    /// Starts a job by its script. Its user and connection exist, if it names any.
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

    /// What its jobs have made of a connection until `now`.
    pub(super) fn gained(&self, connection: &SandboxConnection, now: Timestamp) -> ConnectionData {
        let latest = connection.latest_job.as_ref();
        match latest.and_then(|id| self.jobs.get(id)) {
            Some(StoredJob::Life(job)) => after_job(connection.before, job, now),
            _ => connection.before,
        }
    }

    /// Answers the open challenge of a job. A wrong answer ends the job: there is no second try.
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
    /// Its id, if it must be a certain one.
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

/// Whether a failure is one that only the person can mend; such end a connection's usefulness.
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
