//! The table of settings: the name, default, parser and meaning of each, at the field that it fills.

use std::{ops::RangeInclusive, time::Duration};

use basiq_client::BasiqConfig;
use secrecy::SecretString;

use crate::config::{
    AlertConfig, AlertTiming, DeliveryConfig, LogConfig, OperatorToken, ServerConfig, Settings,
    StoreConfig, SubscriptionConfig, TrackingConfig,
    log_value::{log_filter, log_format},
    operators::operators,
    reader::SettingsReader,
    value::{
        address, admin_token, base_url, boolean, database, duration, durations, file, networks,
        number, optional, origins, proxy, secret, text,
    },
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = DAY.saturating_mul(365);

/// The allowed time-outs of calls: long enough for the slowest peer, short enough for a lease.
const TIME_LIMITS: RangeInclusive<Duration> = MILLISECOND..=MINUTE.saturating_mul(10);
const INTERVALS: RangeInclusive<Duration> = MILLISECOND..=DAY;
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=YEAR;
const AGES: RangeInclusive<Duration> = MILLISECOND..=YEAR.saturating_mul(10);

impl Settings {
    /// Reads every setting, in the order in which the help lists them.
    pub(super) fn read(from: &mut SettingsReader) -> Self {
        Self {
            server: ServerConfig::read(from),
            store: StoreConfig::read(from),
            basiq: read_basiq(from),
            tracking: TrackingConfig::read(from),
            subscriptions: SubscriptionConfig::read(from),
            delivery: DeliveryConfig::read(from),
            alerts: AlertConfig::read(from),
            log: LogConfig::read(from),
            development: from.development,
            messages: from.read(
                "RELAY_MESSAGES",
                None,
                optional(text),
                "TOML that replaces texts of the catalogue; usually given as RELAY_MESSAGES_FILE",
            ),
        }
    }
}

impl ServerConfig {
    fn read(from: &mut SettingsReader) -> Self {
        Self {
            listen: from.read(
                "RELAY_LISTEN",
                Some("127.0.0.1:8080"),
                address,
                "address to serve on",
            ),
            public_url: from.read(
                "RELAY_PUBLIC_URL",
                None,
                optional(base_url),
                "address at which clients and browsers reach the relay; the addresses of streams begin with it",
            ),
            allow_origins: from.read_list(
                "RELAY_ALLOW_ORIGINS",
                Some(""),
                origins,
                "origins (https://HOST[:PORT], comma-separated) whose pages may read streams and the catalogue",
            ),
            metrics_listen: from.read(
                "RELAY_METRICS_LISTEN",
                None,
                optional(address),
                "separate address for /metrics, which the main address then does not serve",
            ),
            admin_token: read_admin_token(from),
            operators: read_operators(from),
            shutdown_grace: from.read(
                "RELAY_SHUTDOWN_GRACE",
                Some("10s"),
                duration(Duration::ZERO..=HOUR),
                "how long the relay waits for work in flight when it stops",
            ),
            client_rps: from.read(
                "RELAY_CLIENT_RPS",
                Some("500"),
                number(1..=1_000_000),
                "requests that one client may make in a second",
            ),
            client_max_open_watches: from.read(
                "RELAY_CLIENT_MAX_OPEN_WATCHES",
                Some("100000"),
                number(1..=1_000_000_000),
                "open watches that one client may have",
            ),
        }
    }
}

fn read_admin_token(from: &mut SettingsReader) -> Option<SecretString> {
    from.read_secret(
        "RELAY_ADMIN_TOKEN",
        None,
        optional(admin_token),
        "bearer token of the admin API and the console, at least 24 characters; both are off if no operator has a token",
    )
}

fn read_operators(from: &mut SettingsReader) -> Vec<OperatorToken> {
    from.read_secret_lines(
        "RELAY_ADMIN_TOKENS",
        None,
        operators,
        "further operators, one NAME:TOKEN on each line; usually given as RELAY_ADMIN_TOKENS_FILE",
    )
}

impl StoreConfig {
    fn read(from: &mut SettingsReader) -> Self {
        Self {
            database: from.read_secret(
                "RELAY_DATABASE_URL",
                Some("sqlite://basiq-relay.db"),
                database,
                "database of the relay: sqlite://PATH or postgres://…; migrations run at the start",
            ),
            encryption_key: from.read_secret(
                "RELAY_ENCRYPTION_KEY",
                None,
                optional(secret),
                "key that encrypts the secrets of clients at rest: the base64 of 32 random bytes",
            ),
            encryption_previous_key: from.read_secret(
                "RELAY_ENCRYPTION_PREVIOUS_KEY",
                None,
                optional(secret),
                "previous encryption key, needed until client reencrypt has replaced it",
            ),
            retention: from.read(
                "RELAY_RETENTION",
                Some("30d"),
                duration(AGES),
                "how long the relay keeps watches that have ended",
            ),
            audit_retention: from.read(
                "RELAY_AUDIT_RETENTION",
                Some("400d"),
                duration(AGES),
                "how long the relay keeps entries of the audit log",
            ),
        }
    }
}

fn read_basiq(from: &mut SettingsReader) -> BasiqConfig {
    BasiqConfig {
        url: from.read(
            "RELAY_BASIQ_URL",
            Some("https://au-api.basiq.io"),
            base_url,
            "base address of Basiq",
        ),
        api_key: from.read_secret(
            "RELAY_BASIQ_API_KEY",
            None,
            secret,
            "API key for Basiq, as Basiq's dashboard shows it; serve requires it",
        ),
        webhook_secret: from.read_secret(
            "RELAY_BASIQ_WEBHOOK_SECRET",
            None,
            optional(secret),
            "secret that verifies Basiq's webhooks at /basiq/webhook; without it the relay does not receive them",
        ),
        requests_per_second: from.read(
            "RELAY_UPSTREAM_RPS",
            Some("20"),
            number(1..=10_000),
            "calls to Basiq in a second, of all relays on the store together",
        ),
        concurrency: from.read(
            "RELAY_UPSTREAM_CONCURRENCY",
            Some("32"),
            number(1..=10_000),
            "calls to Basiq in flight, of all relays on the store together",
        ),
        timeout: from.read(
            "RELAY_UPSTREAM_TIMEOUT",
            Some("10s"),
            duration(TIME_LIMITS),
            "time limit of one call to Basiq, from connect to last byte",
        ),
    }
}

impl TrackingConfig {
    fn read(from: &mut SettingsReader) -> Self {
        Self {
            poll_min_interval: from.read(
                "RELAY_POLL_MIN_INTERVAL",
                Some("1s"),
                duration(INTERVALS),
                "shortest wait between two looks at a running job",
            ),
            poll_max_interval: from.read(
                "RELAY_POLL_MAX_INTERVAL",
                Some("60s"),
                duration(INTERVALS),
                "longest wait between two looks at a running job",
            ),
            update_retry_interval: from.read(
                "RELAY_UPDATE_RETRY_INTERVAL",
                Some("2h"),
                duration(AGES),
                "how long Basiq waits before it retries an update that met service-unavailable",
            ),
            job_max_age: from.read(
                "RELAY_JOB_MAX_AGE",
                Some("7d"),
                duration(AGES),
                "age of a job at which the relay ends its watch without a result",
            ),
            job_not_found_grace: from.read(
                "RELAY_JOB_NOT_FOUND_GRACE",
                Some("1m"),
                duration(WAITS),
                "how long Basiq may answer that a job is unknown or forbidden before the relay ends its watch",
            ),
            bank_retry_after: from.read(
                "RELAY_BANK_RETRY_AFTER",
                Some("10m"),
                duration(WAITS),
                "wait that an event recommends (retryAt) before somebody tries again",
            ),
            outage_poll_interval: from.read(
                "RELAY_OUTAGE_POLL_INTERVAL",
                Some("10m"),
                duration(INTERVALS),
                "how often the relay asks whether a bank in a major outage is back",
            ),
            support_after_failures: from.read(
                "RELAY_SUPPORT_AFTER_FAILURES",
                Some("3"),
                number(1..=1_000),
                "failures in a row of one connection after which an event advises to contact support",
            ),
        }
    }
}

impl SubscriptionConfig {
    fn read(from: &mut SettingsReader) -> Self {
        Self {
            discovery_interval: from.read(
                "RELAY_DISCOVERY_INTERVAL",
                Some("6h"),
                duration(SECOND..=YEAR),
                "how often the relay lists the jobs of a subscription's user when no webhook asks for it",
            ),
            forward_url: from.read_secret(
                "RELAY_BASIQ_WEBHOOK_FORWARD_URL",
                None,
                optional(secret),
                "address to which the relay passes on Basiq's own webhooks, unchanged",
            ),
        }
    }
}

impl DeliveryConfig {
    fn read(from: &mut SettingsReader) -> Self {
        Self {
            allow_http: from.read(
                "RELAY_CALLBACK_ALLOW_HTTP",
                Some("false"),
                boolean,
                "accept http:// callbacks",
            ),
            allow_networks: from.read_list(
                "RELAY_CALLBACK_ALLOW_NETWORKS",
                Some(""),
                networks,
                "private networks (CIDR, comma-separated) that callbacks may reach",
            ),
            ca_file: from.read(
                "RELAY_CALLBACK_CA_FILE",
                None,
                optional(file),
                "further CA certificates (PEM) to trust for callbacks",
            ),
            proxy: from.read_secret(
                "RELAY_EGRESS_PROXY",
                None,
                optional(proxy),
                "HTTP proxy (http://HOST:PORT) for callbacks; the relay checks each address first, and gives the proxy that address, not the name",
            ),
            timeout: from.read(
                "RELAY_DELIVERY_TIMEOUT",
                Some("15s"),
                duration(TIME_LIMITS),
                "time limit of one delivery attempt, from connect to last byte",
            ),
            retry_schedule: read_retry_schedule(from),
            concurrency: from.read(
                "RELAY_DELIVERY_CONCURRENCY",
                Some("256"),
                number(1..=10_000),
                "delivery attempts in flight of one relay",
            ),
            concurrency_per_host: from.read(
                "RELAY_DELIVERY_CONCURRENCY_PER_HOST",
                Some("16"),
                number(1..=10_000),
                "delivery attempts in flight to one host name",
            ),
            pauses_hosts: !from.development,
        }
    }
}

fn read_retry_schedule(from: &mut SettingsReader) -> Vec<Duration> {
    from.read_list(
        "RELAY_DELIVERY_RETRY_SCHEDULE",
        Some("5s,5m,30m,2h,5h,10h,10h"),
        durations(MILLISECOND..=YEAR),
        "waits between delivery attempts",
    )
}

impl AlertConfig {
    fn read(from: &mut SettingsReader) -> Self {
        Self {
            url: from.read_secret(
                "RELAY_ALERT_URL",
                None,
                optional(secret),
                "URL to which the relay posts alerts for operators, as signed JSON that Slack and Teams also accept",
            ),
            secret: from.read_secret(
                "RELAY_ALERT_SECRET",
                None,
                optional(secret),
                "secret that signs alerts: whsec_ and the base64 of 24 to 64 random bytes; RELAY_ALERT_URL needs it",
            ),
            timing: AlertTiming::default(),
        }
    }
}

impl LogConfig {
    fn read(from: &mut SettingsReader) -> Self {
        Self {
            filter: from.read(
                "RELAY_LOG",
                Some("info"),
                log_filter,
                "filter of log lines, as tracing directives",
            ),
            format: from.read("RELAY_LOG_FORMAT", Some("text"), log_format, "text or json"),
            export_traces: from.traces(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "address of an OpenTelemetry collector; turns on the export of traces; the other standard variables also apply",
            ),
        }
    }
}
