//! Settings: one struct a concern, with the defaults of the contract.
//!
//! Defaults < `relay.toml` < environment. Each setting is validated when it is read; all faults are
//! told at once.

mod error;
mod load;
mod postgres;
mod proxy;
mod reloadable;
mod service_links;
mod setting;
mod sources;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

pub use self::{
    error::ConfigError,
    postgres::PostgresUrl,
    proxy::EgressProxy,
    reloadable::Reloadable,
    setting::{SETTINGS, SettingDoc},
    value::parse_duration,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Every setting of the relay.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The HTTP server.
    pub server: ServerConfig,
    /// The store.
    pub store: StoreConfig,
    /// Calls to Basiq.
    pub basiq: BasiqConfig,
    /// When jobs are looked at, and when a watch gives up.
    pub tracking: TrackingConfig,
    /// Deliveries to callbacks.
    pub delivery: DeliveryConfig,
    /// Logs and traces.
    pub log: LogConfig,
    /// `RELAY_MESSAGES`: TOML that overrides texts of the catalogue; usually `RELAY_MESSAGES_FILE`.
    pub messages: Option<String>,
}

/// The HTTP server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// `RELAY_LISTEN`
    pub listen: SocketAddr,
    /// `RELAY_PUBLIC_URL`: where the relay is reached from outside, without a trailing slash.
    pub public_url: Option<Url>,
    /// `RELAY_ALLOW_ORIGINS`: origins whose pages may read what is meant for browsers.
    pub allow_origins: Vec<String>,
    /// `RELAY_METRICS_LISTEN`: an address of its own for `/metrics`.
    pub metrics_listen: Option<SocketAddr>,
    /// `RELAY_ADMIN_TOKEN`: admin surfaces are off without it.
    pub admin_token: Option<SecretString>,
    /// `RELAY_SHUTDOWN_GRACE`: how long a stop waits for work in flight.
    pub shutdown_grace: Duration,
    /// `RELAY_CLIENT_RPS`: requests a second of one client.
    pub client_rps: u32,
    /// `RELAY_CLIENT_MAX_OPEN_WATCHES`
    pub client_max_open_watches: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            allow_origins: Vec::new(),
            metrics_listen: None,
            admin_token: None,
            shutdown_grace: 10 * SECOND,
            client_rps: 500,
            client_max_open_watches: 100_000,
        }
    }
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite://PATH`
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(PostgresUrl),
}

impl DatabaseUrl {
    /// Reads an address as `RELAY_DATABASE_URL` has it; if the text is something else, says what is
    /// allowed, and not what was given: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        value::database(text)
    }
}

/// The store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `RELAY_DATABASE_URL`
    pub database: DatabaseUrl,
    /// `RELAY_ENCRYPTION_KEY`: encrypts signing secrets at rest.
    pub encryption_key: Option<SecretString>,
    /// `RELAY_ENCRYPTION_PREVIOUS_KEY`: opens what it encrypted before the key was changed.
    pub encryption_previous_key: Option<SecretString>,
    /// `RELAY_RETENTION`: settled watches older than this are deleted.
    pub retention: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            database: DatabaseUrl::Sqlite("basiq-relay.db".into()),
            encryption_key: None,
            encryption_previous_key: None,
            retention: 30 * DAY,
        }
    }
}

/// Calls to Basiq.
#[derive(Debug, Clone)]
pub struct BasiqConfig {
    /// `RELAY_BASIQ_URL`: Basiq's base address, without a trailing slash.
    pub url: Url,
    /// `RELAY_BASIQ_API_KEY`: sent verbatim as `Authorization: Basic KEY`.
    pub api_key: SecretString,
    /// `RELAY_BASIQ_WEBHOOK_SECRET`: verifies Basiq's own webhooks; none is taken without it.
    pub webhook_secret: Option<SecretString>,
    /// `RELAY_UPSTREAM_RPS`: calls a second, in all.
    pub requests_per_second: u32,
    /// `RELAY_UPSTREAM_CONCURRENCY`: calls in flight, in all.
    pub concurrency: usize,
    /// `RELAY_UPSTREAM_TIMEOUT`: one call, connect to last byte.
    pub timeout: Duration,
}

