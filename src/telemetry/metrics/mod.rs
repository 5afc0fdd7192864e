//! The relay's metrics: their meanings, and their Prometheus text.

mod label;
mod table;

use std::{sync::OnceLock, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio_util::sync::CancellationToken;

pub use self::label::BoundedLabel;
use self::table::{EVENTS, METRICS, MetricKind, MetricStart};
use crate::telemetry::TelemetryError;

/// The bucket bounds of every `*_seconds` metric, from a fast call to the last retry of a day.
const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
    36_000.0,
];

/// How often samples of histograms are moved into their buckets while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Returns all metrics as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        self.handle.render()
    }

    /// Keeps histograms small while nobody scrapes, until `stop`. A process runs it once.
    pub async fn keep_small(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.handle.run_upkeep();
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(UPKEEP) => {}
            }
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// Returns the metrics of this process. The first call sets them up, and later calls return the same.
///
/// The `metrics` crate has one recorder for each process, so the process keeps its handle too.
pub fn metrics_handle() -> Result<Metrics, TelemetryError> {
    static HANDLE: OnceLock<Result<Metrics, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| install().map_err(|error| error.to_string()))
        .clone()
        .map_err(TelemetryError::Recorder)
}

fn install() -> Result<Metrics, metrics_exporter_prometheus::BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    for metric in METRICS {
        let (name, meaning) = (metric.name, metric.meaning);
        match metric.kind {
            MetricKind::Counter => describe_counter!(name, meaning),
            MetricKind::Gauge => describe_gauge!(name, meaning),
            MetricKind::Seconds => describe_histogram!(name, Unit::Seconds, meaning),
        }
    }
    begin_at_zero();
    gauge!("relay_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let process = Collector::default();
    process.describe();
    Ok(Metrics { handle, process })
}

/// Creates counters with the value 0. If a counter first appeared with its first count, nobody could see that
/// increase.
fn begin_at_zero() {
    for metric in METRICS {
        match metric.start {
            MetricStart::FirstValue => {}
            MetricStart::Zero => counter!(metric.name).increment(0),
            MetricStart::ZeroFor(label, values) => {
                for value in values {
                    counter!(metric.name, label => *value).increment(0);
                }
            }
        }
    }
    for (status, action) in EVENTS {
        counter!("relay_events_total", "status" => *status, "action" => *action).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_histograms_with_buckets_and_asking_twice_is_fine() {
        let first = metrics_handle().unwrap();
        metrics::histogram!("relay_poll_lag_seconds").record(0.2);
        metrics::counter!("relay_polls_total", "result" => "told").increment(1);
        let text = metrics_handle().unwrap().render();
        assert!(
            text.contains("relay_poll_lag_seconds_bucket{le=\"0.25\"}"),
            "{text}"
        );
        assert!(
            text.contains("# HELP relay_polls_total looks (polls of one job), by result"),
            "{text}"
        );
        assert!(
            first
                .render()
                .contains("relay_polls_total{result=\"told\"} 1")
        );
    }

    #[test]
    fn counters_are_there_before_they_count() {
        let text = metrics_handle().unwrap().render();
        for line in [
            "relay_deliveries_dead_total ",
            "relay_reloads_total{result=\"failed\"} ",
            "relay_events_total{status=\"failed\",action=\"contact-support\"} ",
            concat!(
                "relay_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
