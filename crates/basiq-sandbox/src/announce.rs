//! Sends webhooks as Basiq does: thin, signed as the Standard Webhooks specification says, and tried eight times.

use std::{sync::Arc, time::Duration};

use relay_domain::{SigningSecret, signing};
use reqwest::{Client, Url, header};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Sandbox, event::SandboxEvent, life::scaled, state::OutgoingWebhook};

/// The interval at which the sandbox looks for events.
const INTERVAL: Duration = Duration::from_millis(50);

/// Basiq's waits before each attempt, on the sandbox's clock.
const TRIES: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(10),
];

/// The time-out of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The receiver of webhooks, and the secret that signs them.
#[derive(Debug, Clone)]
pub struct SandboxWebhook {
    /// The address of the receiver, such as a relay's `/basiq/webhook`.
    pub url: Url,
    /// The secret that signs each webhook.
    pub secret: SigningSecret,
}

/// Sends webhooks to their receiver.
struct WebhookSender {
    sandbox: Sandbox,
    client: Client,
    webhook: SandboxWebhook,
    /// The begin of absolute links.
    base: String,
}

/// Sends a webhook for each event, until `stop` is cancelled. Links begin with `base`.
pub(super) async fn announce(
    sandbox: Sandbox,
    webhook: SandboxWebhook,
    base: String,
    stop: CancellationToken,
) {
    let client = Client::builder().no_proxy().timeout(TIMEOUT).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return warn!(%error, "no webhooks are sent"),
    };
    let sender = Arc::new(WebhookSender {
        sandbox,
        client,
        webhook,
        base,
    });
    let mut sending = JoinSet::new();
    while !stop.is_cancelled() {
        for webhook in sender.sandbox.take_webhooks() {
            let sender = Arc::clone(&sender);
            sending.spawn(async move { sender.send(webhook).await });
        }
        while sending.try_join_next().is_some() {}
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

impl WebhookSender {
    /// Sends a webhook until it is accepted, or gives it up after the last attempt.
    async fn send(&self, webhook: OutgoingWebhook) {
        let OutgoingWebhook { event, delay } = webhook;
        tokio::time::sleep(delay).await;
        for wait in TRIES {
            tokio::time::sleep(scaled(wait, self.sandbox.speed())).await;
            let (id, kind) = (&event.webhook_id, event.event_type.as_str());
            match self.try_once(&event).await {
                Ok(()) => return debug!(webhook.id = id, kind, "a webhook was accepted"),
                Err(error) => warn!(webhook.id = id, kind, error, "a webhook was not accepted"),
            }
        }
        warn!(
            webhook.id = event.webhook_id,
            "a webhook is given up; Basiq would now disable the receiver"
        );
    }

    async fn try_once(&self, event: &SandboxEvent) -> Result<(), String> {
        let body = event.webhook_body(&self.base);
        let (id, now) = (&event.webhook_id, self.sandbox.now());
        let signed = signing::sign(id, now, &body, &[&self.webhook.secret])
            .map_err(|error| error.to_string())?;
        let mut request = self
            .client
            .post(self.webhook.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        for (name, value) in signed.entries() {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("HTTP {}", answer.status().as_u16()))
        }
    }
}
