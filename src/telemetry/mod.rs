//! Logs, traces and metrics of the process.

mod logs;
mod metrics;
mod one_line;
mod spans;

use thiserror::Error;

pub use self::{
    logs::{Telemetry, init},
    metrics::{Metrics, metrics_handle},
    spans::{context_of, join_as_server, join_traces, tell_answer},
};

/// Why logs, traces or metrics cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `RELAY_LOG` is no tracing filter.
    #[error("RELAY_LOG: `{filter}` is not valid; a tracing filter is allowed, such as info")]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser says.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The standard variables of OpenTelemetry ask for an exporter that cannot be built.
    #[error("OTEL_EXPORTER_OTLP_*: trace export cannot be set up: {0}")]
    Exporter(String),
    /// This process has its log already.
    #[error("the log is already set up")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
    /// The recorder of metrics could not be installed.
    #[error("metrics cannot be set up: {0}")]
    Recorder(String),
}
