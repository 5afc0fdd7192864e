//! Deliveries to send: each relay claims due deliveries, a few for each host.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ErrorChain, LeaseId};
use sqlx::Row;
use tracing::error;

use crate::{
    AbandonedDelivery, AttemptResult, Claim, DueDelivery, HostLimits, NewDeliveries, OutboxStore,
    Sealer, StoreError, WaitLimit,
    postgres::{
        PgSession, PgStore, attempts,
        clock::claim_now,
        hosts,
        indexes::{each, none},
    },
    rows::{self, REST_OF_UNREADABLE, int, later, millis, time},
    rules::{self, DeliveryCandidate},
};

/// How often one claim chooses deliveries, to replace those that another relay claimed first.
const ROUNDS: usize = 3;

/// Hosts with pending deliveries, without the hosts in `$1`. The query steps from one host to the next in the
/// index, so the length of one host's queue does not matter.
macro_rules! hosts {
    () => {
        "WITH RECURSIVE every (host) AS ( \
             (SELECT host FROM deliveries WHERE ready_at IS NOT NULL ORDER BY host LIMIT 1) \
             UNION ALL \
             SELECT (SELECT d.host FROM deliveries d \
                 WHERE d.ready_at IS NOT NULL AND d.host > every.host ORDER BY d.host LIMIT 1) \
             FROM every WHERE every.host IS NOT NULL), \
         hosts (host) AS ( \
             SELECT host FROM every WHERE host IS NOT NULL AND host <> ALL($1)) "
    };
}

/// True if no other delivery of the same watch is in flight.
macro_rules! alone {
    ($of:literal, $is_leased:expr) => {
        none!(concat!(
            "deliveries o WHERE o.watch_id = ",
            $of,
            ".watch_id AND ",
            $is_leased
        ))
    };
}

/// The deliveries of a host that have been due longest, without those that another relay claimed first (`$5`).
macro_rules! oldest {
    ($of:literal, $kind:literal) => {
        concat!(
            "LATERAL (SELECT c.delivery_id, c.watch_id, c.host, c.ready_at, \
             c.deadline IS NOT NULL AS expires FROM deliveries c WHERE c.host = ",
            $of,
            ".host AND c.ready_at <= ",
            claim_now!("$2"),
            $kind,
            " AND c.delivery_id <> ALL($5) AND ",
            alone!("c", concat!("o.lease_until > ", claim_now!("$2"))),
            " ORDER BY c.ready_at LIMIT $3) d "
        )
    };
}

/// The due time of a host's first delivery that does not wait for another one of its watch.
macro_rules! first {
    ($of:literal, $kind:literal) => {
        concat!(
            "LATERAL (SELECT d.ready_at FROM deliveries d WHERE d.host = ",
            $of,
            ".host AND d.ready_at IS NOT NULL",
            $kind,
            " AND ",
            alone!("d", "o.lease_until IS NOT NULL"),
            " ORDER BY d.ready_at LIMIT 1) first "
        )
    };
}

/// The oldest due deliveries of each host, without watches that have another delivery in flight. Of a paused
/// host, only deliveries with a deadline.
pub(super) const DUE: &str = concat!(
    hosts!(),
    "SELECT d.delivery_id, d.watch_id, d.host, d.ready_at, d.expires, \
     EXISTS (SELECT 1 FROM failing_hosts f WHERE f.host = d.host AND f.pauses > 0) AS probed \
     FROM hosts CROSS JOIN ",
    oldest!("hosts", ""),
    "WHERE ",
    none!(concat!(
        "failing_hosts p WHERE p.host = hosts.host AND p.paused_until > ",
        claim_now!("$2")
    )),
    " UNION ALL \
     SELECT d.delivery_id, d.watch_id, d.host, d.ready_at, TRUE, TRUE \
     FROM failing_hosts p CROSS JOIN ",
    oldest!("p", " AND c.deadline IS NOT NULL"),
    "WHERE p.paused_until > ",
    claim_now!("$2"),
    " AND p.paused_until > 0 AND p.host <> ALL($1) \
     ORDER BY ready_at LIMIT $4"
);

/// Leases the chosen deliveries. Another relay may have claimed some since, or may be claiming them now; these
/// are skipped. `coalesce` makes PostgreSQL find the rows by id, not among all pending deliveries. A delivery
/// without a `ready_at` is never ready.
pub(super) const LEASE: &str = concat!(
    "UPDATE deliveries SET lease_id = $3, lease_until = ",
    claim_now!("$2"),
    " + $4 WHERE delivery_id = ANY(ARRAY(SELECT delivery_id FROM deliveries \
         WHERE delivery_id = ANY($1) AND coalesce(ready_at, 9223372036854775807) <= ",
    claim_now!("$2"),
    " FOR UPDATE SKIP LOCKED)) RETURNING delivery_id"
);

pub(super) const CLAIMED: &str = concat!(
    "SELECT d.delivery_id, d.event_id, d.deadline, d.attempts, \
     d.round_attempts, e.body, e.created_at, w.watch_id, w.job_id, w.callback_url, w.traceparent, \
     c.name, c.secret, c.previous_secret, c.previous_until \
     FROM unnest($1::text[]) WITH ORDINALITY i (delivery_id, place) \
     JOIN deliveries d ON d.delivery_id = i.delivery_id \
     JOIN events e ON e.event_id = d.event_id \
     JOIN watches w ON w.watch_id = d.watch_id \
     JOIN clients c ON ",
    each!("c.client_id", "w.client_id"),
    " ORDER BY i.place"
);

