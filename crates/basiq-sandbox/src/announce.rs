//! Sends webhooks as Basiq does: thin, and signed as the Standard Webhooks specification says. A webhook is sent only
//! when a connection has new data or stopped working.

use std::time::Duration;

use relay_domain::{SigningSecret, signing};
use reqwest::{Client, Url, header};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    Sandbox,
    life::{ScriptedJob, StepState},
    script::Origin,
    state::{StoredJob, is_for_the_person, new_id},
    view::TRANSACTIONS,
};

/// The interval at which the sandbox checks for settled jobs.
const INTERVAL: Duration = Duration::from_millis(50);

/// The waits before each attempt. Basiq's own schedule is longer.
const TRIES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(5),
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

/// A webhook to send.
struct Message {
    id: String,
    body: String,
}

/// Sends a webhook for each job that settles, until `stop` is cancelled. Links begin with `base`.
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
    let mut sending = JoinSet::new();
    while !stop.is_cancelled() {
        for (kind, entity) in settled(&sandbox) {
            let message = message(kind, &entity, &base);
            let (client, sandbox, webhook) = (client.clone(), sandbox.clone(), webhook.clone());
            sending.spawn(async move { send(&client, &sandbox, &webhook, &message).await });
        }
        while sending.try_join_next().is_some() {}
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Returns the event type and entity of each job that settled since the last call.
fn settled(sandbox: &Sandbox) -> Vec<(&'static str, String)> {
    let now = sandbox.now();
    let mut memory = sandbox.memory();
    let waiting = std::mem::take(&mut memory.unannounced);
    let mut events = Vec::new();
    for id in waiting {
        let Some(StoredJob::Life(job)) = memory.jobs.get(&id) else {
            continue;
        };
        if job.is_running(now) {
            memory.unannounced.push(id);
        } else {
            events.extend(event_of(job, sandbox));
        }
    }
    events
}

/// Returns the event of a settled job. Basiq sends none for a statement, a report or an unavailable bank.
fn event_of(job: &ScriptedJob, sandbox: &Sandbox) -> Option<(&'static str, String)> {
    let is_told = matches!(
        job.script.origin,
        Origin::Create | Origin::Update | Origin::Refresh
    );
    let connection = job.connection_id.as_ref().filter(|_| is_told)?;
    let user = &job.user_id;
    let now = sandbox.now();
    let states = job.at(now).steps;
    let failed = job.script.steps.iter().zip(&states);
    let failed = failed
        .filter(|(_, state)| **state == StepState::Failed)
        .any(|(step, _)| is_for_the_person(step));
    if failed {
        let entity = format!("/users/{user}/connections/{connection}");
        return Some(("connection.invalidated", entity));
    }
    let has_news = job.state_of(TRANSACTIONS, now) == Some(StepState::Success);
    has_news.then(|| {
        let entity = format!("/users/{user}/transactions?filter=connection.id.eq('{connection}')");
        ("transactions.updated", entity)
    })
}

fn message(kind: &str, entity: &str, base: &str) -> Message {
    let event = new_id();
    let links = json!({
        "event": format!("{base}/events/{event}"),
        "eventEntity": format!("{base}{entity}"),
    });
    let body = json!({ "eventTypeId": kind, "eventId": event, "links": links });
    Message {
        id: new_id(),
        body: body.to_string(),
    }
}

async fn send(client: &Client, sandbox: &Sandbox, webhook: &SandboxWebhook, message: &Message) {
    for wait in TRIES {
        tokio::time::sleep(wait).await;
        match try_once(client, sandbox, webhook, message).await {
            Ok(()) => return debug!(webhook.id = message.id, "a webhook was accepted"),
            Err(error) => warn!(webhook.id = message.id, error, "a webhook was not accepted"),
        }
    }
}

async fn try_once(
    client: &Client,
    sandbox: &Sandbox,
    webhook: &SandboxWebhook,
    message: &Message,
) -> Result<(), String> {
    let secrets = [&webhook.secret];
    let signed = signing::sign(&message.id, sandbox.now(), &message.body, &secrets)
        .map_err(|error| error.to_string())?;
    let mut request = client
        .post(webhook.url.clone())
        .header(header::CONTENT_TYPE, "application/json")
        .body(message.body.clone());
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
