//! All metrics: kind, name, meaning, and the counters that start at 0.

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    /// A histogram of seconds.
    Seconds,
}

/// A row of the table: how a metric is named, counted and explained, and when `/metrics` first shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct MetricEntry {
    pub(super) kind: MetricKind,
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) start: MetricStart,
}

/// When a metric appears.
#[derive(Debug, Clone, Copy)]
pub(super) enum MetricStart {
    /// With its first value.
    FirstValue,
    /// At the start of the relay, with 0.
    Zero,
    /// At the start of the relay, with 0 for each of these values of a label.
    ZeroFor(&'static str, &'static [&'static str]),
}

const fn metric(kind: MetricKind, name: &'static str, meaning: &'static str) -> MetricEntry {
    MetricEntry {
        kind,
        name,
        meaning,
        start: MetricStart::FirstValue,
    }
}

/// Returns a counter without a label.
const fn counter(name: &'static str, meaning: &'static str) -> MetricEntry {
    MetricEntry {
        start: MetricStart::Zero,
        ..metric(MetricKind::Counter, name, meaning)
    }
}

/// Returns a counter for each of these values of a label.
const fn counters(
    name: &'static str,
    label: &'static str,
    values: &'static [&'static str],
    meaning: &'static str,
) -> MetricEntry {
    MetricEntry {
        start: MetricStart::ZeroFor(label, values),
        ..metric(MetricKind::Counter, name, meaning)
    }
}

pub(super) const METRICS: &[MetricEntry] = &[
    metric(
        MetricKind::Gauge,
        "relay_build_info",
        "always 1; the label is the version of the relay",
    ),
    metric(
        MetricKind::Gauge,
        "relay_fleet_size",
        "relays that are alive on the same PostgreSQL store",
    ),
    metric(MetricKind::Gauge, "relay_watches", "watches, by state"),
    metric(
        MetricKind::Gauge,
        "relay_subscriptions",
        "active subscriptions",
    ),
    metric(
        MetricKind::Gauge,
        "relay_queue_depth",
        "rows that wait for work, by queue",
    ),
    metric(
        MetricKind::Gauge,
        "relay_streams",
        "open streams and long polls",
    ),
    counter(
        "relay_store_commits_total",
        "committed transactions of the store",
    ),
    counter(
        "relay_store_failures_total",
        "units of work that the store failed to do, for example because the disk is full or the database is unreachable",
    ),
    counter(
        "relay_store_damage_total",
        "times that a statement met damage in the database file",
    ),
    metric(
        MetricKind::Gauge,
        "relay_store_file_lost",
        "1 once the database file was removed, moved or replaced while the relay runs",
    ),
    counter(
        "relay_store_collisions_total",
        "units of work that were repeated because of a conflict with another relay",
    ),
    metric(
        MetricKind::Counter,
        "relay_http_requests_total",
        "HTTP requests, by route, method and status",
    ),
    metric(
        MetricKind::Seconds,
        "relay_http_request_seconds",
        "duration of HTTP requests, by route, method and status",
    ),
    counters(
        "relay_reloads_total",
        "result",
        &["ok", "failed"],
        "reloads of the secrets on SIGHUP, by result",
    ),
    metric(
        MetricKind::Counter,
        "relay_console_logins_total",
        "log-ins to the console, by operator and result",
    ),
    counters(
        "relay_lists_total",
        "result",
        &["listed", "unknown-user", "failed"],
        "lists of the jobs of subscribed users, by result",
    ),
    metric(
        MetricKind::Seconds,
        "relay_discovery_lag_seconds",
        "delay between the time a list of a user's jobs was due and its start",
    ),
    counter(
        "relay_discovered_jobs_total",
        "jobs of subscribed users that became watches",
    ),
    metric(
        MetricKind::Counter,
        "relay_notices_total",
        "notices that were queued, by type",
    ),
    metric(
        MetricKind::Counter,
        "relay_polls_total",
        "looks (polls of one job), by result",
    ),
    counters(
        "relay_job_looks_total",
        "job_type",
        &["connection", "report", "other"],
        "looks that brought the job's document, by type of job",
    ),
    metric(
        MetricKind::Counter,
        "relay_job_ends_total",
        "jobs whose end a look found, by type of job and by whether the look followed a hint of Basiq's",
    ),
    metric(
        MetricKind::Seconds,
        "relay_poll_lag_seconds",
        "delay between the time a look was due and its start",
    ),
    metric(
        MetricKind::Counter,
        "relay_upstream_requests_total",
        "requests to Basiq, by endpoint and HTTP status or error",
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
        "1 while the circuit breaker towards Basiq is open",
    ),
    counters(
        "relay_hints_total",
        "result",
        &[
            "again",
            "list",
            "look",
            "nobody-watches",
            "refused",
            "unreadable",
        ],
        "webhooks received from Basiq, by result",
    ),
    metric(
        MetricKind::Counter,
        "relay_events_total",
        "events created, by status and action",
    ),
    metric(
        MetricKind::Counter,
        "relay_institution_job_ends_total",
        "jobs whose end was seen, by bank and result; banks beyond the first 200 count as other",
    ),
    counter(
        "relay_unknown_error_codes_total",
        "failed jobs whose error code the catalogue lacks",
    ),
    counters(
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
        "delivery attempts, expired deliveries, and deliveries postponed because their address has no free capacity, by result",
    ),
    metric(
        MetricKind::Counter,
        "relay_client_deliveries_total",
        "the same by client; clients beyond the first 100 count as other",
    ),
    metric(
        MetricKind::Seconds,
        "relay_delivery_attempt_seconds",
        "duration of one delivery attempt",
    ),
    metric(
        MetricKind::Seconds,
        "relay_settle_to_delivery_seconds",
        "time from the look or webhook that led to an event until the receiver's 2xx",
    ),
    metric(
        MetricKind::Seconds,
        "relay_detection_seconds",
        "time from a job's settling at Basiq to the look that saw it",
    ),
    counter(
        "relay_deliveries_dead_total",
        "deliveries that were given up (dead)",
    ),
    counters(
        "relay_alerts_total",
        "result",
        &["sent", "failed", "dropped"],
        "alerts to operators, by result",
    ),
    metric(
        MetricKind::Gauge,
        "relay_hosts_paused",
        "callback hosts that are paused because they keep failing",
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
