//! Reads watches and deliveries from rows.

use std::collections::HashMap;

use relay_domain::{
    CallbackAuth, CallbackUrl, ClientId, DeliveryId, DeliveryState, ErrorChain, EventFilter,
    EventId, EventSource, JobId, JobMemory, LeaseId, Locale, Operation, Phase, TraceContext, Watch,
    WatchId, WatchOptions, WatchRequest, WatchState,
};
use tracing::error;

use crate::{
    DeliveryContent, DeliveryDetails, DeliveryEntry, DeliverySigner, DueDelivery, DueJob,
    EventDetails, Redelivery, Sealer, StoreError, WatchDetails, WatchVersion,
    rows::{AnyRow, ColumnReader, EventKind, attempts, secrets, source},
};

/// Reads the delivery of an event. `next_attempt_at` comes from the outbox.
fn delivery(event: &ColumnReader<'_>) -> Result<DeliveryDetails, StoreError> {
    let event_id: EventId = event.id("event_id")?;
    Ok(DeliveryDetails {
        id: event_id.into(),
        state: event.read("state", DeliveryState::from_word)?,
        next_attempt_at: event.time_opt("next_attempt_at")?,
        attempts: attempts(event)?,
    })
}

/// Reads the id of a delivery from its event, which has the same id.
pub(crate) fn delivery_id(row: &dyn AnyRow) -> Result<DeliveryId, StoreError> {
    let event_id: EventId = ColumnReader::of("events", "event_id", row).id("event_id")?;
    Ok(event_id.into())
}

/// Reads a watch.
pub(crate) fn watch(row: &dyn AnyRow) -> Result<Watch, StoreError> {
    let cells = ColumnReader::of("watches", "watch_id", row);
    Ok(Watch {
        id: cells.id("watch_id")?,
        client_id: ClientId(cells.get("client_id")?),
        request: WatchRequest {
            job_id: cells.parse("job_id")?,
            callback_url: cells.read("callback_url", CallbackUrl::from_stored)?,
            options: WatchOptions {
                operation: cells.read_opt("operation", Operation::from_word)?,
                events: EventFilter::from_bits(cells.number("events")?),
                until: cells.opt("until_step")?,
                locale: cells.read("locale", Locale::parse)?,
                metadata: cells.json("metadata")?,
            },
        },
        state: cells.read("state", WatchState::from_word)?,
        progress: cells.json("progress")?,
        created_at: cells.time("created_at")?,
        updated_at: cells.time("updated_at")?,
        settled_at: cells.time_opt("settled_at")?,
        trace: trace(&cells)?,
        subscription_id: cells.id_opt("subscription_id")?,
    })
}

/// Reads the trace of a watch. Returns none if it cannot be read: no work depends on it.
fn trace(watch: &ColumnReader<'_>) -> Result<Option<TraceContext>, StoreError> {
    let text: Option<&str> = watch.opt("traceparent")?;
    Ok(text.and_then(TraceContext::parse))
}

pub(crate) fn without_events(row: &dyn AnyRow) -> Result<WatchDetails, StoreError> {
    let watch = watch(row)?;
    let job = ColumnReader::of("jobs", "job_id", row);
    let next_look_at = job.time_opt("next_look_at")?;
    Ok(WatchDetails {
        job: job.json("memory")?,
        next_look_at: next_look_at.filter(|_| watch.state.is_open()),
        events: Vec::new(),
        watch,
    })
}

/// Reads the version of a watch, which changes with the watch.
pub(crate) fn version(row: &dyn AnyRow) -> Result<(WatchId, WatchVersion), StoreError> {
    let cells = ColumnReader::of("watches", "watch_id", row);
    let version = WatchVersion::of(cells.get("version")?);
    Ok((cells.id("watch_id")?, version))
}

/// Reads events with their deliveries, by watch, in the order of the rows.
pub(crate) fn events<R: AnyRow>(
    rows: &[R],
) -> Result<HashMap<WatchId, Vec<EventDetails>>, StoreError> {
    let mut events: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let source = ColumnReader::of("events", "event_id", row).id("source_id")?;
        events.entry(source).or_default().push(event(row)?);
    }
    Ok(events)
}

/// Reads an event with its delivery.
pub(crate) fn event(row: &dyn AnyRow) -> Result<EventDetails, StoreError> {
    let cells = ColumnReader::of("events", "event_id", row);
    Ok(EventDetails {
        id: cells.id("event_id")?,
        body: cells.json("body")?,
        delivery: delivery(&cells)?,
    })
}

/// Reads a delivery in a list.
pub(crate) fn entry(row: &dyn AnyRow) -> Result<DeliveryEntry, StoreError> {
    let event = ColumnReader::of("events", "event_id", row);
    let kind = event.read("kind", EventKind::from_word)?;
    let (client_id, content) = match kind {
        EventKind::Job | EventKind::Notice => (
            Some(ClientId(event.get("client_id")?)),
            DeliveryContent::Event(Box::new(event.json("body")?)),
        ),
        EventKind::Message => (None, DeliveryContent::Message(event.json("body")?)),
    };
    Ok(DeliveryEntry {
        client_id,
        content,
        delivery: delivery(&event)?,
        updated_at: event.time("updated_at")?,
        event_id: event.id("event_id")?,
        callback_url: callback_url(kind, row)?,
    })
}

