//! The metrics of the relay: what each means, and their Prometheus text.

use std::{sync::OnceLock, time::Duration};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::telemetry::TelemetryError;

/// Bounds of the buckets of every `*_seconds` metric: from a fast call to the last retry of a day.
const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
    36_000.0,
];

/// How often samples of histograms are folded into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// A histogram of seconds.
    Seconds,
}

/// Every metric: kind, name, meaning.
const METRICS: &[(Kind, &str, &str)] = &[
    (Kind::Gauge, "relay_watches", "watches by state"),
    (
        Kind::Counter,
        "relay_reloads_total",
        "times the secrets were read again on SIGHUP by result",
    ),
    (
        Kind::Counter,
        "relay_polls_total",
        "looks at jobs by result",
    ),
    (
        Kind::Seconds,
        "relay_poll_lag_seconds",
        "how late a look began after it was due",
    ),
    (
        Kind::Counter,
        "relay_upstream_requests_total",
        "calls to Basiq by endpoint and HTTP status, or error",
    ),
    (
        Kind::Gauge,
        "relay_upstream_throttled",
        "1 while Basiq asks for fewer calls",
    ),
    (
        Kind::Gauge,
        "relay_upstream_key_refused",
        "1 while Basiq refuses the API key",
    ),
    (
        Kind::Gauge,
        "relay_upstream_breaker_open",
        "1 while calls to Basiq rest because it brought nothing usable",
    ),
    (
        Kind::Counter,
        "relay_hints_total",
        "webhooks of Basiq's by what came of them",
    ),
    (
        Kind::Counter,
        "relay_events_total",
        "events made by status and action",
    ),
    (
        Kind::Counter,
        "relay_unknown_error_codes_total",
        "failures with a code the catalogue lacks",
    ),
    (
        Kind::Counter,
        "relay_deliveries_total",
        "deliveries tried, expired or postponed for want of room at their address, by result",
    ),
    (
        Kind::Seconds,
        "relay_delivery_attempt_seconds",
        "how long one delivery attempt took",
    ),
    (
        Kind::Seconds,
        "relay_settle_to_delivery_seconds",
        "from seeing a job settled to the receiver's acceptance",
    ),
    (
        Kind::Seconds,
        "relay_detection_seconds",
        "from the job's settling at Basiq to seeing it here",
    ),
    (
        Kind::Counter,
        "relay_deliveries_dead_total",
        "deliveries given up",
    ),
    (
        Kind::Gauge,
        "relay_hosts_paused",
        "callback hosts that keep failing and are left alone for now",
    ),
    (Kind::Gauge, "relay_queue_depth", "work that waits by queue"),
];

/// The metrics of this process; cheap to clone.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// All metrics as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps histograms small while nobody scrapes, until `stop`. A process runs it once.
    pub async fn keep_small(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.0.run_upkeep();
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

/// The metrics of this process: set up by the first call, the same for every later one.
///
/// The `metrics` crate has one recorder a process, so its handle is kept for the process as well.
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
    for (kind, name, meaning) in METRICS.iter().copied() {
        match kind {
            Kind::Counter => describe_counter!(name, meaning),
            Kind::Gauge => describe_gauge!(name, meaning),
            Kind::Seconds => describe_histogram!(name, Unit::Seconds, meaning),
        }
    }
    Ok(Metrics(handle))
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
            text.contains("# HELP relay_polls_total looks at jobs by result"),
            "{text}"
        );
        assert!(
            first
                .render()
                .contains("relay_polls_total{result=\"told\"} 1")
        );
    }

    #[test]
    fn names_are_ours_and_once_each() {
        let mut names: Vec<_> = METRICS.iter().map(|(_, name, _)| *name).collect();
        assert!(names.iter().all(|name| name.starts_with("relay_")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for (kind, name, _) in METRICS {
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(*kind == Kind::Seconds, name.ends_with("_seconds"), "{name}");
        }
    }
}