impl Default for BasiqConfig {
    #[expect(
        clippy::expect_used,
        reason = "a constant address, parsed in every test run"
    )]
    fn default() -> Self {
        Self {
            url: Url::parse("https://au-api.basiq.io").expect("a valid address"),
            api_key: SecretString::default(),
            webhook_secret: None,
            requests_per_second: 20,
            concurrency: 32,
            timeout: 10 * SECOND,
        }
    }
}

/// When jobs are looked at, and when a watch gives up.
#[derive(Debug, Clone)]
pub struct TrackingConfig {
    /// `RELAY_POLL_MIN_INTERVAL`
    pub poll_min_interval: Duration,
    /// `RELAY_POLL_MAX_INTERVAL`
    pub poll_max_interval: Duration,
    /// `RELAY_UPDATE_RETRY_INTERVAL`: how often Basiq retries an update.
    pub update_retry_interval: Duration,
    /// `RELAY_JOB_MAX_AGE`
    pub job_max_age: Duration,
    /// `RELAY_JOB_NOT_FOUND_GRACE`
    pub job_not_found_grace: Duration,
    /// `RELAY_BANK_RETRY_AFTER`
    pub bank_retry_after: Duration,
    /// `RELAY_OUTAGE_POLL_INTERVAL`
    pub outage_poll_interval: Duration,
    /// `RELAY_SUPPORT_AFTER_FAILURES`
    pub support_after_failures: u32,
}

impl Default for TrackingConfig {
    fn default() -> Self {
        Self {
            poll_min_interval: SECOND,
            poll_max_interval: MINUTE,
            update_retry_interval: 2 * HOUR,
            job_max_age: 7 * DAY,
            job_not_found_grace: MINUTE,
            bank_retry_after: 10 * MINUTE,
            outage_poll_interval: 10 * MINUTE,
            support_after_failures: 3,
        }
    }
}

/// Deliveries to callbacks.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// `RELAY_CALLBACK_ALLOW_HTTP`
    pub allow_http: bool,
    /// `RELAY_CALLBACK_ALLOW_NETWORKS`
    pub allow_networks: Vec<IpNet>,
    /// `RELAY_CALLBACK_CA_FILE`: further certificates (PEM) to trust.
    pub ca_file: Option<PathBuf>,
    /// `RELAY_EGRESS_PROXY`: what callbacks are reached through.
    pub proxy: Option<EgressProxy>,
    /// `RELAY_DELIVERY_TIMEOUT`: one attempt, connect to last byte.
    pub timeout: Duration,
    /// `RELAY_DELIVERY_RETRY_SCHEDULE`: waits between attempts.
    pub retry_schedule: Vec<Duration>,
    /// `RELAY_DELIVERY_CONCURRENCY`: attempts in flight, in all.
    pub concurrency: usize,
    /// `RELAY_DELIVERY_CONCURRENCY_PER_HOST`: attempts in flight to one host name.
    pub concurrency_per_host: usize,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_networks: Vec::new(),
            ca_file: None,
            proxy: None,
            timeout: 15 * SECOND,
            retry_schedule: vec![
                5 * SECOND,
                5 * MINUTE,
                30 * MINUTE,
                2 * HOUR,
                5 * HOUR,
                10 * HOUR,
                10 * HOUR,
            ],
            concurrency: 256,
            concurrency_per_host: 16,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs and traces.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `RELAY_LOG`: a tracing filter.
    pub filter: String,
    /// `RELAY_LOG_FORMAT`
    pub format: LogFormat,
    /// Whether `OTEL_EXPORTER_OTLP_ENDPOINT` (or its traces variant) asks for trace export.
    pub export_traces: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
            export_traces: false,
        }
    }
}
