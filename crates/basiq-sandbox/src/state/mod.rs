//! The sandbox's state: users, connections, consents, jobs and events.

mod consents;
mod events;
mod jobs;
mod refreshes;
mod removal;

use std::time::Duration;

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value};
use uuid::Uuid;

pub(super) use self::{
    events::OutgoingWebhook,
    jobs::{StartedJob, StoredJob},
};
use crate::{
    agenda::{Agenda, AgendaItem},
    bank::ConnectionMethod,
    bounded_map::BoundedMap,
    calls::CallLog,
    consent::SandboxConsent,
    error::ApiError,
    event::{EventSubject, SandboxEvent, SandboxEventType},
    fault::{Fault, FaultKind},
    login::BankLogin,
    script::ScriptRetries,
    token::IssuedTokens,
};

/// The maximum number of users, of connections, of consents, of jobs and of events that are kept.
const REMEMBERED: usize = 100_000;

/// A person as Basiq knows them: a profile, with the banks they connected and the consents they gave.
#[derive(Debug, Clone)]
pub(super) struct SandboxUser {
    pub(super) id: String,
    /// The given fields of the person: `email`, `mobile`, names and others.
    pub(super) profile: Map<String, Value>,
    /// The ids of the connections, the deleted ones included, oldest first.
    connections: Vec<String>,
    /// The ids of the consents, oldest first.
    consents: Vec<String>,
}

/// A bank that is connected to a person.
#[derive(Debug, Clone)]
pub(super) struct SandboxConnection {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) institution_id: String,
    pub(super) method: ConnectionMethod,
    pub(super) created: Timestamp,
    pub(super) last_used: Timestamp,
    login: BankLogin,
    latest_job: Option<String>,
    before: ConnectionData,
    /// The status in the latest event about the connection.
    told_status: &'static str,
    is_deleted: bool,
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

/// What a sandbox does by itself, and how fast.
#[derive(Debug, Clone)]
pub(super) struct StateRules {
    /// How many times faster than at Basiq its clock runs.
    pub(super) speed: f64,
    /// How the queue retries an update that met an unavailable bank.
    pub(super) update_retries: ScriptRetries,
    /// The time from a connection's success to its next refresh, if it is refreshed at all.
    pub(super) refresh_every: Option<Duration>,
    /// How long a consent lasts.
    pub(super) consent_lasts: Duration,
    /// The events whose webhooks are sent. `None` means that nobody receives any, and no events are kept.
    pub(super) subscribed: Option<Vec<SandboxEventType>>,
}

/// The whole state of a sandbox.
#[derive(Debug)]
pub(super) struct SandboxState {
    pub(super) users: BoundedMap<SandboxUser>,
    pub(super) connections: BoundedMap<SandboxConnection>,
    pub(super) consents: BoundedMap<SandboxConsent>,
    pub(super) jobs: BoundedMap<StoredJob>,
    pub(super) events: BoundedMap<SandboxEvent>,
    pub(super) tokens: IssuedTokens,
    pub(super) faults: Vec<Fault>,
    pub(super) calls: CallLog,
    rules: StateRules,
    agenda: Agenda,
    outbox: Vec<OutgoingWebhook>,
    dice: StdRng,
    times_asked: u64,
}

/// Creates a new id in Basiq's format.
pub(super) fn new_id() -> String {
    Uuid::new_v4().to_string()
}

impl SandboxState {
    pub(super) fn new(rules: StateRules, faults: Vec<Fault>, chance: u64) -> Self {
        Self {
            users: BoundedMap::at_most(REMEMBERED),
            connections: BoundedMap::at_most(REMEMBERED),
            consents: BoundedMap::at_most(REMEMBERED),
            jobs: BoundedMap::at_most(REMEMBERED),
            events: BoundedMap::at_most(REMEMBERED),
            tokens: IssuedTokens::default(),
            faults,
            calls: CallLog::default(),
            rules,
            agenda: Agenda::default(),
            outbox: Vec::new(),
            dice: StdRng::seed_from_u64(chance),
            times_asked: chance,
        }
    }

