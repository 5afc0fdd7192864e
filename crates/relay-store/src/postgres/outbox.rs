//! Deliveries to send: each relay claims due deliveries, a few for each host.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ErrorChain, LeaseId};
use sqlx::{Row, postgres::PgRow};
use tracing::error;

use crate::{
    AbandonedDelivery, AttemptResult, Claim, DueDelivery, HostLimits, NewDeliveries, OutboxStore,
    Sealer, StoreError, WaitLimit,
    postgres::{
        PgSession, PgStore, attempts,
        clock::claim_now,
        hosts,
        indexes::{each, none},
        row::columns,
    },
    rows::{self, IdBytes, UNREADABLE_RETRY_AFTER, int, millis, millis_later, time},
    rules::{self, DeliveryCandidate},
};

/// How often one claim chooses deliveries, to replace those that another relay claimed first.
const ROUNDS: usize = 3;

/// Hosts with pending events, without the hosts in `$1`. The query steps from one host to the next in the index, so
/// the length of one host's queue does not matter.
macro_rules! hosts {
    () => {
        "WITH RECURSIVE every (host) AS ( \
             (SELECT host FROM outbox ORDER BY host LIMIT 1) \
             UNION ALL \
             SELECT (SELECT o.host FROM outbox o WHERE o.host > every.host ORDER BY o.host LIMIT 1) \
             FROM every WHERE every.host IS NOT NULL), \
         hosts (host) AS ( \
             SELECT host FROM every WHERE host IS NOT NULL AND host <> ALL($1)) "
    };
}

/// The events of a host that have been due longest, without those that another relay claimed first (`$5`).
macro_rules! oldest {
    ($of:literal, $kind:literal) => {
        concat!(
            "LATERAL (SELECT o.source_id, o.host, o.ready_at, o.deadline IS NOT NULL AS expires \
             FROM outbox o WHERE o.host = ",
            $of,
            ".host AND o.ready_at <= ",
            claim_now!("$2"),
            $kind,
            " AND o.source_id <> ALL($5) ORDER BY o.ready_at LIMIT $3) o "
        )
    };
}

/// The due time of a host's first event.
macro_rules! first {
    ($of:literal, $kind:literal) => {
        concat!(
            "LATERAL (SELECT o.ready_at FROM outbox o WHERE o.host = ",
            $of,
            ".host",
            $kind,
            " ORDER BY o.ready_at LIMIT 1) first "
        )
    };
}

/// The oldest due events of each host. Of a paused host, only events with a deadline.
pub(super) const DUE: &str = concat!(
    hosts!(),
    "SELECT o.source_id, o.host, o.ready_at, o.expires, \
     EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = o.host AND f.pauses > 0) AS probed \
     FROM hosts CROSS JOIN ",
    oldest!("hosts", ""),
    "WHERE ",
    none!(concat!(
        "failing_hosts f WHERE f.host = hosts.host AND f.paused_until > ",
        claim_now!("$2")
    )),
    " AND ",
    none!("manual_pauses m WHERE m.host = hosts.host"),
    " UNION ALL \
     SELECT o.source_id, o.host, o.ready_at, TRUE, TRUE \
     FROM failing_hosts f CROSS JOIN ",
    oldest!("f", " AND o.deadline IS NOT NULL"),
    "WHERE f.paused_until > ",
    claim_now!("$2"),
    " AND f.paused_until > 0 AND f.host <> ALL($1) AND ",
    none!("manual_pauses m WHERE m.host = f.host"),
    " UNION ALL \
     SELECT o.source_id, o.host, o.ready_at, TRUE, TRUE \
     FROM manual_pauses m CROSS JOIN ",
    oldest!("m", " AND o.deadline IS NOT NULL"),
    "WHERE m.host <> ALL($1) \
     ORDER BY ready_at LIMIT $4"
);

