//! A relay in this process. Its Basiq and its receiver answer at once.

use std::time::Duration;

use anyhow::{Context, Result};
use basiq_relay::{app::Relay, config::Settings};
use relay_domain::{Actor, ApiKey, ClientId, OperatorName, SigningSecret, clock::Clock};
use reqwest::Url;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    basiq::Basiq,
    database::Database,
    receiver::{Receiver, bind},
};

/// The surroundings of a relay.
pub(crate) struct Scene {
    pub(crate) basiq: Basiq,
    pub(crate) receiver: Receiver,
    pub(crate) callback: Url,
    pub(crate) key: ApiKey,
    _tasks: JoinSet<()>,
    settings: Settings,
    pub(crate) database: Database,
}

/// A running relay.
pub(crate) struct Running {
    pub(crate) url: Url,
    stop: CancellationToken,
    task: JoinSet<Result<()>>,
}

impl Scene {
    pub(crate) async fn set(database: Database, receiver: Receiver) -> Result<Self> {
        Self::set_with(Basiq::default(), database, receiver).await
    }

    pub(crate) async fn set_with(
        basiq: Basiq,
        database: Database,
        receiver: Receiver,
    ) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let mut settings = settings();
        settings.basiq.url = basiq.serve(&mut tasks).await?;
        settings.store.database = database.url.clone();
        let callback = receiver.serve(&mut tasks).await?;
        Ok(Self {
            basiq,
            receiver,
            callback,
            key: ApiKey::generate(),
            _tasks: tasks,
            settings,
            database,
        })
    }

    /// Builds a relay on the database and adds its client. The relay does not run yet.
    pub(crate) async fn relay(&self) -> Result<(Box<Relay>, ClientId)> {
        self.relay_with(|_| ()).await
    }

    pub(crate) async fn relay_with(
        &self,
        change: impl FnOnce(&mut Settings),
    ) -> Result<(Box<Relay>, ClientId)> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        let relay = Box::pin(Relay::build(settings, Clock::system())).await?;
        let relay = Box::new(relay);
        let name = "bench".parse().context("a client name")?;
        let (hash, secret) = (self.key.hash(), SigningSecret::generate());
        let now = Clock::system().now();
        let actor = Actor {
            operator: OperatorName::command_line("bench"),
            from: None,
        };
        let added = relay
            .store
            .add_client(&name, &hash, &secret, &actor, now)
            .await?;
        Ok((relay, added.context("a free name")?))
    }

    /// Starts a relay.
    pub(crate) async fn start(&self) -> Result<Running> {
        let (relay, _) = self.relay().await?;
        Self::run(relay).await
    }

    /// Starts a relay that was built.
    pub(crate) async fn run(relay: Box<Relay>) -> Result<Running> {
        let (listener, url) = bind().await?;
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        let signals = (stop.clone().cancelled_owned(), std::future::pending());
        task.spawn(async move { relay.serve_on(listener, None, signals).await });
        Ok(Running { url, stop, task })
    }
}

impl Running {
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Returns settings whose limits are too high to matter.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.basiq.api_key = "bench".to_owned().into();
    settings.basiq.requests_per_second = 1_000_000;
    settings.basiq.concurrency = 256;
    settings.server.client_rps = 1_000_000;
    settings.server.client_max_open_watches = 10_000_000;
    settings.server.shutdown_grace = Duration::from_secs(2);
    settings.delivery.allow_http = true;
    settings.delivery.allow_networks = "127.0.0.0/8".parse().into_iter().collect();
    settings.delivery.concurrency_per_host = 256;
    settings
}
