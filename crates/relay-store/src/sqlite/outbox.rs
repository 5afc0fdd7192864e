//! Deliveries to send: claims the due ones, a few for each host.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ErrorChain, LeaseId};
use rusqlite::{Connection, params};
use tracing::error;

use crate::{
    AbandonedDelivery, AttemptResult, Claim, DueDelivery, HostLimits, NewDeliveries, OutboxStore,
    Sealer, StoreError, WaitLimit,
    rows::{self, ColumnReader, IdBytes, UNREADABLE_RETRY_AFTER, int, millis_later},
    rules::{self, DeliveryCandidate},
    sqlite::{
        SqliteStore, attempts,
        file_health::FileHealth,
        hosts,
        row::json_list,
        statement::{OwnedRow, execute_each, fetch_all, fetch_each},
    },
};

/// The number of candidates for each delivery that may be claimed. More are needed because a host that is probed gets
/// only one delivery at a time.
pub(super) const CANDIDATES: usize = 2;

/// The number of hosts whose candidates are sorted at once.
const HOSTS_AT_ONCE: usize = 256;

/// Finds hosts with pending events. It steps in the index from one host to the next, so the length of a host's
/// queue does not matter. The list `?1` has the hosts to leave out.
macro_rules! hosts {
    () => {
        "WITH RECURSIVE every(host) AS ( \
             SELECT min(host) FROM outbox \
             UNION ALL \
             SELECT (SELECT min(o.host) FROM outbox o WHERE o.host > every.host) \
             FROM every WHERE host IS NOT NULL), \
         hosts(host) AS ( \
             SELECT host FROM every WHERE host NOT IN (SELECT value FROM json_each(?1))) "
    };
}

/// Finds the hosts that may have something due. Reads whether each is paused, and whether it is only probed.
///
/// `+?2` keeps SQLite from preparing the statement again for each value: the column is in a partial index's
/// condition.
pub(super) const HOSTS: &str = concat!(
    hosts!(),
    "SELECT hosts.host, ifnull(f.paused_until > +?2, 0) OR m.host IS NOT NULL AS paused, \
     ifnull(f.pauses > 0, 0) AS probed \
     FROM hosts LEFT JOIN failing_hosts f ON f.host = hosts.host \
     LEFT JOIN manual_pauses m ON m.host = hosts.host WHERE hosts.host IS NOT NULL"
);

/// Finds the longest due events of a host.
macro_rules! oldest {
    ($kind:literal) => {
        concat!(
            "SELECT source_id, host, ready_at, deadline IS NOT NULL AS expires, ?4 AS probed \
             FROM outbox WHERE host = ?1 AND ready_at <= ?2",
            $kind,
            " ORDER BY ready_at LIMIT ?3"
        )
    };
}

pub(super) const OLDEST: &str = oldest!("");

/// Finds the due events of a paused host: only those with a deadline are tried.
pub(super) const EXPIRING: &str = oldest!(" AND deadline IS NOT NULL");

pub(super) const LEASE: &str =
    "UPDATE outbox SET lease_id = ?2, lease_until = ?3 WHERE source_id = ?1";

pub(super) const CLAIMED: &str = "SELECT o.source_id, o.event_id, o.deadline, o.attempts, \
    o.round_attempts, e.kind, e.created_at, e.body, m.body AS message, \
    j.job_id, coalesce(w.callback_url, s.callback_url, m.callback_url) AS callback_url, w.traceparent, m.headers, \
    c.name, c.secret, c.previous_secret, c.previous_until, \
    c.callback_certificate, c.callback_headers \
    FROM outbox o CROSS JOIN events e ON e.event_id = o.event_id \
    LEFT JOIN watches w ON w.watch_id = o.source_id \
    LEFT JOIN jobs j ON j.job_no = w.job_no \
    LEFT JOIN subscriptions s ON e.kind = 'notice' AND s.subscription_id = o.source_id \
    LEFT JOIN messages m ON e.kind = 'message' AND m.event_id = o.event_id \
    LEFT JOIN clients c ON c.client_id = o.client_id \
    WHERE o.source_id = ?1";

const PUT_OFF: &str = "UPDATE outbox SET lease_id = NULL, lease_until = NULL, \
    next_attempt_at = ?2 WHERE source_id = ?1";