/// Leases the chosen events. Another relay may have claimed some since, or may be claiming them now; these are
/// skipped. `+ 0` keeps PostgreSQL from searching all due events.
pub(super) const LEASE: &str = concat!(
    "WITH leased AS (UPDATE outbox SET lease_id = $3, lease_until = ",
    claim_now!("$2"),
    " + $4 WHERE source_id = ANY(ARRAY(SELECT source_id FROM outbox \
             WHERE source_id = ANY($1) AND ready_at + 0 <= ",
    claim_now!("$2"),
    " FOR UPDATE SKIP LOCKED)) \
         RETURNING source_id, event_id, client_id, deadline, attempts, round_attempts) \
     SELECT o.source_id, o.event_id, o.deadline, o.attempts, o.round_attempts, e.kind, e.body, e.created_at, \
         m.body AS message, m.headers, w.job_id, w.traceparent, \
         coalesce(w.callback_url, s.callback_url, m.callback_url) AS callback_url, c.name, c.secret, c.previous_secret, c.previous_until, \
         c.callback_certificate, c.callback_headers \
     FROM leased o JOIN events e ON ",
    each!("e.event_id", "o.event_id"),
    " LEFT JOIN watches w ON ",
    each!("w.watch_id", "o.source_id"),
    " LEFT JOIN subscriptions s ON e.kind = 'notice' AND ",
    each!("s.subscription_id", "o.source_id"),
    " LEFT JOIN messages m ON e.kind = 'message' AND ",
    each!("m.event_id", "o.event_id"),
    " LEFT JOIN clients c ON ",
    each!("c.client_id", "o.client_id")
);

pub(super) const PUT_OFF: &str = "UPDATE outbox SET lease_id = NULL, lease_until = NULL, \
    next_attempt_at = $2 WHERE source_id = ANY($1)";

/// When an event can be claimed next. Each host counts with its first event. The pause of a host delays its events
/// without a deadline. Those of a host that an operator paused do not count.
pub(super) const NEXT_DUE: &str = concat!(
    hosts!(),
    "SELECT min(due) FROM ( \
     SELECT greatest(first.ready_at, \
         (SELECT f.paused_until FROM failing_hosts f WHERE f.host = hosts.host)) AS due \
     FROM hosts CROSS JOIN ",
    first!("hosts", ""),
    "WHERE ",
    none!("manual_pauses m WHERE m.host = hosts.host"),
    " UNION ALL \
     SELECT first.ready_at FROM failing_hosts f CROSS JOIN ",
    first!("f", " AND o.deadline IS NOT NULL"),
    "WHERE f.paused_until > 0 AND f.host <> ALL($1) \
     UNION ALL \
     SELECT first.ready_at FROM manual_pauses m CROSS JOIN ",
    first!("m", " AND o.deadline IS NOT NULL"),
    "WHERE m.host <> ALL($1)) dues"
);

#[async_trait]
impl OutboxStore for PgStore {
    async fn claim_due_deliveries(
        &self,
        claim: Claim,
        hosts: &HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let now = self.now(claim.now);
        let sealer = &self.0.sealer;
        self.write(
            (claim, now, hosts, sealer),
            |connection, (claim, now, hosts, sealer)| {
                Box::pin(claim_due(connection, *claim, *now, hosts, sealer))
            },
        )
        .await
    }

    fn new_deliveries(&self) -> &NewDeliveries {
        &self.0.new_deliveries
    }

    async fn record_attempts(&self, results: Vec<AttemptResult>) -> Result<(), StoreError> {
        for wave in rules::waves(&results) {
            self.write(wave, |connection, wave| {
                Box::pin(attempts::record(connection, wave))
            })
            .await?;
        }
        Ok(())
    }

    async fn give_up_waiting(
        &self,
        waiting: WaitLimit,
    ) -> Result<Vec<AbandonedDelivery>, StoreError> {
        let sources = hosts::waiting(&mut self.read().await?.session(), waiting).await?;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        self.write((sources, waiting), |connection, (sources, waiting)| {
            Box::pin(hosts::give_up(connection, sources, *waiting))
        })
        .await
    }

    async fn next_delivery_due(&self, hosts: &HostLimits) -> Result<Option<Timestamp>, StoreError> {
        // in a transaction, because its settings keep PostgreSQL from reading all deliveries
        let due = sqlx::query_scalar(NEXT_DUE)
            .bind(full_hosts(hosts))
            .fetch_one(&mut self.read().await?.session())
            .await?;
        Ok(time(due))
    }
}

