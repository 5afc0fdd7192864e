//! Chooses which of the due deliveries are claimed.

use std::collections::HashMap;

use crate::{
    HostLimits, StoreError,
    rows::{AnyRow, ColumnReader, IdBytes},
};

/// A due delivery that a claim may take, if the limits of its host leave room.
pub(crate) struct DeliveryCandidate {
    source_id: IdBytes,
    host: String,
    /// The time since which it is due, in milliseconds.
    ready_at: i64,
    /// Whether it has a deadline.
    expires: bool,
    /// Whether its host is probed, that is, tried by one attempt to find out whether it answers again.
    probed: bool,
}

impl DeliveryCandidate {
    pub(crate) fn read(row: &dyn AnyRow) -> Result<Self, StoreError> {
        let cells = ColumnReader::of("outbox", "source_id", row);
        Ok(Self {
            source_id: cells.id("source_id")?,
            host: cells.get("host")?,
            ready_at: cells.get("ready_at")?,
            expires: cells.get("expires")?,
            probed: cells.get("probed")?,
        })
    }

    /// Returns the source whose event is delivered.
    pub(crate) fn source_id(&self) -> IdBytes {
        self.source_id
    }

    /// Returns the time since which the delivery is due, in milliseconds.
    pub(crate) fn ready_at(&self) -> i64 {
        self.ready_at
    }

    /// Returns the callback host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns whether the delivery only probes its host.
    pub(crate) fn is_probe(&self) -> bool {
        self.probed && !self.expires
    }
}

/// Chooses the deliveries to claim from candidates, which are sorted by due time, and returns their sources. Also
/// returns the hosts they probe.
///
/// Claims at most one delivery of a probed host, and no more of a host than its free capacity.
pub(crate) fn choose(
    candidates: Vec<DeliveryCandidate>,
    limit: usize,
    limits: HostLimits,
) -> (Vec<IdBytes>, Vec<String>) {
    let mut busy: HashMap<String, usize> = limits.taken;
    let (mut sources, mut probed) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let is_probe = candidate.is_probe();
        let host = busy.entry(candidate.host.clone()).or_default();
        let free = *host < limits.per_host && sources.len() < limit;
        let allowed = free && !(is_probe && probed.contains(&candidate.host));
        if allowed {
            *host += 1;
            sources.push(candidate.source_id);
            probed.extend(is_probe.then_some(candidate.host));
        }
    }
    (sources, probed)
}

/// Returns the hosts without free capacity.
pub(crate) fn full_hosts(hosts: &HostLimits) -> impl Iterator<Item = &String> {
    let full = hosts
        .taken
        .iter()
        .filter(|(_, taken)| **taken >= hosts.per_host);
    full.map(|(host, _)| host)
}
