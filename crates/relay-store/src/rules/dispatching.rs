//! Chooses which new deliveries are claimed for a worker with free slots in the transaction that creates them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use relay_domain::{CallbackUrl, ErrorChain, EventSource, LeaseId, TraceContext, WatchId};
use tracing::error;

use crate::{
    DueDelivery, Sealer, StoreError,
    dispatch::NewWorkClaim,
    rows::{AnyRow, ClientSecrets, ColumnReader, IdBytes, secrets},
    rules::NewEventRow,
};

/// Hosts and watches whose new deliveries must not be sent at once.
pub(crate) struct Blockers {
    /// Hosts that are paused, or that one attempt at a time probes.
    hosts: HashSet<String>,
    /// Watches with another event in flight.
    watches: HashSet<IdBytes>,
}

impl Blockers {
    /// Reads rows that each name a host or a watch.
    pub(crate) fn read<R: AnyRow>(rows: &[R]) -> Result<Self, StoreError> {
        let (mut hosts, mut watches) = (HashSet::new(), HashSet::new());
        for row in rows {
            let cells = ColumnReader::of("outbox", "source_id", row);
            hosts.extend(cells.opt::<String>("host")?);
            watches.extend(cells.id_opt::<IdBytes>("source_id")?);
        }
        Ok(Self { hosts, watches })
    }
}

/// Reads the secrets of clients, by id. Leaves out clients that cannot be read.
pub(crate) fn secrets_of<R: AnyRow>(rows: &[R], sealer: &Sealer) -> HashMap<i64, ClientSecrets> {
    let read = rows.iter().filter_map(|row| {
        let cells = ColumnReader::of("clients", "name", row);
        let client = cells.get("client_id").and_then(|id| {
            let secrets = secrets(&cells, sealer)?;
            Ok((id, secrets))
        });
        client
            .inspect_err(|failure| error!(error = %ErrorChain(failure), "a client cannot be read; later claims will find its new deliveries"))
            .ok()
    });
    read.collect()
}

/// Claims the new deliveries that can be sent at once: at most one of each watch, while there are permits.
///
/// Sets the lease in the rows, which the caller then writes. A delivery that cannot be read is left to later claims.
pub(crate) fn claim_new(
    news: &mut [NewEventRow],
    claim: &mut NewWorkClaim<DueDelivery>,
    blockers: &Blockers,
    secrets: &HashMap<i64, ClientSecrets>,
) {
    let mut watches: HashSet<IdBytes> = HashSet::new();
    for row in news {
        let blocked =
            blockers.hosts.contains(&row.host) || blockers.watches.contains(&row.watch_id);
        let Some(secrets) = secrets.get(&row.client_id) else {
            continue;
        };
        if blocked || watches.contains(&row.watch_id) {
            continue;
        }
        let Some(permit) = claim.permit_for(&row.host) else {
            continue;
        };
        match due(row, claim.lease, secrets) {
            Ok(due) => {
                watches.insert(row.watch_id);
                row.lease_id = Some(claim.lease.to_bytes());
                claim.claimed.push((due, permit));
            }
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a new delivery cannot be read; a later claim will find it");
            }
        }
    }
}

/// Builds the delivery that the worker gets.
fn due(
    row: &mut NewEventRow,
    lease: LeaseId,
    secrets: &ClientSecrets,
) -> Result<DueDelivery, StoreError> {
    let unreadable = |column| StoreError::Inconsistent {
        table: "watches",
        column,
        row: WatchId::from(row.watch_id).to_string(),
    };
    let event = &mut row.event;
    let time = |millis| Timestamp::from_millisecond(millis).ok();
    Ok(DueDelivery {
        id: event.event.into(),
        lease,
        event_id: event.event,
        source: EventSource::Watch {
            watch_id: event.watch,
            job_id: event.job_id.clone(),
        },
        callback_url: CallbackUrl::from_stored(&event.callback_url)
            .ok_or_else(|| unreadable("callback_url"))?,
        created_at: time(row.at).ok_or_else(|| unreadable("updated_at"))?,
        client: Some(secrets.client.clone()),
        auth: secrets.callback_auth.clone(),
        signer: secrets.clone().signer(),
        deadline: row.deadline.and_then(time),
        attempts: 0,
        round_attempts: 0,
        trace: event.traceparent.as_deref().and_then(TraceContext::parse),
        // the event is stored already, and nothing else needs its body
        body: std::mem::take(&mut event.body).into_bytes(),
    })
}
