//! Which new deliveries are claimed as they are made, for the worker that has room for them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tracing::error;

use crate::{
    domain::{CallbackUrl, ErrorChain, LeaseId, TraceContext},
    store::{
        DueDelivery, Sealer, StoreError,
        common::{AnyRow, ClientSecrets, ColumnReader, NewEventRow, secrets},
        dispatch::CapacityPermit,
    },
};

/// What keeps new deliveries from being sent at once.
pub(in crate::store) struct Blockers {
    /// Hosts that are paused, or that one attempt at a time probes.
    hosts: HashSet<String>,
    /// Watches of which another delivery is in flight.
    watches: HashSet<String>,
}

impl Blockers {
    pub(in crate::store) fn read<R: AnyRow>(rows: &[R]) -> Result<Self, StoreError> {
        let (mut hosts, mut watches) = (HashSet::new(), HashSet::new());
        for row in rows {
            let cells = ColumnReader::of("deliveries", "id", row);
            let set = if cells.get("is_watch")? {
                &mut watches
            } else {
                &mut hosts
            };
            set.insert(cells.get("id")?);
        }
        Ok(Self { hosts, watches })
    }
}

/// The secrets of clients, by id; those that cannot be read are left out.
pub(in crate::store) fn secrets_of<R: AnyRow>(
    rows: &[R],
    sealer: &Sealer,
) -> HashMap<i64, ClientSecrets> {
    let read = rows.iter().filter_map(|row| {
        let cells = ColumnReader::of("clients", "name", row);
        let client = cells.get("client_id").and_then(|id| {
            let secrets = secrets(&cells, sealer)?;
            Ok((id, secrets))
        });
        client
            .inspect_err(|failure| error!(error = %ErrorChain(failure), "a client cannot be read; its new deliveries are left to claims"))
            .ok()
    });
    read.collect()
}

/// Claims what can be sent at once: as much as there are slots for, and never two of one watch. The rows are to be
/// written with their leases; what cannot be read is left to later claims.
pub(in crate::store) fn claim_new(
    news: &mut [NewEventRow],
    slots: &mut CapacityPermit<DueDelivery>,
    blockers: &Blockers,
    secrets: &HashMap<i64, ClientSecrets>,
) -> Vec<DueDelivery> {
    let lease = LeaseId::new(slots.claim().now);
    let mut watches: HashSet<String> = HashSet::new();
    let mut claimed = Vec::new();
    for row in news {
        let blocked =
            blockers.hosts.contains(&row.host) || blockers.watches.contains(&row.watch_id);
        let Some(secrets) = secrets.get(&row.client_id) else {
            continue;
        };
        if blocked || watches.contains(&row.watch_id) || !slots.take(&row.host) {
            continue;
        }
        match due(row, lease, secrets) {
            Ok(due) => {
                watches.insert(row.watch_id.clone());
                row.lease_id = Some(lease.to_string());
                claimed.push(due);
            }
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a new delivery cannot be read and is left to claims");
            }
        }
    }
    claimed
}

/// A new delivery as its worker gets it.
fn due(
    row: &mut NewEventRow,
    lease: LeaseId,
    secrets: &ClientSecrets,
) -> Result<DueDelivery, StoreError> {
    let unreadable = |column| StoreError::Inconsistent {
        table: "watches",
        column,
        row: row.watch_id.clone(),
    };
    let told = &mut row.told;
    let time = |millis| Timestamp::from_millisecond(millis).ok();
    Ok(DueDelivery {
        id: told.delivery,
        lease,
        event_id: told.event,
        watch_id: told.watch,
        job_id: told.job_id.parse().map_err(|_| unreadable("job_id"))?,
        callback_url: CallbackUrl::from_stored(&told.callback_url)
            .ok_or_else(|| unreadable("callback_url"))?,
        created_at: time(row.at).ok_or_else(|| unreadable("updated_at"))?,
        secret: secrets.current.clone(),
        previous_secret: secrets.previous.clone(),
        deadline: row.deadline.and_then(time),
        attempts: 0,
        round_attempts: 0,
        trace: told.traceparent.as_deref().and_then(TraceContext::parse),
        // stored already, and needed nowhere else
        body: std::mem::take(&mut told.body),
    })
}
