//! The relay's settings: one struct for each concern. `table.rs` has the name, default, parser and meaning of each.
//!
//! The environment overrides `relay.toml`, which overrides the defaults. Each setting is validated when it is read,
//! and all faults are reported at once.

mod development;
mod error;
mod load;
mod log_value;
mod operators;
mod postgres;
mod proxy;
mod reader;
mod service_links;
mod setting;
mod sources;
mod table;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use basiq_client::BasiqConfig;
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

pub(crate) use self::log_value::log_filter;
pub use self::{
    development::DEVELOPMENT_DEFAULTS,
    error::ConfigError,
    operators::OperatorToken,
    postgres::PostgresUrl,
    proxy::EgressProxy,
    setting::{SETTINGS, Setting},
    value::{parse_duration, write_duration},
};

/// Every setting of the relay.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Settings of the HTTP server.
    pub server: ServerConfig,
    /// Settings of the store.
    pub store: StoreConfig,
    /// Settings of calls to Basiq.
    pub basiq: BasiqConfig,
    /// Settings of looks at jobs, and of when a watch gives up.
    pub tracking: TrackingConfig,
    /// Settings of subscriptions, and of Basiq's webhooks.
    pub subscriptions: SubscriptionConfig,
    /// Settings of deliveries to callbacks.
    pub delivery: DeliveryConfig,
    /// Settings of alerts to operators.
    pub alerts: AlertConfig,
    /// Settings of logs and traces.
    pub log: LogConfig,
    /// Whether this is the development mode, `serve --dev`. Settings that are not given have other defaults then.
    pub development: bool,
    /// `RELAY_MESSAGES`: TOML that overrides texts of the catalogue, usually given as `RELAY_MESSAGES_FILE`.
    pub messages: Option<String>,
}

/// Settings of the HTTP server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// `RELAY_LISTEN`: the address that the relay serves.
    pub listen: SocketAddr,
    /// `RELAY_PUBLIC_URL`: the address at which others reach the relay, without a trailing slash.
    pub public_url: Option<Url>,
    /// `RELAY_ALLOW_ORIGINS`: origins whose pages may read streams and the catalogue.
    pub allow_origins: Vec<String>,
    /// `RELAY_METRICS_LISTEN`: a separate address for `/metrics`.
    pub metrics_listen: Option<SocketAddr>,
    /// `RELAY_ADMIN_TOKEN`: the token for the admin API and the console. Its operator is called `admin`.
    pub admin_token: Option<SecretString>,
    /// `RELAY_ADMIN_TOKENS`: further operators, usually given as `RELAY_ADMIN_TOKENS_FILE`. Without any token, the
    /// admin API and the console are off.
    pub operators: Vec<OperatorToken>,
    /// `RELAY_SHUTDOWN_GRACE`: how long a stop waits for work in flight.
    pub shutdown_grace: Duration,
    /// `RELAY_CLIENT_RPS`: the maximum number of requests a second from one client.
    pub client_rps: u32,
    /// `RELAY_CLIENT_MAX_OPEN_WATCHES`: the maximum number of open watches of one client.
    pub client_max_open_watches: u64,
}

impl ServerConfig {
    /// Returns whether any operator has a token.
    #[must_use]
    pub fn has_operators(&self) -> bool {
        self.admin_token.is_some() || !self.operators.is_empty()
    }
}

/// The address of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite://PATH`
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(PostgresUrl),
}

impl DatabaseUrl {
    /// Parses an address in the form of `RELAY_DATABASE_URL`. The error says what is allowed and does not repeat the
    /// text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        value::database(text)
    }
}

/// Settings of the store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `RELAY_DATABASE_URL`: the address of the store.
    pub database: DatabaseUrl,
    /// `RELAY_ENCRYPTION_KEY`: encrypts signing secrets at rest.
    pub encryption_key: Option<SecretString>,
    /// `RELAY_ENCRYPTION_PREVIOUS_KEY`: decrypts secrets that were encrypted before the key was changed.
    pub encryption_previous_key: Option<SecretString>,
    /// `RELAY_RETENTION`: settled watches older than this are deleted.
    pub retention: Duration,
    /// `RELAY_AUDIT_RETENTION`: entries of the audit log older than this are deleted.
    pub audit_retention: Duration,
}

