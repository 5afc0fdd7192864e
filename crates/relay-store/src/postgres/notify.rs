//! Notifies other relays of new work, so that they claim it sooner. Nothing depends on a notification: each relay
//! finds the work by itself when it is due.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use relay_domain::{BackOff, ErrorChain};
use sqlx::postgres::PgListener;
use tokio::{sync::Notify, task::JoinSet};
use tracing::{debug, info};
use ulid::Ulid;

use crate::{
    Look, RecordedLists, Registration, StoreError,
    postgres::{ConnectionPool, PgStore, session::Statements},
};

/// The channel of the relays' notifications.
const CHANNEL: &str = "basiq_relay";

/// The minimum pause between two rounds of notifications, because each notification is one more transaction.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause before a relay listens again.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(10));

/// How long the listening connection may be silent before it is checked, and the time-out of that check. Without
/// the check, a relay would never notice a server that disappeared without closing the connection.
const CHECK: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);

/// Whether the server takes no writes. Other relays notify only on a server that takes writes.
const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on'";

/// The kind of work that a notification announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Jobs are due.
    Jobs,
    /// Deliveries are due.
    Deliveries,
    /// Lists of people's jobs are due.
    Lists,
}

impl Topic {
    const ALL: [Self; 3] = [Self::Jobs, Self::Deliveries, Self::Lists];

    fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Deliveries => "deliveries",
            Self::Lists => "lists",
        }
    }
}

/// Sends notifications at a limited rate, however often there is new work.
#[derive(Debug)]
pub(super) struct Notifier {
    /// The id that marks this relay's own notifications.
    own: String,
    pending: Arc<PendingTopics>,
    _task: JoinSet<()>,
}

/// The topics to notify of next.
#[derive(Debug, Default)]
struct PendingTopics {
    jobs: AtomicBool,
    deliveries: AtomicBool,
    lists: AtomicBool,
    changed: Notify,
}

impl PendingTopics {
    fn of(&self, topic: Topic) -> &AtomicBool {
        match topic {
            Topic::Jobs => &self.jobs,
            Topic::Deliveries => &self.deliveries,
            Topic::Lists => &self.lists,
        }
    }
}

impl Notifier {
    /// Starts the task that sends notifications.
    pub(super) fn start(pool: ConnectionPool) -> Self {
        let own = Ulid::generate().to_string();
        let pending = Arc::new(PendingTopics::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(send_notifications(pool, own.clone(), Arc::clone(&pending)));
        Self {
            own,
            pending,
            _task: tasks,
        }
    }

    fn notify(&self, topic: Topic) {
        self.pending.of(topic).store(true, Ordering::Relaxed);
        self.pending.changed.notify_one();
    }
}

/// Checks that the listening connection still leads to a server that takes writes.
async fn check(listener: &mut PgListener) -> Result<(), StoreError> {
    let asked = sqlx::query_scalar::<_, bool>(IS_READ_ONLY).fetch_one(listener);
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(false)) => Ok(()),
        Ok(Ok(true)) => Err(StoreError::unavailable("its server takes no writes")),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(StoreError::unavailable("its server does not answer")),
    }
}

/// Notifies the other relays of each pending topic, at most once per [`PAUSE`]. Never returns.
async fn send_notifications(pool: ConnectionPool, own: String, pending: Arc<PendingTopics>) {
    loop {
        pending.changed.notified().await;
        let is_pending = |topic: &Topic| pending.of(*topic).swap(false, Ordering::Relaxed);
        for topic in Topic::ALL.into_iter().filter(is_pending) {
            let sent = sqlx::query("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(format!("{} {own}", topic.name()))
                .execute(&pool)
                .await;
            if let Err(error) = sent {
                debug!(error = %ErrorChain(&error), "other relays could not be notified of work");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl PgStore {
    /// Calls `on_topic` for each notification of another relay. Never returns.
    pub async fn listen(&self, on_topic: impl Fn(Topic) + Send + Sync) -> Infallible {
        if self.0.pool.statements() == Statements::Unnamed {
            // a pooler in transaction mode would give the listening connection to other clients
            info!(
                "notifications of other relays are not received through a pooler; their work is found when it is due"
            );
            return std::future::pending().await;
        }
        let mut failures = 0;
        loop {
            let error = match self.listen_once(&on_topic, &mut failures).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            failures += 1;
            let pause = BACK_OFF.after(failures);
            debug!(error = %ErrorChain(&error), ?pause, "notifications of other relays cannot be received; work is found when it is due");
            tokio::time::sleep(pause).await;
        }
    }

    /// Listens on one connection, until it fails or is evicted.
    async fn listen_once(
        &self,
        on_topic: &(impl Fn(Topic) + Send + Sync),
        failures: &mut u32,
    ) -> Result<Infallible, StoreError> {
        let mut evicted = self.0.pool.evictions().subscribe();
        let mut listener = PgListener::connect_with(self.0.pool.all()).await?;
        listener.listen(CHANNEL).await?;
        *failures = 0;
        loop {
            tokio::select! {
                notification = listener.recv() => self.pass_on(notification?.payload(), on_topic),
                // the relay may have to listen to another server now
                _ = evicted.changed() => return Err(StoreError::unavailable("its server was given up")),
                () = tokio::time::sleep(CHECK) => check(&mut listener).await?,
            }
        }
    }

    /// Calls `on_topic` with the topic of another relay's notification. Ignores this relay's own.
    fn pass_on(&self, payload: &str, on_topic: &impl Fn(Topic)) {
        let Some((topic, from)) = payload.split_once(' ') else {
            return;
        };
        let topic = Topic::ALL.into_iter().find(|known| known.name() == topic);
        if let Some(topic) = topic.filter(|_| from != self.0.notifier.own) {
            on_topic(topic);
        }
    }

    /// Notifies the other relays if jobs were registered.
    pub(super) fn notify_of_registrations(&self, registered: &[Registration]) {
        let is_new = |one: &Registration| matches!(one, Registration::Created(_));
        if registered.iter().any(is_new) {
            self.0.notifier.notify(Topic::Jobs);
        }
    }

    /// Notifies the other relays if looks made events.
    pub(super) fn notify_of_events(&self, looks: &[Look]) {
        let mut changes = looks.iter().flat_map(|look| &look.changes);
        if changes.any(|change| change.event.is_some()) {
            self.notify_of_deliveries();
        }
    }

    /// Notifies the other relays of what lists of people's jobs made due.
    pub(super) fn notify_of_found(&self, recorded: RecordedLists) {
        if recorded.watches > 0 {
            self.0.notifier.notify(Topic::Jobs);
        }
        if recorded.notices > 0 {
            self.notify_of_deliveries();
        }
    }

    /// Notifies the other relays that lists of people's jobs are due.
    pub(super) fn notify_of_lists(&self) {
        self.0.notifier.notify(Topic::Lists);
    }

    /// Notifies the other relays that work of each kind may be due.
    pub(super) fn notify_of_all(&self) {
        for topic in Topic::ALL {
            self.0.notifier.notify(topic);
        }
    }

    /// Notifies the other relays that deliveries are due.
    pub(super) fn notify_of_deliveries(&self) {
        self.0.notifier.notify(Topic::Deliveries);
    }
}