    /// Does everything that time has brought until `now`.
    pub(super) fn run_due(&mut self, now: Timestamp) {
        while let Some((at, item)) = self.agenda.take_due(now) {
            match item {
                AgendaItem::Job(id) => self.follow_job(&id, at),
                AgendaItem::Refresh(id) => self.refresh_by_itself(&id, at),
                AgendaItem::Consent(id) => self.age_consent(&id, at),
            }
        }
    }

    /// Chooses at random the faults that the next call meets.
    pub(super) fn draw_faults(&mut self) -> Vec<FaultKind> {
        let dice = &mut self.dice;
        let met = |fault: &&Fault| fault.rate >= 1.0 || dice.random::<f64>() < fault.rate;
        let met = self.faults.iter().filter(met);
        met.map(|fault| fault.kind.clone()).collect()
    }

    pub(super) fn add_user(
        &mut self,
        id: &str,
        profile: Map<String, Value>,
        now: Timestamp,
    ) -> SandboxUser {
        let user = SandboxUser {
            id: id.to_owned(),
            profile,
            connections: Vec::new(),
            consents: Vec::new(),
        };
        self.users.keep(id.to_owned(), user.clone());
        self.emit(SandboxEventType::UserCreated, &EventSubject::user(id), now);
        user
    }

    /// Changes the given fields of a user. The others stay.
    pub(super) fn update_user(
        &mut self,
        id: &str,
        profile: Map<String, Value>,
        now: Timestamp,
    ) -> Result<SandboxUser, ApiError> {
        let user = self.users.get_mut(id).ok_or_else(no_user)?;
        user.profile.extend(profile);
        let user = user.clone();
        self.emit(SandboxEventType::UserUpdated, &EventSubject::user(id), now);
        Ok(user)
    }

    pub(super) fn user(&self, id: &str) -> Result<&SandboxUser, ApiError> {
        self.users.get(id).ok_or_else(no_user)
    }

    pub(super) fn connection(&self, user: &str, id: &str) -> Result<&SandboxConnection, ApiError> {
        self.user(user)?;
        self.connections
            .get(id)
            .filter(|connection| connection.user_id == user && !connection.is_deleted)
            .ok_or_else(no_connection)
    }

    /// Returns a user's connections, oldest first.
    pub(super) fn connections_of(&self, user: &SandboxUser) -> Vec<&SandboxConnection> {
        let mut connections = self.sources_of(user);
        connections.retain(|connection| !connection.is_deleted);
        connections
    }

    /// Returns the connections whose data a user has, oldest first. The data of a deleted one stays.
    pub(super) fn sources_of(&self, user: &SandboxUser) -> Vec<&SandboxConnection> {
        let ids = user.connections.iter();
        ids.filter_map(|id| self.connections.get(id)).collect()
    }

    /// Adds a connection without a job. The user must exist. The connection comes with a consent.
    pub(super) fn add_connection(&mut self, added: NewConnection<'_>, now: Timestamp) -> String {
        let id = added.id.unwrap_or_else(new_id);
        self.consent(added.user_id, now);
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
            told_status: added.told_status,
            is_deleted: false,
        };
        self.connections.keep(id.clone(), connection);
        let subject = EventSubject::connection(added.user_id, &id);
        self.emit(SandboxEventType::ConnectionCreated, &subject, now);
        id
    }
}

/// A connection to a bank that the sandbox adds.
pub(super) struct NewConnection<'a> {
    /// The connection's id; `None` means a new id.
    pub(super) id: Option<String>,
    pub(super) user_id: &'a str,
    pub(super) institution_id: &'a str,
    pub(super) method: ConnectionMethod,
    pub(super) login: BankLogin,
    /// `pending`, or `active` if the connection is assumed to have worked before.
    pub(super) told_status: &'static str,
}

fn no_user() -> ApiError {
    ApiError::not_found("User does not exist.")
}

fn no_connection() -> ApiError {
    ApiError::not_found("Connection does not exist.")
}
