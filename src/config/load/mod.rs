//! Loads the settings: defaults, then the file, then the environment. Reports all faults at once.

use std::{ffi::OsString, fs, io, path::Path};

use secrecy::ExposeSecret;

use crate::config::{
    ConfigError, OperatorToken, Settings, development,
    reader::SettingsReader,
    sources::{SettingsFile, SettingsLayer},
};

/// The settings file that is read if it exists in the current folder.
const DEFAULT_FILE: &str = "relay.toml";

/// The variables that turn on trace export.
const TRACE_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

impl Default for Settings {
    fn default() -> Self {
        Self::read(&mut SettingsReader::default())
    }
}

impl Settings {
    /// Loads the settings of this process: defaults, then the file, then the environment. The file is the given one,
    /// which must exist, or else `relay.toml` in the current folder, if there is one.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = read_file(file)?;
        Self::from_sources(file.as_ref(), own_environment())
    }

    /// Loads the settings of this process like [`Settings::load`], for the development mode.
    pub fn load_for_development(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = read_file(file)?;
        Self::for_development(file.as_ref(), own_environment())
    }

    /// Loads the settings from a file and an environment.
    fn from_sources(
        file: Option<&SettingsFile>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::read_all(
            SettingsReader::default(),
            file,
            environment.into_iter().collect(),
        )
    }

    /// Loads the settings from a file and an environment, for the development mode. Refuses settings of a relay that
    /// others use too.
    pub(super) fn for_development(
        file: Option<&SettingsFile>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let reader = SettingsReader {
            layers: vec![development::layer()],
            development: true,
            ..SettingsReader::default()
        };
        let settings = Self::read_all(reader, file, environment.into_iter().collect())?;
        ConfigError::unless_empty(development::faults(&settings))?;
        Ok(settings)
    }

    fn read_all(
        mut reader: SettingsReader,
        file: Option<&SettingsFile>,
        environment: Vec<(String, String)>,
    ) -> Result<Self, ConfigError> {
        reader.export_traces = asks_for_traces(&environment);
        match file.map(SettingsLayer::file) {
            Some(Ok(layer)) => reader.add(layer),
            Some(Err(fault)) => reader.faults.push(fault),
            None => {}
        }
        reader.add(SettingsLayer::environment(environment));
        let settings = Self::read(&mut reader);
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

    /// Reports settings that contradict each other. Called only if every value is valid by itself.
    fn find_contradictions(&self, reader: &mut SettingsReader) {
        let tracking = &self.tracking;
        if tracking.poll_min_interval > tracking.poll_max_interval {
            reader.contradiction(
                "RELAY_POLL_MIN_INTERVAL",
                "RELAY_POLL_MAX_INTERVAL",
                "must not be longer than",
            );
        }
        if self.delivery.concurrency_per_host > self.delivery.concurrency {
            reader.contradiction(
                "RELAY_DELIVERY_CONCURRENCY_PER_HOST",
                "RELAY_DELIVERY_CONCURRENCY",
                "must not be more than",
            );
        }
        let admin = self.server.admin_token.as_ref();
        let admin = admin.map(ExposeSecret::expose_secret);
        let taken = |operator: &&OperatorToken| Some(operator.token.expose_secret()) == admin;
        if let Some(operator) = self.server.operators.iter().find(taken) {
            let rule = "the token is that of RELAY_ADMIN_TOKEN; each operator needs one of its own";
            reader.wrong_line("RELAY_ADMIN_TOKENS", operator.line, rule);
        }
        let listen = self.server.listen;
        if listen.port() != 0 && self.server.metrics_listen == Some(listen) {
            reader.contradiction("RELAY_METRICS_LISTEN", "RELAY_LISTEN", "must differ from");
        }
    }
}

/// Returns the environment of this process.
fn own_environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// Reads the settings file. Returns none if no file is given and the default file does not exist.
fn read_file(file: Option<&Path>) -> Result<Option<SettingsFile>, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(SettingsFile { name, text })),
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

#[cfg(test)]
mod tests;
