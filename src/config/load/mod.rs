//! Loads the settings: defaults, then the file, then the environment. Reports all faults at once.

use std::{fs, io, ops::RangeInclusive, path::Path, time::Duration};

use basiq_client::BasiqConfig;
use secrecy::ExposeSecret;

use crate::config::{
    ConfigError, DAY, DeliveryConfig, HOUR, LogConfig, MINUTE, ServerConfig, Settings, StoreConfig,
    TrackingConfig,
    setting::{PREFIX, SettingDoc, TRACE_VARIABLES, doc_of},
    sources::{self, GivenValues},
    value::{self, Allowed},
};

/// The settings file that is read if it exists in the current folder.
const DEFAULT_FILE: &str = "relay.toml";

const MILLISECOND: Duration = Duration::from_millis(1);
const YEAR: Duration = DAY.saturating_mul(365);

/// The allowed time-outs of calls: long enough for the slowest peer, short enough for a lease.
const TIME_LIMITS: RangeInclusive<Duration> = MILLISECOND..=MINUTE.saturating_mul(10);
const INTERVALS: RangeInclusive<Duration> = MILLISECOND..=DAY;
const AGES: RangeInclusive<Duration> = MILLISECOND..=YEAR.saturating_mul(10);

impl Settings {
    /// Loads the settings of this process: defaults, then the file, then the environment. The file is the given one,
    /// which must exist, or else `relay.toml` in the current folder, if there is one.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = read_file(file)?;
        let environment = std::env::vars_os().map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        });
        let file = file.as_ref().map(|(name, text)| (&**name, &**text));
        Self::from_sources(file, environment)
    }

    /// Loads the settings from a file (its name and text) and an environment.
    pub fn from_sources(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let environment: Vec<_> = environment.into_iter().collect();
        let mut settings = Self::default();
        settings.log.export_traces = asks_for_traces(&environment);
        let mut layers = Vec::new();
        if let Some((name, text)) = file {
            match sources::file_layer(name, text) {
                Ok(layer) => layers.push(layer),
                Err(fault) => faults.push(fault),
            }
        }
        layers.push(sources::environment_layer(environment, &mut faults));
        let given = sources::merge(layers, &mut faults);
        let mut reader = Reader { given, faults };
        settings.read(&mut reader);
        if reader.faults.is_empty() {
            settings.find_contradictions(&mut reader);
        }
        ConfigError::unless_empty(reader.faults)?;
        Ok(settings)
    }

    /// Fails without a Basiq API key, which only `serve` needs.
    pub fn require_api_key(&self) -> Result<(), ConfigError> {
        if self.basiq.api_key.expose_secret().is_empty() {
            return Err(ConfigError::new(vec![
                "RELAY_BASIQ_API_KEY: not set; the API key from the Basiq dashboard is needed \
                 (RELAY_BASIQ_API_KEY_FILE may name a file that holds it)"
                    .to_owned(),
            ]));
        }
        Ok(())
    }

    fn read(&mut self, from: &mut Reader) {
        self.server.read(from);
        self.store.read(from);
        read_basiq(&mut self.basiq, from);
        self.tracking.read(from);
        self.delivery.read(from);
        self.log.read(from);
        from.read("messages", &mut self.messages, value::optional(value::text));
    }

    /// Reports settings that contradict each other. Called only if every value is valid by itself.
    fn find_contradictions(&self, reader: &mut Reader) {
        let tracking = &self.tracking;
        if tracking.poll_min_interval > tracking.poll_max_interval {
            reader.contradiction(
                "poll_min_interval",
                "poll_max_interval",
                "must not be longer than",
            );
        }
        if self.delivery.concurrency_per_host > self.delivery.concurrency {
            reader.contradiction(
                "delivery_concurrency_per_host",
                "delivery_concurrency",
                "must not be more than",
            );
        }
        let listen = self.server.listen;
        if listen.port() != 0 && self.server.metrics_listen == Some(listen) {
            reader.contradiction("metrics_listen", "listen", "must differ from");
        }
    }
}

