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

use relay_domain::ErrorChain;
use sqlx::postgres::PgListener;
use tokio::{sync::Notify, task::JoinSet};
use tracing::{debug, info};
use ulid::Ulid;

use crate::{
    Look, Registration, StoreError,
    postgres::{ConnectionPool, PgStore, session::Statements},
};

/// The channel of the relays' notifications.
const CHANNEL: &str = "basiq_relay";

/// The minimum pause between two rounds of notifications, because each notification is one more transaction.
const PAUSE: Duration = Duration::from_millis(100);

/// The shortest and the longest back-off before a relay listens again.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

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
}

impl Topic {
    const ALL: [Self; 2] = [Self::Jobs, Self::Deliveries];

    fn word(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Deliveries => "deliveries",
        }
    }
}

/// Sends notifications at a limited rate, however often there is new work.
#[derive(Debug)]
pub(super) struct Notifier {
    /// The id that marks this relay's own notifications.
    own: String,
    said: Arc<Said>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Said {
    jobs: AtomicBool,
    deliveries: AtomicBool,
    bell: Notify,
}

impl Said {
    fn of(&self, topic: Topic) -> &AtomicBool {
        match topic {
            Topic::Jobs => &self.jobs,
            Topic::Deliveries => &self.deliveries,
        }
    }
}

impl Notifier {
    /// Starts the task that sends notifications.
    pub(super) fn start(pool: ConnectionPool) -> Self {
        let own = Ulid::generate().to_string();
        let said = Arc::new(Said::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(speak(pool, own.clone(), Arc::clone(&said)));
        Self {
            own,
            said,
            _task: tasks,
        }
    }

    fn notify(&self, topic: Topic) {
        self.said.of(topic).store(true, Ordering::Relaxed);
        self.said.bell.notify_one();
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

async fn speak(pool: ConnectionPool, own: String, said: Arc<Said>) {
    loop {
        said.bell.notified().await;
        let wanted = |topic: &Topic| said.of(*topic).swap(false, Ordering::Relaxed);
        for topic in Topic::ALL.into_iter().filter(wanted) {
            let told = sqlx::query("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(format!("{} {own}", topic.word()))
                .execute(&pool)
                .await;
            if let Err(error) = told {
                debug!(error = %ErrorChain(&error), "other relays could not be told of work");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl PgStore {
    /// Calls `hear` for each notification of another relay. Never returns.
    pub async fn listen(&self, hear: impl Fn(Topic) + Send + Sync) -> Infallible {
        if self.0.pool.statements() == Statements::Unnamed {
            // a pooler in transaction mode would give the listening connection to other clients
            info!(
                "notifications of other relays are not received through a pooler; their work is found when it is due"
            );
            return std::future::pending().await;
        }
        let mut pause = BACK_OFF.0;
        loop {
            let error = match self.listen_once(&hear, &mut pause).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            debug!(error = %ErrorChain(&error), ?pause, "notifications of other relays cannot be received; work is found when it is due");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// Listens on one connection, until it fails or is evicted.
    async fn listen_once(
        &self,
        hear: &(impl Fn(Topic) + Send + Sync),
        pause: &mut Duration,
    ) -> Result<Infallible, StoreError> {
        let mut given_up = self.0.pool.evictions().subscribe();
        let mut listener = PgListener::connect_with(self.0.pool.all()).await?;
        listener.listen(CHANNEL).await?;
        *pause = BACK_OFF.0;
        loop {
            tokio::select! {
                word = listener.recv() => self.pass_on(word?.payload(), hear),
                // the relay may have to listen to another server now
                _ = given_up.changed() => return Err(StoreError::unavailable("its server was given up")),
                () = tokio::time::sleep(CHECK) => check(&mut listener).await?,
            }
        }
    }

    /// Calls `hear` with the topic of another relay's notification. Ignores this relay's own.
    fn pass_on(&self, word: &str, hear: &impl Fn(Topic)) {
        let Some((topic, from)) = word.split_once(' ') else {
            return;
        };
        let topic = Topic::ALL.into_iter().find(|known| known.word() == topic);
        if let Some(topic) = topic.filter(|_| from != self.0.notifier.own) {
            hear(topic);
        }
    }

    pub(super) fn announce_registrations(&self, registered: &[Registration]) {
        let is_new = |one: &Registration| matches!(one, Registration::Created(_));
        if registered.iter().any(is_new) {
            self.0.notifier.notify(Topic::Jobs);
        }
    }

    pub(super) fn announce_events(&self, looks: &[Look]) {
        let mut changes = looks.iter().flat_map(|look| &look.changes);
        if changes.any(|change| change.event.is_some()) {
            self.announce_deliveries();
        }
    }

    pub(super) fn announce_deliveries(&self) {
        self.0.notifier.notify(Topic::Deliveries);
    }
}
