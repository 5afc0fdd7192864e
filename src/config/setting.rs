//! Every setting by name, with its default and meaning. `--help` prints them, and no other names are accepted.

/// The name, default and meaning of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingDoc {
    /// The name of the environment variable.
    pub name: &'static str,
    /// The default as a user would write it, or none if there is no default.
    pub default: Option<&'static str>,
    /// One line for the help.
    pub meaning: &'static str,
}

/// The prefix of the relay's own environment variables.
pub(super) const PREFIX: &str = "RELAY_";

/// The variables that turn on trace export. They are OpenTelemetry's own and do not have the prefix.
pub(super) const TRACE_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

impl SettingDoc {
    /// Returns the name in a settings file: lower case, without the prefix. Returns none for OpenTelemetry's own
    /// variables.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.name.strip_prefix(PREFIX).map(str::to_ascii_lowercase)
    }

    /// Whether the value may hold a secret, so that it must not be shown. This includes addresses of databases and
    /// proxies.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(
            self.name,
            "RELAY_DATABASE_URL"
                | "RELAY_BASIQ_API_KEY"
                | "RELAY_BASIQ_WEBHOOK_SECRET"
                | "RELAY_ADMIN_TOKEN"
                | "RELAY_ENCRYPTION_KEY"
                | "RELAY_ENCRYPTION_PREVIOUS_KEY"
                | "RELAY_EGRESS_PROXY"
        )
    }
}

/// Returns the setting with this name in a settings file, if there is one.
pub(super) fn doc_of(key: &str) -> Option<&'static SettingDoc> {
    SETTINGS
        .iter()
        .find(|doc| doc.key().as_deref() == Some(key))
}

const fn doc(
    name: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
) -> SettingDoc {
    SettingDoc {
        name,
        default,
        meaning,
    }
}

/// Every setting, in the order of the help. Each `RELAY_X` can also be given as `RELAY_X_FILE`, the path of a file
/// that holds the value.
pub const SETTINGS: &[SettingDoc] = &[
    doc(
        "RELAY_LISTEN",
        Some("127.0.0.1:8080"),
        "address to serve on",
    ),
    doc(
        "RELAY_PUBLIC_URL",
        None,
        "address at which the relay is reached from outside, for the addresses that it gives out",
    ),
    doc(
        "RELAY_ALLOW_ORIGINS",
        Some(""),
        "origins (https://HOST[:PORT], comma-separated) whose pages may read streams and the catalogue",
    ),
    doc(
        "RELAY_DATABASE_URL",
        Some("sqlite://basiq-relay.db"),
        "where watches are kept: sqlite://PATH or postgres://…; migrations run at start",
    ),
    doc(
        "RELAY_ENCRYPTION_KEY",
        None,
        "encrypts signing secrets at rest: the base64 of 32 random bytes",
    ),
    doc(
        "RELAY_ENCRYPTION_PREVIOUS_KEY",
        None,
        "the key before, while secrets are encrypted with it; see client reencrypt",
    ),
    doc(
        "RELAY_BASIQ_URL",
        Some("https://au-api.basiq.io"),
        "base address of Basiq",
    ),
    doc(
        "RELAY_BASIQ_API_KEY",
        None,
        "API key for Basiq, as the dashboard shows it; required by serve",
    ),
    doc(
        "RELAY_BASIQ_WEBHOOK_SECRET",
        None,
        "verifies Basiq's webhooks at /basiq/webhook; they are not received without it",
    ),
    doc(
        "RELAY_ADMIN_TOKEN",
        None,
        "bearer token of admin API and console, 24 characters at least; both are off without it",
    ),
    doc(
        "RELAY_CALLBACK_ALLOW_HTTP",
        Some("false"),
        "accept http:// callbacks",
    ),
    doc(
        "RELAY_CALLBACK_ALLOW_NETWORKS",
        Some(""),
        "networks (CIDR, comma-separated) that callbacks may reach although private",
    ),
    doc(
        "RELAY_CALLBACK_CA_FILE",
        None,
        "further CA certificates (PEM) to trust for callbacks",
    ),
    doc(
        "RELAY_EGRESS_PROXY",
        None,
        "HTTP proxy (http://HOST:PORT) that callbacks are reached through, by vetted address",
    ),
    doc(
        "RELAY_DELIVERY_TIMEOUT",
        Some("15s"),
        "time limit of one delivery attempt, connect to last byte",
    ),
    doc(
        "RELAY_DELIVERY_RETRY_SCHEDULE",
        Some("5s,5m,30m,2h,5h,10h,10h"),
        "waits between delivery attempts",
    ),
    doc(
        "RELAY_DELIVERY_CONCURRENCY",
        Some("256"),
        "delivery attempts in flight, in all",
    ),
    doc(
        "RELAY_DELIVERY_CONCURRENCY_PER_HOST",
        Some("16"),
        "delivery attempts in flight to one host name",
    ),
    doc(
        "RELAY_POLL_MIN_INTERVAL",
        Some("1s"),
        "shortest wait between two looks at a running job",
    ),
    doc(
        "RELAY_POLL_MAX_INTERVAL",
        Some("60s"),
        "longest wait between two looks at a running job",
    ),
    doc(
        "RELAY_UPSTREAM_RPS",
        Some("20"),
        "calls to Basiq a second, in all",
    ),
    doc(
        "RELAY_UPSTREAM_CONCURRENCY",
        Some("32"),
        "calls to Basiq in flight, in all",
    ),
    doc(
        "RELAY_UPSTREAM_TIMEOUT",
        Some("10s"),
        "time limit of one call to Basiq, connect to last byte",
    ),
    doc(
        "RELAY_UPDATE_RETRY_INTERVAL",
        Some("2h"),
        "how often Basiq retries an update that met service-unavailable",
    ),
    doc(
        "RELAY_JOB_MAX_AGE",
        Some("7d"),
        "the watch of a job older than this gives up",
    ),
    doc(
        "RELAY_JOB_NOT_FOUND_GRACE",
        Some("1m"),
        "how long a job may be unknown or forbidden before its watch ends",
    ),
    doc(
        "RELAY_BANK_RETRY_AFTER",
        Some("10m"),
        "the wait meant by: wait, then try again",
    ),
    doc(
        "RELAY_OUTAGE_POLL_INTERVAL",
        Some("10m"),
        "how often a bank in major outage is looked at",
    ),
    doc(
        "RELAY_SUPPORT_AFTER_FAILURES",
        Some("3"),
        "failures in a row of one connection before support is the advice",
    ),
    doc(
        "RELAY_RETENTION",
        Some("30d"),
        "settled watches older than this are deleted",
    ),
    doc(
        "RELAY_CLIENT_RPS",
        Some("500"),
        "requests a second that one client may make",
    ),
    doc(
        "RELAY_CLIENT_MAX_OPEN_WATCHES",
        Some("100000"),
        "open watches that one client may have",
    ),
    doc(
        "RELAY_SHUTDOWN_GRACE",
        Some("10s"),
        "how long a stop waits for work in flight",
    ),
    doc(
        "RELAY_METRICS_LISTEN",
        None,
        "address of its own for /metrics, which the main one then does not serve",
    ),
    doc(
        "RELAY_LOG",
        Some("info"),
        "which log lines: a tracing filter",
    ),
    doc("RELAY_LOG_FORMAT", Some("text"), "text or json"),
    doc(
        "RELAY_MESSAGES",
        None,
        "TOML that overrides texts of the catalogue; usually given as RELAY_MESSAGES_FILE",
    ),
    doc(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        "turns trace export on; the other standard variables apply too",
    ),
];