/// Reads the settings file and returns its name and text. Returns none if no file is given and the default file does
/// not exist.
fn read_file(file: Option<&Path>) -> Result<Option<(String, String)>, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some((name, text))),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::new(vec![format!(
            "{name}: the settings file cannot be read: {error}"
        )])),
    }
}

/// Whether the standard variables of OpenTelemetry ask for trace export and none forbids it.
fn asks_for_traces(environment: &[(String, String)]) -> bool {
    let value = |wanted: &str| {
        environment
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.trim())
    };
    let asked = TRACE_VARIABLES
        .iter()
        .any(|name| value(name).is_some_and(|endpoint| !endpoint.is_empty()));
    let disabled = value("OTEL_SDK_DISABLED").is_some_and(|flag| flag.eq_ignore_ascii_case("true"))
        || value("OTEL_TRACES_EXPORTER").is_some_and(|name| name == "none");
    asked && !disabled
}

impl ServerConfig {
    fn read(&mut self, from: &mut Reader) {
        from.read("listen", &mut self.listen, value::address);
        from.read(
            "public_url",
            &mut self.public_url,
            value::optional(value::base_url),
        );
        from.read_list("allow_origins", &mut self.allow_origins, value::origins);
        from.read(
            "metrics_listen",
            &mut self.metrics_listen,
            value::optional(value::address),
        );
        from.read(
            "admin_token",
            &mut self.admin_token,
            value::optional(value::admin_token),
        );
        from.read(
            "shutdown_grace",
            &mut self.shutdown_grace,
            value::duration(Duration::ZERO..=HOUR),
        );
        from.read(
            "client_rps",
            &mut self.client_rps,
            value::number(1..=1_000_000),
        );
        from.read(
            "client_max_open_watches",
            &mut self.client_max_open_watches,
            value::number(1..=1_000_000_000),
        );
    }
}

impl StoreConfig {
    fn read(&mut self, from: &mut Reader) {
        from.read("database_url", &mut self.database, value::database);
        from.read(
            "encryption_key",
            &mut self.encryption_key,
            value::optional(value::secret),
        );
        from.read(
            "encryption_previous_key",
            &mut self.encryption_previous_key,
            value::optional(value::secret),
        );
        from.read("retention", &mut self.retention, value::duration(AGES));
    }
}

fn read_basiq(basiq: &mut BasiqConfig, from: &mut Reader) {
    from.read("basiq_url", &mut basiq.url, value::base_url);
    from.read("basiq_api_key", &mut basiq.api_key, value::secret);
    from.read(
        "basiq_webhook_secret",
        &mut basiq.webhook_secret,
        value::optional(value::secret),
    );
    from.read(
        "upstream_rps",
        &mut basiq.requests_per_second,
        value::number(1..=10_000),
    );
    from.read(
        "upstream_concurrency",
        &mut basiq.concurrency,
        value::number(1..=10_000),
    );
    from.read(
        "upstream_timeout",
        &mut basiq.timeout,
        value::duration(TIME_LIMITS),
    );
}

impl TrackingConfig {
    fn read(&mut self, from: &mut Reader) {
        let interval = value::duration(INTERVALS);
        let wait = value::duration(Duration::ZERO..=YEAR);
        from.read("poll_min_interval", &mut self.poll_min_interval, &interval);
        from.read("poll_max_interval", &mut self.poll_max_interval, &interval);
        from.read(
            "update_retry_interval",
            &mut self.update_retry_interval,
            value::duration(AGES),
        );
        from.read("job_max_age", &mut self.job_max_age, value::duration(AGES));
        from.read("job_not_found_grace", &mut self.job_not_found_grace, &wait);
        from.read("bank_retry_after", &mut self.bank_retry_after, &wait);
        from.read(
            "outage_poll_interval",
            &mut self.outage_poll_interval,
            &interval,
        );
        from.read(
            "support_after_failures",
            &mut self.support_after_failures,
            value::number(1..=1_000),
        );
    }
}

