//! Deliveries of a damaged file: claims and records the readable ones, and skips the others.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use relay_domain::EventId;
use rusqlite::{Connection, params};

use crate::{
    AttemptResult, Claim, DueDelivery, HostLimits, StoreError,
    rows::{IdBytes, UNREADABLE_RETRY_AFTER, int, millis_later},
    rules::{self, DeliveryCandidate},
    sqlite::{
        SqliteStore, attempts, hosts,
        outbox::{CANDIDATES, HOSTS, full_hosts, oldest, take},
        salvage::{readable, skip_damage},
        statement::{OwnedRow, execute, fetch_all, scalar},
    },
};

/// Reads the hosts of events from either end of the outbox, for when the index of hosts is damaged.
const HOSTS_IN_TABLE: &str = "SELECT host FROM outbox NOT INDEXED ORDER BY source_id LIMIT ?1";
const LATEST_HOSTS_IN_TABLE: &str =
    "SELECT host FROM outbox NOT INDEXED ORDER BY source_id DESC LIMIT ?1";

/// The maximum number of events that are read for their hosts, from each end.
const HOSTS_READ: usize = 10_000;

/// Reads whether one host is paused or probed.
const HOST: &str = "SELECT ?1 AS host, ifnull((SELECT paused_until > ?2 FROM failing_hosts f \
    WHERE f.host = ?1), 0) OR EXISTS (SELECT 1 FROM manual_pauses m WHERE m.host = ?1) AS paused, \
    ifnull((SELECT pauses > 0 FROM failing_hosts f WHERE f.host = ?1), 0) AS probed";

const PUT_OFF: &str = "UPDATE outbox SET lease_id = NULL, lease_until = NULL, next_attempt_at = ?2 \
    WHERE source_id = ?1";

const SOURCE: &str = "SELECT source_id FROM events WHERE event_id = ?1";

impl SqliteStore {
    /// Claims the due deliveries that can be read.
    pub(super) async fn claim_undamaged_deliveries(
        &self,
        claim: Claim,
        limits: HostLimits,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let (read, skipped) = (
            limits.clone(),
            self.0.health.skipped_rows().events_of.clone(),
        );
        let candidates = self
            .0
            .reader
            .read(move |c| candidates(c, claim, &read, &skipped));
        let (sources, probed) = rules::choose(candidates.await?, claim.limit, limits);
        let probing = self.write(move |c| hosts::probe(c, &probed, claim.now, claim.lease));
        skip_damage(probing.await)?;
        let sources: Arc<[IdBytes]> = sources.into();
        let reading = self.reading();
        let claimed = self.each_undamaged(&sources, &[], move |connection, part, _| {
            take(connection, part, claim, &reading)
        });
        let claimed = claimed.await?;
        for place in claimed.damaged {
            if let Some(source) = sources.get(place) {
                self.skip_event_of(*source, claim.now).await?;
            }
        }
        Ok(claimed.done.into_iter().flatten().collect())
    }

    /// Records the attempts that meet no damage. The other deliveries are put off, since the relay cannot remember
    /// whether they were accepted.
    pub(super) async fn record_undamaged_attempts(
        &self,
        all: Arc<[AttemptResult]>,
    ) -> Result<(), StoreError> {
        let recorded = self.each_undamaged(&all, &[], |connection, part, _| {
            for wave in rules::waves(part) {
                attempts::record(connection, &wave)?;
            }
            Ok(())
        });
        for place in recorded.await?.damaged {
            let Some(result) = all.get(place) else {
                continue;
            };
            if let Some(attempt) = &result.attempt {
                self.skip_event(result.delivery_id.into(), attempt.started_at)
                    .await?;
            }
        }
        Ok(())
    }

    /// Puts off an event whose attempt cannot be recorded, if its source can be found.
    async fn skip_event(&self, event: EventId, now: Timestamp) -> Result<(), StoreError> {
        let source = self
            .0
            .reader
            .read(move |connection| Ok(scalar(connection, SOURCE, (event.to_bytes(),))?));
        match skip_damage(source.await)? {
            Some(source) => self.skip_event_of(source, now).await,
            None => Ok(()),
        }
    }

    /// Puts off the damaged event of a source by its row in the outbox alone. If even that meets damage, skips it until
    /// the next start.
    async fn skip_event_of(&self, source: IdBytes, now: Timestamp) -> Result<(), StoreError> {
        let left = self.write(move |connection| {
            let until = millis_later(now, UNREADABLE_RETRY_AFTER);
            Ok(execute(connection, PUT_OFF, (source, until))?)
        });
        match left.await {
            Err(failure) if failure.is_damage() => {
                self.0.health.skipped_rows().skip_event_of(source);
            }
            left => drop(left?),
        }
        Ok(())
    }
}

/// Returns the due deliveries, as far as they can be read. Leaves out the skipped ones, which stay due and would
/// otherwise use up the capacity of their host.
fn candidates(
    connection: &Connection,
    claim: Claim,
    limits: &HostLimits,
    skipped: &HashSet<IdBytes>,
) -> Result<Vec<DeliveryCandidate>, StoreError> {
    let (mut wider, mut wider_limits) = (claim, limits.clone());
    wider.limit = wider.limit.saturating_add(skipped.len());
    wider_limits.per_host = wider_limits.per_host.saturating_add(skipped.len());
    let mut candidates = Vec::new();
    for host in hosts_of(connection, claim, limits)? {
        let rows = oldest(connection, &[host], wider, &wider_limits);
        for row in &skip_damage(rows)? {
            candidates.push(DeliveryCandidate::read(row)?);
        }
    }
    candidates.retain(|candidate| !skipped.contains(&candidate.source_id()));
    candidates.sort_by_key(DeliveryCandidate::ready_at);
    candidates.truncate(CANDIDATES * claim.limit);
    Ok(candidates)
}

/// Finds the hosts with pending deliveries. If the index is damaged, reads them from the table.
fn hosts_of(
    connection: &Connection,
    claim: Claim,
    limits: &HostLimits,
) -> Result<Vec<OwnedRow>, StoreError> {
    let now = claim.now.as_millisecond();
    let found = fetch_all(connection, HOSTS, params![full_hosts(limits), now]);
    match found.map_err(StoreError::from) {
        Err(failure) if failure.is_damage() => {}
        found => return found,
    }
    let read = [HOSTS_IN_TABLE, LATEST_HOSTS_IN_TABLE];
    let hosts: Vec<String> = readable(connection, read, [int(HOSTS_READ)])?;
    let mut known = Vec::new();
    for host in hosts.iter().filter(|host| limits.free_at(host) > 0) {
        let row = fetch_all(connection, HOST, params![host, now]);
        known.extend(skip_damage(row.map_err(StoreError::from))?);
    }
    Ok(known)
}