async fn claim_due(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
    hosts: &HostLimits,
    sealer: &Sealer,
) -> Result<Vec<DueDelivery>, StoreError> {
    let lease = LeaseId::new(claim.now);
    let rows = lease_due(connection, claim, now, hosts, lease).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    let mut unreadable = Vec::new();
    for row in &rows {
        match rows::due_delivery(row, lease, sealer) {
            Ok(delivery) => claimed.push(delivery),
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a delivery cannot be read and is put off");
                unreadable.push(row.try_get::<IdBytes, _>("source_id")?);
            }
        }
    }
    if !unreadable.is_empty() {
        sqlx::query(PUT_OFF)
            .bind(unreadable)
            .bind(millis_later(claim.now, UNREADABLE_RETRY_AFTER))
            .execute(connection)
            .await?;
    }
    Ok(claimed)
}

/// Leases due events, the longest due first. Chooses others in place of those that another relay leased first.
async fn lease_due(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
    hosts: &HostLimits,
    lease: LeaseId,
) -> Result<Vec<PgRow>, StoreError> {
    let mut limits = hosts.clone();
    let (mut leased, mut missed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let left = Claim {
            limit: claim.limit.saturating_sub(leased.len()),
            ..claim
        };
        let chosen = choose(connection, left, now, &limits, &missed).await?;
        if chosen.is_empty() {
            break;
        }
        let rows = sqlx::query(LEASE)
            .bind(columns(&chosen, |(source, _)| *source))
            .bind(now)
            .bind(lease.to_bytes())
            .bind(millis(claim.lease))
            .fetch_all(&mut *connection)
            .await?;
        let mut got = HashMap::with_capacity(rows.len());
        for row in rows {
            got.insert(row.try_get::<IdBytes, _>("source_id")?, row);
        }
        let all = got.len() == chosen.len();
        for (source, host) in chosen {
            if let Some(row) = got.remove(&source) {
                *limits.taken.entry(host).or_default() += 1;
                leased.push(row);
            } else {
                missed.push(source);
            }
        }
        if all || leased.len() >= claim.limit {
            break;
        }
    }
    Ok(leased)
}

/// The host of a candidate.
struct CandidateHost {
    name: String,
    /// Whether the delivery only probes the host.
    is_probe: bool,
}

/// Returns the sources whose due events are to be leased, with their hosts. The event of a host that needs a probe is
/// chosen only if no other relay probes that host.
async fn choose(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
    limits: &HostLimits,
    missed: &[IdBytes],
) -> Result<Vec<(IdBytes, String)>, StoreError> {
    // each host yields up to `per_host` candidates; `rules::choose` drops at most as many as are in flight
    let taken: usize = limits.taken.values().sum();
    let rows = sqlx::query(DUE)
        .bind(full_hosts(limits))
        .bind(now)
        .bind(int(limits.per_host))
        .bind(int(claim.limit.saturating_add(taken)))
        .bind(missed)
        .fetch_all(&mut *connection)
        .await?;
    let candidates = rows.iter().map(|row| DeliveryCandidate::read(row));
    let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
    let hosts = candidates.iter().map(|candidate| {
        let host = CandidateHost {
            name: candidate.host().to_owned(),
            is_probe: candidate.is_probe(),
        };
        (candidate.source_id(), host)
    });
    let hosts_of: HashMap<IdBytes, CandidateHost> = hosts.collect();
    let (sources, probed) = rules::choose(candidates, claim.limit, limits.clone());
    let ours = hosts::probe(connection, &probed, now, claim.lease).await?;
    let chosen = sources.into_iter().filter_map(|source| {
        let host = hosts_of.get(&source)?;
        (!host.is_probe || ours.contains(&host.name)).then(|| (source, host.name.clone()))
    });
    Ok(chosen.collect())
}

fn full_hosts(hosts: &HostLimits) -> Vec<String> {
    rules::full_hosts(hosts).cloned().collect()
}