impl DeliveryConfig {
    fn read(&mut self, from: &mut Reader) {
        from.read("callback_allow_http", &mut self.allow_http, value::boolean);
        from.read_list(
            "callback_allow_networks",
            &mut self.allow_networks,
            value::networks,
        );
        from.read(
            "callback_ca_file",
            &mut self.ca_file,
            value::optional(value::file),
        );
        from.read(
            "egress_proxy",
            &mut self.proxy,
            value::optional(value::proxy),
        );
        from.read(
            "delivery_timeout",
            &mut self.timeout,
            value::duration(TIME_LIMITS),
        );
        from.read_list(
            "delivery_retry_schedule",
            &mut self.retry_schedule,
            value::durations(MILLISECOND..=YEAR),
        );
        from.read(
            "delivery_concurrency",
            &mut self.concurrency,
            value::number(1..=10_000),
        );
        from.read(
            "delivery_concurrency_per_host",
            &mut self.concurrency_per_host,
            value::number(1..=10_000),
        );
    }
}

impl LogConfig {
    fn read(&mut self, from: &mut Reader) {
        from.read("log", &mut self.filter, value::log_filter);
        from.read("log_format", &mut self.format, value::log_format);
    }
}

/// Parses the given values and collects faults.
struct Reader {
    given: GivenValues,
    faults: Vec<String>,
}

impl Reader {
    /// Parses a setting into `place`, if it was given.
    fn read<T>(
        &mut self,
        key: &'static str,
        place: &mut T,
        parse: impl Fn(&str) -> Result<T, Allowed>,
    ) {
        match self.given.get(key) {
            Some(given) if given.is_list => {
                self.faults.push(format!(
                    "{}: a single value is allowed, not a list",
                    given.label
                ));
            }
            _ => self.read_list(key, place, parse),
        }
    }

    /// Like [`Reader::read`], for settings that may also be written as a list.
    fn read_list<T>(
        &mut self,
        key: &'static str,
        place: &mut T,
        parse: impl Fn(&str) -> Result<T, Allowed>,
    ) {
        let Some(given) = self.given.get(key) else {
            return;
        };
        match parse(given.text.trim()) {
            Ok(value) => *place = value,
            Err(allowed) => {
                let shown = shown(key, &given.text);
                self.faults
                    .push(format!("{}: {shown} is not valid; {allowed}", given.label));
            }
        }
    }

    fn contradiction(&mut self, key: &str, other: &str, rule: &str) {
        let fault = format!("{} {rule} {}", self.described(key), self.described(other));
        self.faults.push(fault);
    }

    fn described(&self, key: &str) -> String {
        if let Some(given) = self.given.get(key) {
            return format!("{} `{}`", given.label, given.text.trim());
        }
        let name = format!("{PREFIX}{}", key.to_ascii_uppercase());
        let default = doc_of(key).and_then(|doc| doc.default).unwrap_or("none");
        format!("{name} (default) `{default}`")
    }
}

/// Returns a value as an error may show it: one short line, without anything that may be a secret.
fn shown(key: &str, text: &str) -> String {
    if doc_of(key).is_some_and(SettingDoc::is_secret) {
        return "the value (it may hold a secret, not shown)".to_owned();
    }
    if text.is_empty() {
        return "an empty value".to_owned();
    }
    // this may be an address with a user or with parameters
    if text.contains(['@', '?']) {
        return "the value (not shown, for it may hold a password)".to_owned();
    }
    let short: String = text.chars().take(100).collect();
    let ellipsis = if short.len() < text.len() { "…" } else { "" };
    format!("`{}{ellipsis}`", short.escape_debug())
}

#[cfg(test)]
mod tests;