pub(super) const PUT_OFF: &str = "UPDATE deliveries SET lease_id = NULL, lease_until = NULL, \
    next_attempt_at = $2 WHERE delivery_id = ANY($1)";

/// When a delivery can be claimed next. Each host counts with its first delivery that does not wait for another
/// one of its watch. The pause of a host delays its deliveries without a deadline. The ends of leases count too.
/// `OFFSET 0` runs the subquery for each delivery in flight, in place of a list of all that wait.
pub(super) const NEXT_DUE: &str = concat!(
    hosts!(),
    "SELECT min(due) FROM ( \
     SELECT greatest(first.ready_at, \
         (SELECT p.paused_until FROM failing_hosts p WHERE p.host = hosts.host)) AS due \
     FROM hosts CROSS JOIN ",
    first!("hosts", ""),
    "UNION ALL \
     SELECT first.ready_at FROM failing_hosts p CROSS JOIN ",
    first!("p", " AND d.deadline IS NOT NULL"),
    "WHERE p.paused_until > 0 AND p.host <> ALL($1) \
     UNION ALL \
     SELECT min(l.lease_until) FROM deliveries l WHERE l.lease_until IS NOT NULL \
         AND l.host <> ALL($1) AND (l.ready_at IS NOT NULL OR EXISTS (SELECT 1 FROM deliveries p \
             WHERE p.watch_id = l.watch_id AND p.next_attempt_at IS NOT NULL OFFSET 0))) dues"
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
        let ids = hosts::waiting(&mut self.read().await?.session(), waiting).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.write((ids, waiting.now), |connection, (ids, now)| {
            Box::pin(hosts::give_up(connection, ids, *now))
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
    let ids = lease_due(connection, claim, now, hosts, lease).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(CLAIMED)
        .bind(&ids)
        .fetch_all(&mut *connection)
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    let mut unreadable = Vec::new();
    for row in &rows {
        match rows::due_delivery(row, lease, sealer) {
            Ok(delivery) => claimed.push(delivery),
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a delivery cannot be read and is put off");
                unreadable.push(row.try_get::<String, _>("delivery_id")?);
            }
        }
    }
    if !unreadable.is_empty() {
        sqlx::query(PUT_OFF)
            .bind(unreadable)
            .bind(later(claim.now, REST_OF_UNREADABLE))
            .execute(connection)
            .await?;
    }
    Ok(claimed)
}

/// Leases due deliveries, the longest due first. Chooses others in place of those that another relay leased
/// first.
async fn lease_due(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
    hosts: &HostLimits,
    lease: LeaseId,
) -> Result<Vec<String>, StoreError> {
    let mut limits = hosts.clone();
    let (mut leased, mut missed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let left = Claim {
            limit: claim.limit.saturating_sub(leased.len()),
            ..claim
        };
        let chosen = choose(connection, left, now, &limits, &missed).await?;
        let ids: Vec<&String> = chosen.iter().map(|(id, _)| id).collect();
        let got: Vec<String> = sqlx::query_scalar(LEASE)
            .bind(ids)
            .bind(now)
            .bind(lease.to_string())
            .bind(millis(claim.lease))
            .fetch_all(&mut *connection)
            .await?;
        let got: HashSet<String> = got.into_iter().collect();
        let all = got.len() == chosen.len();
        for (id, host) in chosen {
            if got.contains(&id) {
                *limits.in_flight.entry(host).or_default() += 1;
                leased.push(id);
            } else {
                missed.push(id);
            }
        }
        if all || leased.len() >= claim.limit {
            break;
        }
    }
    Ok(leased)
}

/// Returns the due deliveries to lease, with their hosts. A delivery to a host that needs a probe is returned
/// only if no other relay probes that host.
async fn choose(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
    limits: &HostLimits,
    missed: &[String],
) -> Result<Vec<(String, String)>, StoreError> {
    // each host yields up to `per_host` candidates; `rules::choose` drops at most as many as are in flight
    let in_flight: usize = limits.in_flight.values().sum();
    let rows = sqlx::query(DUE)
        .bind(full_hosts(limits))
        .bind(now)
        .bind(int(limits.per_host))
        .bind(int(claim.limit.saturating_add(in_flight)))
        .bind(missed)
        .fetch_all(&mut *connection)
        .await?;
    let candidates = rows.iter().map(|row| DeliveryCandidate::read(row));
    let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
    let homes: HashMap<String, (String, bool)> =
        candidates.iter().map(DeliveryCandidate::home).collect();
    let (ids, probed) = rules::choose(candidates, claim.limit, limits.clone());
    let ours = hosts::probe(connection, &probed, now, claim.lease).await?;
    let chosen = ids.into_iter().filter_map(|id| {
        let (host, is_probe) = homes.get(&id)?;
        (!is_probe || ours.contains(host)).then(|| (id, host.clone()))
    });
    Ok(chosen.collect())
}

fn full_hosts(hosts: &HostLimits) -> Vec<String> {
    rules::full_hosts(hosts).cloned().collect()
}
