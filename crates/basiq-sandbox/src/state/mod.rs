//! The sandbox's state: users, connections and jobs.

mod jobs;

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value};
use uuid::Uuid;

pub(super) use self::jobs::{StartedJob, StoredJob, is_for_the_person};
use crate::{
    bounded_map::BoundedMap,
    calls::CallLog,
    error::ApiError,
    fault::{Fault, FaultKind},
    login::BankLogin,
    script::ScriptRetries,
    token::IssuedTokens,
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
