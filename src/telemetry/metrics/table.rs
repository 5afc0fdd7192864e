//! All metrics: kind, name, meaning, and the counters that start at 0.

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    /// A histogram of seconds.
    Seconds,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricEntry {
    pub(super) kind: MetricKind,
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    /// The label and the values that exist from the start, at 0. The values are empty if the metric has no label.
    /// `None` if the metric appears with its first count.
    pub(super) label: Option<(&'static str, &'static [&'static str])>,
}

const fn metric(kind: MetricKind, name: &'static str, meaning: &'static str) -> MetricEntry {
    MetricEntry {
        kind,
        name,
        meaning,
        label: None,
    }
}

const fn counter(
    name: &'static str,
    label: &'static str,
    values: &'static [&'static str],
    meaning: &'static str,
) -> MetricEntry {
    MetricEntry {
        label: Some((label, values)),
        ..metric(MetricKind::Counter, name, meaning)
    }
}

pub(super) const METRICS: &[MetricEntry] = &[
    metric(
        MetricKind::Gauge,
        "relay_build_info",
        "1, with the version of the relay",
    ),
    metric(
        MetricKind::Gauge,
        "relay_fleet_size",
        "relays at work on the store, where they may share it",
    ),
    metric(MetricKind::Gauge, "relay_watches", "watches by state"),
    metric(
        MetricKind::Gauge,
        "relay_queue_depth",
        "work that waits by queue",
    ),
    metric(
        MetricKind::Gauge,
        "relay_streams",
        "open streams, and calls that wait for a change",
    ),
    counter(
        "relay_store_commits_total",
        "",
        &[],
        "transactions that the store committed",
    ),
    counter(
        "relay_store_failures_total",
        "",
        &[],
        "units of work that the store could not do, as a disk that is full or a database out of reach",
    ),
    counter(
        "relay_store_damage_total",
        "",
        &[],
        "damage that was met in the database file, each time it was met",
    ),
    metric(
        MetricKind::Gauge,
        "relay_store_file_lost",
        "1 once the database file was removed, moved or replaced under the relay",
    ),
    counter(
        "relay_store_collisions_total",
        "",
        &[],
        "units of work that another relay was in the way of, done again",
    ),
    metric(
        MetricKind::Counter,
        "relay_http_requests_total",
        "requests by route, method and status",
    ),
    metric(
        MetricKind::Seconds,
        "relay_http_request_seconds",
        "how long requests took by route, method and status",
    ),
    counter(
        "relay_reloads_total",
        "result",
        &["ok", "failed"],
        "times the secrets were read again on SIGHUP by result",
    ),
    metric(
        MetricKind::Counter,
        "relay_polls_total",
        "looks at jobs by result",
    ),
    metric(
        MetricKind::Seconds,
        "relay_poll_lag_seconds",
        "how late a look began after it was due",
    ),
    metric(
        MetricKind::Counter,
        "relay_upstream_requests_total",
        "calls to Basiq by endpoint and HTTP status, or error",
    ),
    metric(
        MetricKind::Gauge,
        "relay_upstream_throttled",
        "1 while Basiq asks for fewer calls",
    ),
    metric(
        MetricKind::Gauge,
        "relay_upstream_key_refused",
        "1 while Basiq refuses the API key",
    ),
    metric(
        MetricKind::Gauge,
        "relay_upstream_breaker_open",
        "1 while calls to Basiq rest because it brought nothing usable",
    ),
    counter(
        "relay_hints_total",
        "result",
        &["again", "look", "nobody-watches", "refused", "unreadable"],
        "webhooks of Basiq's by what came of them",
    ),
    metric(
        MetricKind::Counter,
        "relay_events_total",
        "events made by status and action",
    ),
    counter(
        "relay_unknown_error_codes_total",
        "",
        &[],
        "failures with a code the catalogue lacks",
    ),
    counter(
        "relay_deliveries_total",
        "result",
        &[
            "delivered",
            "retried",
            "dead",
            "expired",
            "gone",
            "postponed",
        ],
        "deliveries tried, expired or postponed for want of room at their address, by result",
    ),
    metric(
        MetricKind::Seconds,
        "relay_delivery_attempt_seconds",
        "how long one delivery attempt took",
    ),
    metric(
        MetricKind::Seconds,
        "relay_settle_to_delivery_seconds",
        "from seeing a job settled to the receiver's acceptance",
    ),
    metric(
        MetricKind::Seconds,
        "relay_detection_seconds",
        "from the job's settling at Basiq to seeing it here",
    ),
    counter(
        "relay_deliveries_dead_total",
        "",
        &[],
        "deliveries given up",
    ),
    metric(
        MetricKind::Gauge,
        "relay_hosts_paused",
        "callback hosts that keep failing and are left alone for now",
    ),
];

/// The statuses and actions that events can have.
pub(super) const EVENTS: &[(&str, &str)] = &[
    ("success", "none"),
    ("action-required", "answer-mfa"),
    ("delayed", "wait"),
    ("failed", "resubmit-credentials"),
    ("failed", "resolve-at-bank"),
    ("failed", "reauthorise"),
    ("failed", "provide-statement"),
    ("failed", "wait-for-bank"),
    ("failed", "retry"),
    ("failed", "contact-support"),
    ("failed", "fix-request"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_once_each() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| name.starts_with("relay_")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for MetricEntry { kind, name, .. } in METRICS {
            assert_eq!(
                *kind == MetricKind::Counter,
                name.ends_with("_total"),
                "{name}"
            );
            assert_eq!(
                *kind == MetricKind::Seconds,
                name.ends_with("_seconds"),
                "{name}"
            );
        }
    }
}
