//! Writes log lines to standard error. Exports spans to a collector if the standard OpenTelemetry variables ask for
//! it.

use std::{io::IsTerminal, time::Duration};

use opentelemetry::{Key, trace::TracerProvider};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    config::{LogConfig, LogFormat},
    telemetry::{
        TelemetryError,
        one_line::{ControlCharacters, OneLineWriter},
        spans::is_exported,
    },
};

/// The name of this service in traces by default. `OTEL_SERVICE_NAME` overrides it.
const SERVICE: &str = "basiq-relay";

/// The maximum time that a stop waits for the collector to accept the last spans.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Exports traces while it exists. Dropping it sends the last spans to the collector.
#[derive(Debug, Default)]
#[must_use = "traces end when it is dropped"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = self.traces.take()
            && let Err(error) = traces.shutdown_with_timeout(FLUSH_LIMIT)
        {
            tracing::debug!(%error, "the last spans were not taken by the collector");
        }
    }
}

/// Sets up the log of this process, once, and the trace export if it is configured.
pub fn init(config: &LogConfig) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::builder()
        .parse(with_defaults(&config.filter))
        .map_err(|source| TelemetryError::Filter {
            filter: config.filter.clone(),
            source,
        })?;
    let traces = config.export_traces.then(exporter).transpose()?;
    let export = traces.as_ref().map(|traces| {
        let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer(SERVICE));
        layer.with_filter(filter_fn(is_exported).with_max_level_hint(Level::DEBUG))
    });
    let is_terminal = std::io::stderr().is_terminal();
    let lines = lines(config.format, is_terminal, std::io::stderr);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(export)
        .try_init()
        .map_err(TelemetryError::AlreadySet)?;
    Ok(Telemetry { traces })
}

/// Adds the directive that silences the verifier of certificates, unless the filter has one. It logs an error for each
/// callback whose certificate is not trusted, without naming the watch. The relay logs the same as a warning with ids.
fn with_defaults(filter: &str) -> String {
    let verifier = "rustls_platform_verifier";
    if filter.contains(verifier) {
        filter.to_owned()
    } else {
        format!("{filter},{verifier}=off")
    }
}

/// Creates the layer that writes each event as a line. The process writes to standard error, because standard
/// output belongs to the results of commands.
fn lines<S, W>(format: LogFormat, is_terminal: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let controls = if is_terminal {
        ControlCharacters::Colours
    } else {
        ControlCharacters::None
    };
    match format {
        LogFormat::Json => fmt::layer()
            .with_writer(writer)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true)
            .boxed(),
        // by default, the layer uses colours unless NO_COLOR is set
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(OneLineWriter {
                inner: writer,
                controls,
            });
            if is_terminal {
                layer.boxed()
            } else {
                layer.with_ansi(false).boxed()
            }
        }
    }
}

/// Creates the exporter of spans. A thread of the SDK sends them in batches, so a collector that hangs or is
/// unreachable costs only these spans.
fn exporter() -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .build()
        .map_err(|error| TelemetryError::Exporter(without_values(&error.to_string())))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build())
}

/// Replaces the quoted parts of a message, because an endpoint may contain a password.
fn without_values(message: &str) -> String {
    let parts = message.split('\'').enumerate();
    let kept = parts.map(|(number, part)| if number % 2 == 0 { part } else { "'…'" });
    kept.collect()
}

