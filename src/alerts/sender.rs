//! Posts alerts. Each kind has a queue of its own. An alert gets a few attempts, and never blocks the others for long.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use metrics::counter;
use relay_domain::{AttemptError, CallbackUrl, ErrorChain, SigningSecret, clock::Clock};
use relay_runtime::Reloadable;
use relay_store::{AlertStore, DeliverySigner};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{
    alerts::alert::{Alert, AlertKind, AlertState},
    delivery::{MessageResult, SignedMessage, SingleSender},
};

/// The maximum number of alerts in a queue. Each paused host has an alert of its own.
const QUEUE_CAPACITY: usize = 64;

/// Posts alerts to the operator's URL. Clones share the queues.
#[derive(Clone)]
pub struct AlertSender(Arc<Parts>);

struct Parts {
    single: SingleSender,
    url: CallbackUrl,
    secret: Reloadable<Option<SigningSecret>>,
    clock: Clock,
    relay: String,
    retries: Vec<Duration>,
    store: Arc<dyn AlertStore>,
    store_limit: Duration,
    queues: Vec<AlertQueue>,
}

/// The alerts of one kind, which are sent one after the other.
struct AlertQueue {
    kind: AlertKind,
    sender: Sender<Alert>,
    receiver: Mutex<Receiver<Alert>>,
}

impl AlertQueue {
    fn of(kind: AlertKind) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
        Self {
            kind,
            sender,
            receiver: Mutex::new(receiver),
        }
    }
}

/// The operator's URL for alerts, and the signing secret and retries of alerts.
pub(super) struct AlertTarget {
    pub(super) single: SingleSender,
    pub(super) url: CallbackUrl,
    pub(super) secret: Reloadable<Option<SigningSecret>>,
    /// The name of this relay in its alerts.
    pub(super) relay: String,
    /// The waits between the attempts of one alert.
    pub(super) retries: Vec<Duration>,
    /// Remembers what operators were told.
    pub(super) store: Arc<dyn AlertStore>,
    /// How long the sender waits for the store.
    pub(super) store_limit: Duration,
}

impl AlertSender {
    pub(super) fn new(target: AlertTarget, clock: Clock) -> Self {
        Self(Arc::new(Parts {
            single: target.single,
            url: target.url,
            secret: target.secret,
            clock,
            relay: target.relay,
            retries: target.retries,
            store: target.store,
            store_limit: target.store_limit,
            queues: AlertKind::ALL.map(AlertQueue::of).into(),
        }))
    }

    /// Puts an alert into its queue. Drops it if the queue is full, so the caller never waits for the receiver.
    pub(super) fn enqueue(&self, alert: Alert) {
        let kind = alert.subject.kind;
        let queue = self.0.queues.iter().find(|queue| queue.kind == kind);
        let is_queued = queue.is_some_and(|queue| queue.sender.try_send(alert).is_ok());
        if !is_queued {
            count("dropped");
            warn!(
                alert.kind = kind.as_str(),
                "an alert was dropped, because too many wait for the receiver"
            );
        }
    }

    /// Sends the queued alerts, without end. One kind does not wait for another.
    pub(super) async fn run(&self) {
        join_all(self.0.queues.iter().map(|queue| self.send_queued(queue))).await;
    }

    async fn send_queued(&self, queue: &AlertQueue) {
        let mut receiver = queue.receiver.lock().await;
        while let Some(alert) = receiver.recv().await {
            self.send(&alert).await;
        }
    }

