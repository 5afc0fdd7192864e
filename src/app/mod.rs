//! Assembles the relay and runs it.

mod activity;
mod announce;
mod clock_worker;
mod connections;
mod database;
mod fleet;
mod lock;
mod parts;
mod reload;
mod relocation;
mod upkeep;
mod workers;

use std::{fs::File, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use axum::Router;
use basiq_client::normalise::Catalogue;
use relay_domain::{
    AllowedNetworks, CallbackRules, CallbackUrl, Fleet, SigningSecret, clock::Clock,
};
use relay_runtime::{self, StopOutcome, Supervisor, Worker, run_worker};
use relay_store::{Store, postgres::PgStore};
use secrecy::ExposeSecret;
use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

pub use self::{
    activity::ActivityWorker,
    clock_worker::ClockWorker,
    database::{OpenStore, check_database_exists, check_secrets, open_store, sealer},
    reload::{ReloadableSecrets, ReloadedSecrets},
    relocation::StoreMove,
    upkeep::UpkeepWorker,
};
use self::{
    connections::connection_limits,
    database::connect_options,
    fleet::{FleetMembership, RemoteWakes, coordination, join, wake_on_notify},
};
use crate::{
    alerts::{AlertWatcher, alert_secret, alert_url},
    api,
    callback_test::CallbackTester,
    config::{DatabaseUrl, Settings},
    console,
    delivery::{DeliveryWorker, further_certificates},
    discovery::DiscoveryWorker,
    follow::FollowWorker,
    telemetry::{self, Metrics},
    tracker::{BankWorker, TrackerWorker},
    web::{ConnectionLimits, serve},
};

/// The maximum number of connections to the separate address for metrics. Only a few collectors connect there.
const METRICS_CONNECTIONS: usize = 64;

/// A relay that is assembled but not running. Its workers can be ticked by hand.
pub struct Relay {
    /// Its settings.
    pub settings: Settings,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Its HTTP API.
    pub router: Router,
    /// `/metrics` alone, for a separate address.
    pub metrics_router: Router,
    /// The recorder of metrics.
    pub metrics: Metrics,
    /// Looks at jobs.
    pub tracker: TrackerWorker,
    /// Looks at banks that are down for all their customers.
    pub banks: BankWorker,
    /// Lists the jobs of people whom clients subscribed to.
    pub discovery: DiscoveryWorker,
    /// Sends deliveries.
    pub delivery: DeliveryWorker,
    /// Sends watches to clients that follow them.
    pub follow: FollowWorker,
    /// Deletes old watches and updates the metrics of the store.
    pub upkeep: UpkeepWorker,
    /// Stores counts of what the relay does.
    pub activity: ActivityWorker,
    /// Notices that the clock was set which due times follow.
    pub clock: ClockWorker,
    /// Tells operators what needs them. None if the settings name no URL for alerts.
    pub alerts: Option<AlertWatcher>,
    /// Its secrets that can be replaced while the relay runs.
    pub secrets: ReloadableSecrets,
    /// The connection limits of its HTTP server.
    limits: ConnectionLimits,
    /// The relays on the store, which divide limits among them.
    fleet: Fleet,
    /// Its membership among the relays that share the store. None if the store is not shared.
    membership: Option<FleetMembership>,
    /// What to wake when another relay announces work.
    remote_wakes: RemoteWakes,
    /// The lock that keeps other relays off a store that cannot be shared.
    lock: Option<File>,
}

/// Returns the rules for callbacks that the settings accept.
#[must_use]
pub fn callback_rules(settings: &Settings) -> CallbackRules {
    CallbackRules {
        allow_http: settings.delivery.allow_http,
        allowed_networks: AllowedNetworks::new(settings.delivery.allow_networks.clone()),
    }
}

/// Checks the things that settings refer to: the catalogue's override texts, the certificates, and the encryption keys.
/// Checks the secret of Basiq's webhooks and the address that the relay passes them on to. Also checks the URL of
/// alerts and the address of a PostgreSQL database.
pub fn validate(settings: &Settings) -> Result<()> {
    further_certificates(&settings.delivery)?;
    basiq_webhook_secret(settings)?;
    forward_url(settings)?;
    alert_url(settings)?;
    alert_secret(settings)?;
    sealer(&settings.store)?;
    if let DatabaseUrl::Postgres(url) = &settings.store.database {
        connect_options(url, database::SETTING)?;
    }
    catalogue(settings).map(|_| ())
}

fn basiq_webhook_secret(settings: &Settings) -> Result<Option<SigningSecret>> {
    let secret = settings.basiq.webhook_secret.as_ref();
    secret
        .map(|secret| SigningSecret::of_another(secret.expose_secret()))
        .transpose()
        .context("RELAY_BASIQ_WEBHOOK_SECRET")
}

/// Sends messages of Basiq's that are stored already to the handler that the settings name now.
async fn redirect_messages(store: &dyn Store, settings: &Settings) -> Result<()> {
    if let Some(url) = forward_url(settings)? {
        let redirected = store.redirect_messages(&url).await;
        let redirected = redirected.context("Basiq's stored webhooks cannot be redirected")?;
        if redirected > 0 {
            info!(
                messages = redirected,
                "stored webhooks of Basiq's go to the new address"
            );
        }
    }
    Ok(())
}

/// Returns where Basiq's webhooks are passed on. The error does not repeat the address, which may hold a secret.
fn forward_url(settings: &Settings) -> Result<Option<CallbackUrl>> {
    let Some(url) = &settings.subscriptions.forward_url else {
        return Ok(None);
    };
    if settings.basiq.webhook_secret.is_none() {
        bail!(
            "RELAY_BASIQ_WEBHOOK_FORWARD_URL needs RELAY_BASIQ_WEBHOOK_SECRET: only verified webhooks are passed on"
        );
    }
    let parsed = CallbackUrl::parse(url.expose_secret(), &callback_rules(settings));
    parsed.map(Some).context("RELAY_BASIQ_WEBHOOK_FORWARD_URL")
}

fn catalogue(settings: &Settings) -> Result<Catalogue> {
    let builtin = Catalogue::builtin();
    match &settings.messages {
        Some(overrides) => builtin.with_overrides(overrides).context("RELAY_MESSAGES"),
        None => Ok(builtin),
    }
}

/// The maximum time that a start waits for the examination of the store.
const EXAMINING: Duration = Duration::from_secs(2);

/// Checks that the store is not damaged and that its secrets can be read. Then frees the leases of the previous run,
/// if only one relay can run on the store.
async fn check_and_free_leases(store: &dyn Store) -> Result<()> {
    let examined = store.examine(EXAMINING).await;
    examined.context("the store cannot be examined")?;
    check_secrets(store).await?;
    let freed = store.free_leases().await;
    let freed = freed.context("leases cannot be freed")?;
    if freed > 0 {
        info!(leases = freed, "freed the leases of the previous run");
    }
    Ok(())
}

impl Relay {
    /// Opens the store and assembles a relay. On SQLite, where only one relay can run, this frees the leases of the
    /// previous run.
    pub async fn build(settings: Settings, clock: Clock) -> Result<Self> {
        // boxed because the future is large, and each caller's future would contain it
        Box::pin(Self::put_together(settings, clock)).await
    }

    async fn put_together(settings: Settings, clock: Clock) -> Result<Self> {
        let metrics = telemetry::metrics_handle().context("no metrics")?;
        let lock = lock::hold(&settings.store)?;
        let OpenStore { store, shared } = open_store(&settings.store, &clock).await?;
        check_and_free_leases(&*store).await?;
        redirect_messages(&*store, &settings).await?;
        let fleet = shared.as_ref().map_or_else(Fleet::alone, PgStore::fleet);
        // a clock that stands still for a test cannot follow the database's, so such a relay joins no others
        let shared = shared.filter(|_| clock.can_follow());
        let membership = join(shared, &clock, &fleet).await?;
        let coordination = coordination(membership.as_ref(), &fleet);
        let limits = connection_limits(&settings, relay_runtime::handle_limit());
        let parts = parts::api_parts(&settings, &store, clock, &metrics, coordination, limits)?;
        let tracker = workers::tracker(&settings, &store, &parts);
        let banks = workers::banks(&settings, &store, &parts);
        let discovery = workers::discovery(&settings, &store, &parts, &fleet);
        let delivery = workers::delivery(&settings, &store, &parts)?.in_fleet(&fleet);
        let delivery = delivery.counting(tracker.activity());
        let activity = workers::activity(&store, &parts, tracker.activity());
        let upkeep = UpkeepWorker::new(&store, parts.clock.clone(), &settings.store);
        let clock = workers::clock_worker(&settings, &store, &parts).await?;
        let secrets = parts::replaceable_secrets(&settings, &parts)?;
        let alerts = parts::alert_watcher(&settings, &parts, &secrets, &fleet)?;
        let tester = CallbackTester::new(delivery.single_sender(), parts.clock.clone());
        let looks = tracker.tally();
        let console = parts::console_parts(&settings, &parts, looks, fleet.clone(), tester.clone());
        Ok(Self {
            metrics_router: api::metrics_router(Arc::clone(&parts.metrics)),
            follow: workers::follow(&store, &parts),
            remote_wakes: RemoteWakes::of(&parts),
            router: api::router(parts, tester, console::router(console)),
            settings,
            store,
            metrics,
            tracker,
            banks,
            discovery,
            delivery,
            upkeep,
            activity,
            clock,
            alerts,
            secrets,
            limits,
            fleet,
            membership,
            lock,
        })
    }

    /// Listens on the configured addresses: the main one, and the one for metrics if there is one.
    pub fn bind(&self) -> Result<(TcpListener, Option<TcpListener>)> {
        let server = &self.settings.server;
        let listener = bind(server.listen, "RELAY_LISTEN")?;
        let metrics = server.metrics_listen;
        let metrics = metrics.map(|address| bind(address, "RELAY_METRICS_LISTEN"));
        Ok((listener, metrics.transpose()?))
    }

    /// Serves these listeners and runs until `stop`, then drains. `hurry` ends the drain early.
    pub async fn serve_on(
        self,
        listener: TcpListener,
        metrics: Option<TcpListener>,
        (stop, hurry): (
            impl Future<Output = ()> + Send,
            impl Future<Output = ()> + Send,
        ),
    ) -> Result<()> {
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        let metrics_address = metrics.as_ref().and_then(|at| at.local_addr().ok());
        let mut supervisor = Supervisor::new();
        let (fleet, token) = (self.fleet, supervisor.stop_token());
        spawn_worker(&mut supervisor, self.tracker, &fleet);
        spawn_worker(&mut supervisor, self.banks, &fleet);
        spawn_worker(&mut supervisor, self.discovery, &fleet);
        spawn_worker(&mut supervisor, self.delivery, &fleet);
        spawn_worker(&mut supervisor, self.follow, &fleet);
        spawn_worker(&mut supervisor, self.upkeep, &fleet);
        let last_counts = self.activity.writer();
        spawn_worker(&mut supervisor, self.activity, &fleet);
        spawn_worker(&mut supervisor, self.clock, &fleet);
        if let Some(alerts) = self.alerts {
            supervisor.spawn("alerts", alerts.run(token.clone()));
        }
        supervisor.spawn("metrics upkeep", self.metrics.keep_small(token.clone()));
        if let Some(membership) = self.membership {
            spawn_fleet(&mut supervisor, membership, self.remote_wakes);
        }
        let http = serve(listener, self.router, self.limits, token.clone());
        supervisor.spawn("http", http);
        if let Some(listener) = metrics {
            let limits = metrics_limits(self.limits);
            let metrics = serve(listener, self.metrics_router, limits, token);
            supervisor.spawn("metrics", metrics);
        }
        announce::announce(&self.settings, address, metrics_address);
        let died = tokio::select! {
            () = stop => None,
            name = supervisor.wait_for_task_exit() => Some(name),
        };
        let stopped = supervisor
            .shut_down(self.settings.server.shutdown_grace, hurry)
            .await;
        last_counts.finish().await;
        self.store.close().await;
        drop(self.lock);
        match (died, stopped) {
            (Some(name), _) => bail!("the task `{name}` ended although it should not"),
            (None, StopOutcome::Drained | StopOutcome::Aborted) => Ok(()),
        }
    }
}

/// Spawns a worker. After each tick, the worker leaves the store to the other relays of `fleet` for their part of the
/// time.
fn spawn_worker<W: Worker + 'static>(supervisor: &mut Supervisor, worker: W, fleet: &Fleet) {
    let stop = supervisor.stop_token();
    supervisor.spawn(worker.name(), run_worker(worker, fleet.clone(), stop));
}

/// Spawns what connects this relay with the others on the store.
fn spawn_fleet(
    supervisor: &mut Supervisor,
    membership: FleetMembership,
    remote_wakes: RemoteWakes,
) {
    let token = supervisor.stop_token();
    let wakes = wake_on_notify(membership.store(), remote_wakes, token.clone());
    supervisor.spawn("fleet", membership.run(token));
    supervisor.spawn("wakes", wakes);
}

/// Returns the limits of the separate address for metrics.
fn metrics_limits(limits: ConnectionLimits) -> ConnectionLimits {
    ConnectionLimits {
        connections: METRICS_CONNECTIONS,
        ..limits
    }
}

fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    listen(address).with_context(|| format!("cannot listen on {address} (set by {setting})"))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // lets a restart bind the address of a process that has just ended
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // the backlog is as long as the connection limit: when a relay stops, all browsers with streams reconnect at once
    let most = ConnectionLimits::default().connections;
    socket.listen(u32::try_from(most).unwrap_or(u32::MAX))
}