/// Settings of looks at jobs, and of when a watch gives up.
#[derive(Debug, Clone)]
pub struct TrackingConfig {
    /// `RELAY_POLL_MIN_INTERVAL`: the shortest wait between two looks at a running job.
    pub poll_min_interval: Duration,
    /// `RELAY_POLL_MAX_INTERVAL`: the longest wait between two looks at a running job.
    pub poll_max_interval: Duration,
    /// `RELAY_UPDATE_RETRY_INTERVAL`: the interval at which Basiq retries an update.
    pub update_retry_interval: Duration,
    /// `RELAY_JOB_MAX_AGE`: the age of a job at which its watch gives up.
    pub job_max_age: Duration,
    /// `RELAY_JOB_NOT_FOUND_GRACE`: how long a job may be unknown or forbidden before its watch ends.
    pub job_not_found_grace: Duration,
    /// `RELAY_BANK_RETRY_AFTER`: the wait that an event means by "wait, then try again".
    pub bank_retry_after: Duration,
    /// `RELAY_OUTAGE_POLL_INTERVAL`: the interval between looks at a bank in major outage.
    pub outage_poll_interval: Duration,
    /// `RELAY_SUPPORT_AFTER_FAILURES`: the failures in a row of one connection before support is the advice.
    pub support_after_failures: u32,
}

/// Settings of subscriptions, and of Basiq's webhooks.
#[derive(Debug, Clone)]
pub struct SubscriptionConfig {
    /// `RELAY_DISCOVERY_INTERVAL`: how often the jobs of a subscription's user are listed without a hint.
    pub discovery_interval: Duration,
    /// `RELAY_BASIQ_WEBHOOK_FORWARD_URL`: where Basiq's own webhooks are passed on unchanged.
    pub forward_url: Option<SecretString>,
}

/// Settings of deliveries to callbacks.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// `RELAY_CALLBACK_ALLOW_HTTP`: whether `http://` callbacks are accepted.
    pub allow_http: bool,
    /// `RELAY_CALLBACK_ALLOW_NETWORKS`: networks that callbacks may reach although they are private.
    pub allow_networks: Vec<IpNet>,
    /// `RELAY_CALLBACK_CA_FILE`: a file of additional CA certificates (PEM) to trust.
    pub ca_file: Option<PathBuf>,
    /// `RELAY_EGRESS_PROXY`: the HTTP proxy through which callbacks are reached.
    pub proxy: Option<EgressProxy>,
    /// `RELAY_DELIVERY_TIMEOUT`: the time-out of one attempt, from connecting to the last byte.
    pub timeout: Duration,
    /// `RELAY_DELIVERY_RETRY_SCHEDULE`: the waits between attempts.
    pub retry_schedule: Vec<Duration>,
    /// `RELAY_DELIVERY_CONCURRENCY`: the maximum number of attempts in flight, for each relay.
    pub concurrency: usize,
    /// `RELAY_DELIVERY_CONCURRENCY_PER_HOST`: the maximum number of attempts in flight to one host name. Relays on
    /// one store divide it.
    pub concurrency_per_host: usize,
    /// Whether a host that keeps failing is paused. No setting changes it; the development mode does.
    pub pauses_hosts: bool,
}

/// Settings of alerts to operators.
#[derive(Debug, Clone)]
pub struct AlertConfig {
    /// `RELAY_ALERT_URL`: the URL of alerts for operators. It may hold a secret.
    pub url: Option<SecretString>,
    /// `RELAY_ALERT_SECRET`: signs alerts.
    pub secret: Option<SecretString>,
    /// When alerts are sent. No setting changes it; tests do.
    pub timing: AlertTiming,
}

/// How long a problem must last before an alert, and how often the relay looks for problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertTiming {
    /// How long a host must be paused.
    pub host_paused: Duration,
    /// How long the circuit breaker must be open.
    pub breaker_open: Duration,
    /// How long no write to the store may have succeeded.
    pub store_unwritable: Duration,
    /// The time between two evaluations.
    pub evaluation_interval: Duration,
    /// The time between two writes that find out whether the store can be written.
    pub probing: Duration,
    /// The time between two reads of the problems in the store.
    pub reading: Duration,
    /// The waits between the attempts to send one alert.
    pub retries: Vec<Duration>,
    /// The longest time-out of one attempt.
    pub time_limit: Duration,
}

impl Default for AlertTiming {
    fn default() -> Self {
        Self {
            host_paused: Duration::from_mins(10),
            breaker_open: Duration::from_mins(1),
            store_unwritable: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(1),
            probing: Duration::from_secs(2),
            reading: Duration::from_secs(5),
            retries: [1, 5, 30].map(Duration::from_secs).into(),
            time_limit: Duration::from_secs(10),
        }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings of logs and traces.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `RELAY_LOG`: a tracing filter that selects log lines.
    pub filter: String,
    /// `RELAY_LOG_FORMAT`: the format of log lines.
    pub format: LogFormat,
    /// Whether `OTEL_EXPORTER_OTLP_ENDPOINT` (or its traces variant) asks for trace export.
    pub export_traces: bool,
}