    /// Sends one alert, with several attempts at most.
    async fn send(&self, alert: &Alert) {
        let parts = &*self.0;
        let (id, body) = (alert.id(&parts.relay), alert.to_json(&parts.relay));
        let mut waits = parts.retries.iter();
        loop {
            let result = self.attempt(id.clone(), &body).await;
            if result.as_ref().is_some_and(|result| result.error.is_none()) {
                count("sent");
                info!(
                    alert.kind = alert.subject.kind.as_str(),
                    alert.state = alert.state.as_str(),
                    event.id = id,
                    "an alert was sent"
                );
                return self.remember(alert).await;
            }
            let Some(wait) = waits.next() else {
                count("failed");
                let failed = result.as_ref();
                warn!(
                    alert.kind = alert.subject.kind.as_str(),
                    alert.state = alert.state.as_str(),
                    event.id = id,
                    http.status = failed.and_then(|result| result.status),
                    error = failed
                        .and_then(|result| result.error)
                        .map(AttemptError::as_str),
                    why = failed.and_then(|result| result.detail.as_deref()),
                    "an alert could not be sent"
                );
                return;
            };
            tokio::time::sleep(*wait).await;
        }
    }

    /// Stores what operators were told now. If that fails, a relay that starts later does not know it.
    async fn remember(&self, alert: &Alert) {
        let subject = &alert.subject;
        if !subject.kind.is_remembered() {
            return;
        }
        let (store, told) = (&self.0.store, subject.told(alert.since, &self.0.relay));
        let storing = async {
            match alert.state {
                AlertState::Firing => store.remember_alert(&told).await,
                AlertState::Resolved => store.forget_alert(&told).await,
            }
        };
        match timeout(self.0.store_limit, storing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(error = %ErrorChain(&error), "an alert that was sent cannot be stored");
            }
            Err(_elapsed) => debug!("an alert that was sent cannot be stored in time"),
        }
    }

    /// Makes one attempt, signed with the current secret. Returns none if there is no secret, so nothing was sent.
    async fn attempt(&self, id: String, body: &[u8]) -> Option<MessageResult> {
        let parts = &*self.0;
        let signer = DeliverySigner::Relay {
            secret: parts.secret.get()?,
            previous: None,
        };
        let message = SignedMessage {
            url: &parts.url,
            id,
            body,
            signer: &signer,
            auth: None,
            trace: None,
        };
        // boxed because the future has kilobytes of state
        Box::pin(parts.single.send(&message, parts.clock.now())).await
    }
}

fn count(result: &'static str) {
    counter!("relay_alerts_total", "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use relay_store::{StoreError, ToldAlert};

    use super::*;
    use crate::{
        alerts::alert::{AlertState, AlertSubject},
        config::Settings,
    };

    /// A store that remembers nothing.
    struct NoStore;

    #[async_trait]
    impl AlertStore for NoStore {
        async fn remember_alert(&self, _: &ToldAlert) -> Result<(), StoreError> {
            Ok(())
        }

        async fn forget_alert(&self, _: &ToldAlert) -> Result<(), StoreError> {
            Ok(())
        }

        async fn list_told_alerts(&self) -> Result<Vec<ToldAlert>, StoreError> {
            Ok(Vec::new())
        }
    }

    fn sender() -> AlertSender {
        let url = CallbackUrl::from_stored("https://hooks.example/").unwrap();
        let delivery = Settings::default().delivery;
        let target = AlertTarget {
            single: SingleSender::alone(&delivery).unwrap(),
            url,
            secret: Reloadable::new(Some(SigningSecret::generate())),
            relay: "app-1:8080".to_owned(),
            retries: Vec::new(),
            store: Arc::new(NoStore),
            store_limit: Duration::from_secs(1),
        };
        AlertSender::new(target, Clock::system())
    }

    #[test]
    fn a_full_queue_takes_no_more_and_leaves_the_others_free() {
        let sender = sender();
        let now = Clock::system().now();
        let alert = |kind| Alert {
            subject: AlertSubject::of(kind),
            state: AlertState::Firing,
            since: now,
            at: now,
            dead: None,
        };
        for _ in 0..1000 {
            sender.enqueue(alert(AlertKind::HostPaused));
        }
        sender.enqueue(alert(AlertKind::StoreUnwritable));
        let queues = sender.0.queues.iter();
        let lengths: Vec<_> = queues
            .map(|queue| QUEUE_CAPACITY - queue.sender.capacity())
            .collect();
        assert_eq!(lengths, [0, QUEUE_CAPACITY, 0, 0, 1]);
    }
}
