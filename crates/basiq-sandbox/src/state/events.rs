//! Events: finds the events that Basiq would report about jobs, and keeps the webhooks to send.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    accounts::account_ids,
    agenda::AgendaItem,
    event::{EventSubject, SandboxEvent, SandboxEventType},
    life::{ScriptedJob, StepState},
    script::Origin,
    state::{SandboxState, StoredJob, jobs::after_job, new_id},
    view::{ACCOUNTS, TRANSACTIONS},
};

/// A webhook to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutgoingWebhook {
    pub(crate) event: SandboxEvent,
    /// How long it is held back, on the machine's clock.
    pub(crate) delay: Duration,
}

impl EventSubject {
    pub(super) fn user(user_id: &str) -> Self {
        Self {
            user: user_id.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn connection(user_id: &str, connection_id: &str) -> Self {
        Self {
            connection: Some(connection_id.to_owned()),
            ..Self::user(user_id)
        }
    }
}

impl SandboxState {
    /// Returns whether somebody receives webhooks.
    pub(crate) fn has_receiver(&self) -> bool {
        self.rules.subscribed.is_some()
    }

    /// Returns whether changes of jobs matter at the time when they happen.
    pub(super) fn follows_jobs(&self) -> bool {
        self.has_receiver() || self.rules.refresh_every.is_some()
    }

    /// Removes and returns the webhooks to send.
    pub(crate) fn take_webhooks(&mut self) -> Vec<OutgoingWebhook> {
        std::mem::take(&mut self.outbox)
    }

    /// Puts a webhook into the queue of those to send.
    pub(crate) fn send(&mut self, webhook: OutgoingWebhook) {
        self.outbox.push(webhook);
    }

    /// Records an event, and queues its webhook if the receiver is subscribed to it.
    pub(super) fn emit(
        &mut self,
        event_type: SandboxEventType,
        subject: &EventSubject,
        at: Timestamp,
    ) {
        let Some(subscribed) = &self.rules.subscribed else {
            return;
        };
        let is_sent = subscribed.contains(&event_type);
        let Some(entity) = event_type.entity(subject) else {
            return;
        };
        let event = SandboxEvent {
            id: new_id(),
            event_type,
            user_id: subject.user.clone(),
            connection_id: subject.connection.clone(),
            entity,
            created: at,
            webhook_id: new_id(),
        };
        self.events.keep(event.id.clone(), event.clone());
        if is_sent {
            let delay = Duration::ZERO;
            self.send(OutgoingWebhook { event, delay });
        }
    }

    /// Tells what a job changed at `at`, and comes back at its next change.
    pub(super) fn follow_job(&mut self, id: &str, at: Timestamp) {
        let Some(StoredJob::Life(job)) = self.jobs.get(id) else {
            return;
        };
        let job = job.clone();
        if let Some(next) = job.moments().iter().find(|change| change.at > at) {
            self.agenda.add(next.at, AgendaItem::Job(id.to_owned()));
        }
        let reads_a_bank = matches!(
            job.script.origin,
            Origin::Create | Origin::Update | Origin::Refresh
        );
        if let Some(connection_id) = job.connection_id.as_deref().filter(|_| reads_a_bank) {
            let is_over = job.settles_at() == Some(at);
            let subject = EventSubject::connection(&job.user_id, connection_id);
            self.tell_status(&job, connection_id, at);
            self.tell_accounts(&job, connection_id, at);
            if is_over && job.state_of(TRANSACTIONS, at) == Some(StepState::Success) {
                self.emit(SandboxEventType::TransactionsUpdated, &subject, at);
            }
            if is_over {
                self.plan_refresh(connection_id, at);
            }
        }
    }

    /// Reports that a connection works, or that it no longer does. Does not report a first try that fails.
    fn tell_status(&mut self, job: &ScriptedJob, connection_id: &str, at: Timestamp) {
        let Some(connection) = self.connections.get_mut(connection_id) else {
            return;
        };
        let status = after_job(connection.before, job, at).status;
        let told = std::mem::replace(&mut connection.told_status, status);
        let event_type = match (told, status) {
            (told, "active") if told != "active" => SandboxEventType::ConnectionActivated,
            ("active", "invalid") => SandboxEventType::ConnectionInvalidated,
            _ => return,
        };
        let subject = EventSubject::connection(&job.user_id, connection_id);
        self.emit(event_type, &subject, at);
    }

    /// Tells about each account if they were read at `at`.
    fn tell_accounts(&mut self, job: &ScriptedJob, connection_id: &str, at: Timestamp) {
        if job.succeeded_at(ACCOUNTS, at) != Some(at) {
            return;
        }
        for account in account_ids(connection_id) {
            let subject = EventSubject {
                account: Some(account),
                ..EventSubject::connection(&job.user_id, connection_id)
            };
            self.emit(SandboxEventType::AccountUpdated, &subject, at);
        }
    }
}
