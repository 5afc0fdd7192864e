//! Tells other relays that there is work, so that they look sooner. Nothing depends on it: they would
//! find the work by themselves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::{sync::Notify, task::JoinSet};
use tracing::debug;
use ulid::Ulid;

use crate::store::{Look, Registration, postgres::PgStore};

/// The channel on which relays tell each other.
const CHANNEL: &str = "basiq_relay";

/// The least time between two words: each is one transaction more.
const PAUSE: Duration = Duration::from_millis(100);

/// The shortest and the longest wait before listening again.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What there is to do.
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

/// Says it now and then, however often there is something to say.
#[derive(Debug)]
pub(super) struct Announcer {
    /// Tells this relay's words from others'.
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

impl Announcer {
    /// Starts the task that speaks.
    pub(super) fn start(pool: PgPool) -> Self {
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

    fn say(&self, topic: Topic) {
        self.said.of(topic).store(true, Ordering::Relaxed);
        self.said.bell.notify_one();
    }
}

async fn speak(pool: PgPool, own: String, said: Arc<Said>) {
    loop {
        said.bell.notified().await;
        for topic in Topic::ALL {
            if said.of(topic).swap(false, Ordering::Relaxed) {
                let told = sqlx::query("SELECT pg_notify($1, $2)")
                    .bind(CHANNEL)
                    .bind(format!("{} {own}", topic.word()))
                    .execute(&pool);
                if let Err(error) = told.await {
                    debug!(%error, "other relays could not be told of work");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl PgStore {
    /// Calls `hear` whenever another relay has work to share, for ever.
    pub async fn listen(&self, hear: impl Fn(Topic) + Send + Sync) {
        let mut pause = BACK_OFF.0;
        loop {
            match self.hear_all(&hear, &mut pause).await {
                Ok(()) => return,
                Err(error) => {
                    debug!(%error, ?pause, "other relays cannot be heard; work is found when it is due");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    async fn hear_all(
        &self,
        hear: &(impl Fn(Topic) + Send + Sync),
        pause: &mut Duration,
    ) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(self.pool()).await?;
        listener.listen(CHANNEL).await?;
        *pause = BACK_OFF.0;
        loop {
            let word = listener.recv().await?;
            let Some((topic, from)) = word.payload().split_once(' ') else {
                continue;
            };
            let topic = Topic::ALL.into_iter().find(|known| known.word() == topic);
            if let Some(topic) = topic.filter(|_| from != self.0.announcer.own) {
                hear(topic);
            }
        }
    }

    pub(super) fn announce_registrations(&self, registered: &[Registration]) {
        let is_new = |one: &Registration| matches!(one, Registration::Created(_));
        if registered.iter().any(is_new) {
            self.0.announcer.say(Topic::Jobs);
        }
    }

    pub(super) fn announce_events(&self, looks: &[Look]) {
        let mut changes = looks.iter().flat_map(|look| &look.changes);
        if changes.any(|change| change.event.is_some()) {
            self.announce_deliveries();
        }
    }

    pub(super) fn announce_deliveries(&self) {
        self.0.announcer.say(Topic::Deliveries);
    }
}