/// Finds the earliest time when an event can be claimed. That is the least of the following times.
///
/// * For each host that no operator paused: when its first event is due, but after the host's pause.
/// * For each paused host: when its first event with a deadline is due, whatever the pause.
pub(super) const NEXT_DUE: &str = concat!(
    hosts!(),
    "SELECT min(due) FROM ( \
     SELECT max((SELECT min(o.ready_at) FROM outbox o WHERE o.host = hosts.host), \
         ifnull((SELECT f.paused_until FROM failing_hosts f WHERE f.host = hosts.host), 0)) AS due \
     FROM hosts WHERE NOT EXISTS (SELECT 1 FROM manual_pauses m WHERE m.host = hosts.host) \
     UNION ALL \
     SELECT (SELECT min(o.ready_at) FROM outbox o WHERE o.host = f.host AND o.deadline IS NOT NULL) \
     FROM failing_hosts f WHERE f.paused_until > 0 \
         AND f.host NOT IN (SELECT value FROM json_each(?1)) \
     UNION ALL \
     SELECT (SELECT min(o.ready_at) FROM outbox o WHERE o.host = manual_pauses.host AND o.deadline IS NOT NULL) \
     FROM manual_pauses WHERE manual_pauses.host NOT IN (SELECT value FROM json_each(?1)))"
);

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn claim_due_deliveries(
        &self,
        claim: Claim,
        hosts: &HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let (limits, reading) = (hosts.clone(), self.reading());
        let claimed = self.write(move |connection| claim_due(connection, claim, limits, &reading));
        match claimed.await {
            Err(failure) if failure.is_damage() => {
                self.claim_undamaged_deliveries(claim, hosts.clone()).await
            }
            claimed => claimed,
        }
    }

    fn new_deliveries(&self) -> &NewDeliveries {
        &self.0.new_deliveries
    }

    async fn record_attempts(&self, results: Vec<AttemptResult>) -> Result<(), StoreError> {
        let results: Arc<[AttemptResult]> = results.into();
        let all = Arc::clone(&results);
        let recorded = self.write(move |connection| {
            for wave in rules::waves(&all) {
                attempts::record(connection, &wave)?;
            }
            Ok(())
        });
        match recorded.await {
            Err(failure) if failure.is_damage() => self.record_undamaged_attempts(results).await,
            recorded => recorded,
        }
    }

    async fn give_up_waiting(
        &self,
        waiting: WaitLimit,
    ) -> Result<Vec<AbandonedDelivery>, StoreError> {
        let found = move |connection: &Connection| hosts::waiting(connection, waiting);
        // the worker asks again and again: a read alone leaves the writer free while nothing is found
        let sources = self.0.reader.read(found).await?;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |connection| hosts::give_up(connection, &sources, waiting))
            .await
    }

    async fn next_delivery_due(&self, hosts: &HostLimits) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE)
            .bind(full_hosts(hosts))
            .fetch_one(self.readers()?)
            .await;
        self.due_if_undamaged(due)
    }
}

/// Reads rows of the outbox: decrypts the signing secrets, and reports rows that are damaged.
#[derive(Debug, Clone)]
pub(super) struct RowContext {
    sealer: Sealer,
    health: FileHealth,
}

impl SqliteStore {
    pub(super) fn reading(&self) -> RowContext {
        RowContext {
            sealer: self.0.sealer.clone(),
            health: self.0.health.clone(),
        }
    }
}

fn claim_due(
    connection: &Connection,
    claim: Claim,
    hosts: HostLimits,
    reading: &RowContext,
) -> Result<Vec<DueDelivery>, StoreError> {
    let sources = due(connection, claim, hosts)?;
    take(connection, &sources, claim, reading)
}

/// Claims the events that the outbox holds for these sources. Unreadable ones wait for a later claim.
pub(super) fn take(
    connection: &Connection,
    sources: &[IdBytes],
    claim: Claim,
    reading: &RowContext,
) -> Result<Vec<DueDelivery>, StoreError> {
    let lease = LeaseId::new(claim.now);
    let until = millis_later(claim.now, claim.lease);
    let leases = sources
        .iter()
        .map(|source| (source, lease.to_bytes(), until));
    execute_each(connection, LEASE, leases)?;
    let rows = fetch_each(connection, CLAIMED, sources.iter().map(|source| (source,)))?;
    let mut claimed = Vec::with_capacity(rows.len());
    let mut unreadable = Vec::new();
    for row in &rows {
        match rows::due_delivery(row, lease, &reading.sealer) {
            Ok(delivery) => claimed.push(delivery),
            Err(failure) => {
                reading.health.note(&failure);
                error!(error = %ErrorChain(&failure), "a delivery cannot be read and is put off");
                let source: IdBytes =
                    ColumnReader::of("outbox", "source_id", row).id("source_id")?;
                unreadable.push((source, millis_later(claim.now, UNREADABLE_RETRY_AFTER)));
            }
        }
    }
    execute_each(connection, PUT_OFF, unreadable)?;
    Ok(claimed)
}

/// Returns the sources whose due events are claimed, the longest due first.
fn due(
    connection: &Connection,
    claim: Claim,
    limits: HostLimits,
) -> Result<Vec<IdBytes>, StoreError> {
    let now = claim.now.as_millisecond();
    let hosts = fetch_all(connection, HOSTS, params![full_hosts(&limits), now])?;
    let mut candidates = Vec::new();
    for some in hosts.chunks(HOSTS_AT_ONCE) {
        for row in &oldest(connection, some, claim, &limits)? {
            candidates.push(DeliveryCandidate::read(row)?);
        }
        candidates.sort_by_key(DeliveryCandidate::ready_at);
        candidates.truncate(CANDIDATES * claim.limit);
    }
    let (sources, probed) = rules::choose(candidates, claim.limit, limits);
    hosts::probe(connection, &probed, claim.now, claim.lease)?;
    Ok(sources)
}

/// Finds the due events of each of these hosts, up to the host's free capacity.
pub(super) fn oldest(
    connection: &Connection,
    hosts: &[OwnedRow],
    claim: Claim,
    limits: &HostLimits,
) -> Result<Vec<OwnedRow>, StoreError> {
    let (mut open, mut paused) = (Vec::new(), Vec::new());
    for host in hosts {
        let cells = ColumnReader::of("outbox", "host", host);
        let name: &str = cells.get("host")?;
        let free = int(limits.free_at(name).min(claim.limit));
        let asked = (
            name,
            claim.now.as_millisecond(),
            free,
            cells.get::<bool>("probed")?,
        );
        if cells.get("paused")? {
            paused.push(asked);
        } else {
            open.push(asked);
        }
    }
    let mut rows = fetch_each(connection, OLDEST, open)?;
    rows.extend(fetch_each(connection, EXPIRING, paused)?);
    Ok(rows)
}

pub(super) fn full_hosts(hosts: &HostLimits) -> String {
    json_list(rules::full_hosts(hosts))
}
