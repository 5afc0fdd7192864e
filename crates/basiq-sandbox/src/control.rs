//! The controls of a sandbox that Basiq does not have: sends any webhook, and changes a consent at once.

use std::time::Duration;

use thiserror::Error;

use crate::{
    Sandbox,
    accounts::account_ids,
    consent::ConsentChange,
    event::{EventSubject, SandboxEvent, SandboxEventType},
    state::{OutgoingWebhook, SandboxState, new_id},
};

/// The maximum number of copies of one webhook.
const MOST_COPIES: u32 = 100;

/// A webhook that the sandbox is told to send, whether its event happened or not. Ids need not exist.
#[derive(Debug, Clone)]
pub struct WebhookToSend {
    /// The type of the event.
    pub event_type: SandboxEventType,
    /// The user whom the event is about.
    pub user_id: String,
    /// The connection, for events about a connection or its data. Without it, the user's latest.
    pub connection_id: Option<String>,
    /// The consent, for events about a consent. Without it, the user's latest.
    pub consent_id: Option<String>,
    /// The event's id. Without it, a new one.
    pub event_id: Option<String>,
    /// The id of the webhook. Without it, a new one.
    pub webhook_id: Option<String>,
    /// How often it is sent, with the same ids.
    pub copies: u32,
    /// How long it is held back, on the machine's clock.
    pub delay: Duration,
}

impl WebhookToSend {
    /// Creates a webhook that is sent once and at once, with new ids.
    #[must_use]
    pub fn new(event_type: SandboxEventType, user_id: &str) -> Self {
        Self {
            event_type,
            user_id: user_id.to_owned(),
            connection_id: None,
            consent_id: None,
            event_id: None,
            webhook_id: None,
            copies: 1,
            delay: Duration::ZERO,
        }
    }
}

/// The ids of a webhook that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentWebhook {
    /// The event's id.
    pub event_id: String,
    /// The value of the header `webhook-id`.
    pub webhook_id: String,
}

/// Why a control did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ControlError {
    /// Nobody receives webhooks.
    #[error("No receiver of webhooks is set (`--webhook-url`).")]
    NoReceiver,
    /// The request names no connection, and the user has none.
    #[error("The user has no connection: name one by `connectionId`.")]
    NoConnection,
    /// The request names no consent, and the user has none.
    #[error("The user has no consent: name one by `consentId`.")]
    NoConsent,
    /// The number of copies is 0 or too large.
    #[error("From 1 to 100 copies can be sent.")]
    Copies,
    /// No such event happened in the last seven days.
    #[error("The event does not exist.")]
    UnknownEvent,
    /// The consent does not exist.
    #[error("The consent does not exist.")]
    UnknownConsent,
    /// The consent is over and cannot change so.
    #[error("The consent is over. One that expired can be `updated`, one that was revoked cannot.")]
    ConsentOver,
}

impl Sandbox {
    /// Sends a webhook, even of a type to which the receiver is not subscribed.
    pub fn send_webhook(&self, request: &WebhookToSend) -> Result<SentWebhook, ControlError> {
        let now = self.now();
        let mut memory = self.memory();
        let subject = subject(&memory, request);
        let missing = match request.event_type.parts().0 {
            "consent" => ControlError::NoConsent,
            _ => ControlError::NoConnection,
        };
        let event = SandboxEvent {
            id: request.event_id.clone().unwrap_or_else(new_id),
            event_type: request.event_type,
            user_id: request.user_id.clone(),
            entity: request.event_type.entity(&subject).ok_or(missing)?,
            connection_id: subject.connection,
            created: now,
            webhook_id: request.webhook_id.clone().unwrap_or_else(new_id),
        };
        send(&mut memory, event, request.copies, request.delay)
    }

    /// Sends the webhook of an event again, with the same ids.
    pub fn send_webhook_again(
        &self,
        event_id: &str,
        copies: u32,
        delay: Duration,
    ) -> Result<SentWebhook, ControlError> {
        let mut memory = self.memory();
        let event = memory.events.get(event_id).cloned();
        let event = event.ok_or(ControlError::UnknownEvent)?;
        send(&mut memory, event, copies, delay)
    }

    /// Returns the id of a user's latest consent.
    #[must_use]
    pub fn latest_consent(&self, user_id: &str) -> Option<String> {
        let memory = self.memory();
        memory.latest_consent(user_id).map(|c| c.id.clone())
    }

    /// Changes a consent at once, as if time or the person had, and sends the webhook about it.
    pub fn change_consent(
        &self,
        consent_id: &str,
        change: ConsentChange,
    ) -> Result<(), ControlError> {
        let now = self.now();
        let mut memory = self.memory();
        if memory.consents.get(consent_id).is_none() {
            return Err(ControlError::UnknownConsent);
        }
        let is_changed = memory.change_consent(consent_id, change, now);
        is_changed.then_some(()).ok_or(ControlError::ConsentOver)
    }
}

/// Returns whom and what the requested event is about.
fn subject(memory: &SandboxState, request: &WebhookToSend) -> EventSubject {
    let is_about = |entity| request.event_type.parts().0 == entity;
    let latest_connection = || {
        let user = memory.users.get(&request.user_id)?;
        let connections = memory.connections_of(user);
        connections.last().map(|connection| connection.id.clone())
    };
    let has_connection = !is_about("user") && !is_about("consent");
    let connection = request.connection_id.clone().or_else(latest_connection);
    let connection = connection.filter(|_| has_connection);
    let latest_consent = || {
        memory
            .latest_consent(&request.user_id)
            .map(|c| c.id.clone())
    };
    let first_account = |connection: &String| account_ids(connection).into_iter().next();
    EventSubject {
        user: request.user_id.clone(),
        consent: request.consent_id.clone().or_else(latest_consent),
        account: connection.as_ref().and_then(first_account),
        connection,
    }
}

fn send(
    memory: &mut SandboxState,
    event: SandboxEvent,
    copies: u32,
    delay: Duration,
) -> Result<SentWebhook, ControlError> {
    if !memory.has_receiver() {
        return Err(ControlError::NoReceiver);
    }
    if !(1..=MOST_COPIES).contains(&copies) {
        return Err(ControlError::Copies);
    }
    for _ in 0..copies {
        let event = event.clone();
        memory.send(OutgoingWebhook { event, delay });
    }
    let sent = SentWebhook {
        event_id: event.id.clone(),
        webhook_id: event.webhook_id.clone(),
    };
    memory.events.keep(event.id.clone(), event);
    Ok(sent)
}
