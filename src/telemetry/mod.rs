//! Logs, traces and metrics of the process.

mod logs;
mod metrics;
mod one_line;
mod spans;

use thiserror::Error;

pub use self::{
    logs::{Telemetry, init},
    metrics::{BoundedLabel, Metrics, metrics_handle},
    spans::{context_of, join_as_server, join_traces, tell_answer},
};

/// Why logs, traces or metrics cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `RELAY_LOG` is not a valid tracing filter.
    #[error("RELAY_LOG: `{filter}` is not valid; a tracing filter is allowed, such as info")]
    Filter {
        /// The value of the setting.
        filter: String,
        /// The parser's error.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The standard OpenTelemetry variables ask for an exporter that cannot be built.
    #[error("OTEL_EXPORTER_OTLP_*: trace export cannot be set up: {0}")]
    Exporter(String),
    /// The log of this process is already set up.
    #[error("the log is already set up")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
    /// The metrics recorder could not be installed.
    #[error("metrics cannot be set up: {0}")]
    Recorder(String),
}