/// Returns the event of a watch that may be queued once more: the latest one. Refuses if another event was asked for.
pub(crate) fn redeliverable(row: &dyn AnyRow) -> Result<Result<EventId, Redelivery>, StoreError> {
    let cells = ColumnReader::of("watches", "watch_id", row);
    let state = cells.read("state", WatchState::from_word)?;
    if state == WatchState::Cancelled || cells.get("revoked")? {
        return Ok(Err(Redelivery::Cancelled));
    }
    let asked: Option<EventId> = cells.id_opt("asked")?;
    let latest: Option<EventId> = cells.id_opt("latest")?;
    Ok(match latest {
        None => Err(Redelivery::NoEvent),
        Some(latest) if asked.is_some_and(|asked| asked != latest) => {
            Err(Redelivery::Superseded(latest))
        }
        Some(latest) => Ok(latest),
    })
}

/// Returns the notice or message of Basiq's that may be queued once more. Refuses if it was cancelled.
pub(crate) fn redeliverable_from_basiq(
    row: &dyn AnyRow,
) -> Result<Result<EventId, Redelivery>, StoreError> {
    let cells = ColumnReader::of("events", "event_id", row);
    let state = cells.read("state", DeliveryState::from_word)?;
    if state == DeliveryState::Cancelled || cells.get("revoked")? {
        return Ok(Err(Redelivery::Cancelled));
    }
    Ok(Ok(cells.id("event_id")?))
}

/// Reads a claimed job, and takes its open watches from `watches`.
pub(crate) fn due_job(
    row: &dyn AnyRow,
    lease: LeaseId,
    watches: &mut HashMap<JobId, Vec<Watch>>,
) -> Result<DueJob, StoreError> {
    let cells = ColumnReader::of("jobs", "job_id", row);
    let job_id: JobId = cells.parse("job_id")?;
    let memory: Box<JobMemory> = cells.json("memory")?;
    let waits = cells.opt::<&str>("waits_for")?.is_some();
    Ok(DueJob {
        lease,
        due_at: cells.time("next_look_at")?,
        hinted_at: cells.time_opt("hinted_at")?,
        bank_is_back: matches!(memory.phase, Phase::Outage { .. }) && !waits,
        memory,
        watches: watches.remove(&job_id).unwrap_or_default(),
        job_id,
    })
}

/// Reads open watches, by job. Leaves out watches that cannot be read.
pub(crate) fn watches_by_job<R: AnyRow>(rows: &[R]) -> HashMap<JobId, Vec<Watch>> {
    let mut watches: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        match watch(row) {
            Ok(watch) => watches
                .entry(watch.request.job_id.clone())
                .or_default()
                .push(watch),
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a watch cannot be read and is left out");
            }
        }
    }
    watches
}

/// Reads a claimed delivery.
pub(crate) fn due_delivery(
    row: &dyn AnyRow,
    lease: LeaseId,
    sealer: &Sealer,
) -> Result<DueDelivery, StoreError> {
    let queued = ColumnReader::of("outbox", "source_id", row);
    let event = ColumnReader::of("events", "event_id", row);
    let event_id: EventId = event.id("event_id")?;
    let source = source(&event)?;
    let kind = event.read("kind", EventKind::from_word)?;
    let (client, body, signer, auth) = match source {
        EventSource::Watch { .. } | EventSource::Subscription(_) => {
            let secrets = secrets(&ColumnReader::of("clients", "name", row), sealer)?;
            let body = event.get::<String>("body")?.into_bytes();
            let auth = secrets.callback_auth.clone();
            (Some(secrets.client.clone()), body, secrets.signer(), auth)
        }
        EventSource::BasiqMessage => {
            let message = ColumnReader::of("messages", "event_id", row);
            let body = message.get::<&[u8]>("message")?.to_vec();
            let signer = DeliverySigner::Basiq(message.json("headers")?);
            (None, body, signer, CallbackAuth::default())
        }
    };
    Ok(DueDelivery {
        id: event_id.into(),
        lease,
        event_id,
        source,
        client,
        body,
        signer,
        auth,
        created_at: event.time("created_at")?,
        callback_url: callback_url(kind, row)?,
        deadline: queued.time_opt("deadline")?,
        attempts: queued.number("attempts")?,
        round_attempts: queued.number("round_attempts")?,
        trace: trace(&ColumnReader::of("watches", "event_id", row))?,
    })
}

/// Reads where an event goes. The column comes from the table of the event's source.
fn callback_url(kind: EventKind, row: &dyn AnyRow) -> Result<CallbackUrl, StoreError> {
    let table = match kind {
        EventKind::Job => "watches",
        EventKind::Notice => "subscriptions",
        EventKind::Message => "messages",
    };
    ColumnReader::of(table, "event_id", row).read("callback_url", CallbackUrl::from_stored)
}