/// Returns the attributes of this service from the standard variables, with our name if they contain none.
fn resource() -> Resource {
    let detected = Resource::builder().build();
    let is_named = detected
        .get(&Key::from_static_str("service.name"))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    if is_named {
        detected
    } else {
        Resource::builder().with_service_name(SERVICE).build()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::config::Settings;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_verifier_of_certificates_is_silent_unless_a_filter_names_it() {
        let logged = |filter: &str| {
            let page = Page::default();
            let writer = page.clone();
            let layer = lines(LogFormat::Text, false, move || writer.clone());
            let filter = EnvFilter::builder().parse(with_defaults(filter)).unwrap();
            let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
            tracing::subscriber::with_default(subscriber, || {
                tracing::error!(target: "rustls_platform_verifier::verification", "untrusted");
                tracing::info!("seen");
            });
            String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
        };
        let told = logged("info");
        assert!(
            told.contains("seen") && !told.contains("untrusted"),
            "{told}"
        );
        let told = logged("rustls_platform_verifier=error");
        assert!(
            told.contains("untrusted") && !told.contains("seen"),
            "{told}"
        );
    }

    fn written(format: LogFormat) -> String {
        written_by(format, false, || {
            let span = tracing::info_span!("look", job.id = "job-1");
            span.in_scope(|| tracing::info!(watch.id = "wch_1", "two\nlines"));
        })
    }

    fn written_by(format: LogFormat, is_terminal: bool, work: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let layer = lines(format, is_terminal, move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, work);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Texts that outsiders control.
    fn naughty() -> Vec<String> {
        let table = include_str!("../../tests/outside/naughty_strings.toml");
        let table: toml::Table = toml::from_str(table).unwrap();
        let rows = table["string"].as_array().unwrap().iter();
        rows.map(|row| row["text"].as_str().unwrap().to_owned())
            .collect()
    }

    fn log_everywhere(text: &str) {
        let span = tracing::info_span!("look", job.id = %text, "error.code" = text);
        span.in_scope(|| tracing::warn!(error = %text, debug = ?text, plain = text, "{text}"));
    }

    #[test]
    fn whatever_a_text_holds_a_log_line_of_json_is_one_line() {
        for text in naughty() {
            let line = written_by(LogFormat::Json, false, || log_everywhere(&text));
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            for field in ["error", "plain", "message"] {
                assert_eq!(read[field], *text, "{line}");
            }
        }
    }

    #[test]
    fn whatever_a_text_holds_a_log_line_of_text_is_one_line_and_steers_no_terminal() {
        for text in naughty() {
            for is_terminal in [false, true] {
                let line = written_by(LogFormat::Text, is_terminal, || log_everywhere(&text));
                let body = line.strip_suffix('\n').unwrap();
                // the remaining escapes are the formatter's own colours
                let plain = body
                    .split("\u{1b}[")
                    .map(|part| match part.split_once('m') {
                        Some((colour, rest)) if colour.bytes().all(|b| b.is_ascii_digit()) => rest,
                        Some(_) | None => part,
                    });
                let plain: String = plain.collect();
                let is_seen = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}');
                assert!(!plain.contains(is_seen), "{text:?}: {plain:?}");
                assert!(is_terminal || !body.contains('\u{1b}'), "{body:?}");
            }
        }
    }

    #[test]
    fn json_is_one_object_a_line_with_the_fields_of_event_and_spans() {
        let text = written(LogFormat::Json);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["watch.id"], "wch_1");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["spans"][0]["job.id"], "job-1");
    }

    #[test]
    fn text_has_no_colours_where_there_is_no_terminal() {
        let text = written(LogFormat::Text);
        assert!(text.contains("watch.id=\"wch_1\""), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_filter_that_is_none_is_an_error_that_names_the_setting() {
        let config = LogConfig {
            filter: "basiq=loud".to_owned(),
            ..Settings::default().log
        };
        let error = init(&config).unwrap_err();
        assert!(error.to_string().contains("RELAY_LOG: `basiq=loud`"));
    }

    #[tokio::test]
    async fn an_exporter_without_a_collector_is_built_and_stopped_on_a_runtime() {
        let traces = exporter().unwrap();
        drop(Telemetry {
            traces: Some(traces),
        });
    }

    #[test]
    fn the_service_has_a_name() {
        let name = resource().get(&Key::from_static_str("service.name"));
        assert!(name.is_some_and(|name| name.as_str() == SERVICE));
    }
}
