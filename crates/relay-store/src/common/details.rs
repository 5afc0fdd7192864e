//! Reads watches and deliveries from rows.

use std::collections::HashMap;

use relay_domain::{
    Attempt, AttemptError, CallbackUrl, ClientId, DeliveryId, DeliveryState, ErrorChain,
    EventFilter, EventId, JobId, JobMemory, LeaseId, Locale, Operation, Phase, TraceContext, Watch,
    WatchId, WatchOptions, WatchRequest, WatchState,
};
use tracing::error;

use crate::{
    DeliveryDetails, DeliveryEntry, DueDelivery, DueJob, EventDetails, Redelivery, Sealer,
    StoreError, WatchDetails, WatchVersion,
    common::{AnyRow, ColumnReader, secrets},
};

/// Reads a delivery without its attempts.
pub(crate) fn delivery(row: &dyn AnyRow) -> Result<DeliveryDetails, StoreError> {
    let cells = ColumnReader::of("deliveries", "delivery_id", row);
    Ok(DeliveryDetails {
        id: cells.parse("delivery_id")?,
        state: cells.read("state", DeliveryState::from_word)?,
        next_attempt_at: cells.time_opt("next_attempt_at")?,
        attempts: Vec::new(),
    })
}

/// Reads a watch.
pub(crate) fn watch(row: &dyn AnyRow) -> Result<Watch, StoreError> {
    let cells = ColumnReader::of("watches", "watch_id", row);
    Ok(Watch {
        id: cells.parse("watch_id")?,
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
    Ok((cells.parse("watch_id")?, version))
}

/// Reads the attempts of deliveries, by delivery, in the order of the rows.
pub(crate) fn attempts<R: AnyRow>(
    rows: &[R],
) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError> {
    let mut attempts: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let cells = ColumnReader::of("attempts", "delivery_id", row);
        attempts
            .entry(cells.parse("delivery_id")?)
            .or_default()
            .push(attempt(&cells)?);
    }
    Ok(attempts)
}

/// Reads events with their deliveries, but without attempts, by watch, in the order of the rows.
pub(crate) fn events<R: AnyRow>(
    rows: &[R],
) -> Result<HashMap<WatchId, Vec<EventDetails>>, StoreError> {
    let mut events: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let cells = ColumnReader::of("events", "event_id", row);
        let event = EventDetails {
            id: cells.parse("event_id")?,
            body: cells.json("body")?,
            delivery: delivery(row)?,
        };
        events
            .entry(cells.parse("watch_id")?)
            .or_default()
            .push(event);
    }
    Ok(events)
}

fn attempt(cells: &ColumnReader<'_>) -> Result<Attempt, StoreError> {
    let status = cells.opt::<i64>("status")?;
    Ok(Attempt {
        number: cells.number("number")?,
        started_at: cells.time("started_at")?,
        duration: std::time::Duration::from_millis(cells.number("duration")?),
        status: status
            .map(|status| u16::try_from(status).map_err(|_| cells.bad("status")))
            .transpose()?,
        error: cells.read_opt("error", AttemptError::from_word)?,
        error_detail: cells.opt("error_detail")?,
        response: cells.opt("response")?,
    })
}

/// Reads a delivery in a list, without its attempts.
pub(crate) fn entry(row: &dyn AnyRow) -> Result<DeliveryEntry, StoreError> {
    let event = ColumnReader::of("events", "event_id", row);
    let cells = ColumnReader::of("deliveries", "delivery_id", row);
    Ok(DeliveryEntry {
        client_id: ClientId(cells.get("client_id")?),
        delivery: delivery(row)?,
        updated_at: cells.time("updated_at")?,
        event_id: event.parse("event_id")?,
        body: event.json("body")?,
        callback_url: ColumnReader::of("watches", "watch_id", row)
            .read("callback_url", CallbackUrl::from_stored)?,
    })
}

/// Returns the event of a watch that may be queued once more: the latest one. Refuses if another event was asked for.
pub(crate) fn redeliverable(row: &dyn AnyRow) -> Result<Result<EventId, Redelivery>, StoreError> {
    let cells = ColumnReader::of("watches", "watch_id", row);
    let state = cells.read("state", WatchState::from_word)?;
    if state == WatchState::Cancelled || cells.get("revoked")? {
        return Ok(Err(Redelivery::Cancelled));
    }
    let asked: Option<EventId> = cells.read_opt("asked", |text| text.parse().ok())?;
    let latest: Option<EventId> = cells.read_opt("latest", |text| text.parse().ok())?;
    Ok(match latest {
        None => Err(Redelivery::NoEvent),
        Some(latest) if asked.is_some_and(|asked| asked != latest) => {
            Err(Redelivery::Superseded(latest))
        }
        Some(latest) => Ok(latest),
    })
}

/// Reads a claimed job, and takes its open watches from `watches`.
pub(crate) fn due_job(
    row: &dyn AnyRow,
    lease: LeaseId,
    watches: &mut HashMap<JobId, Vec<Watch>>,
) -> Result<DueJob, StoreError> {
    let cells = ColumnReader::of("jobs", "job_id", row);
    let job_id: JobId = cells.parse("job_id")?;
    let memory: JobMemory = cells.json("memory")?;
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
    let delivery = ColumnReader::of("deliveries", "delivery_id", row);
    let event = ColumnReader::of("events", "event_id", row);
    let watch = ColumnReader::of("watches", "watch_id", row);
    let client = ColumnReader::of("clients", "name", row);
    let secrets = secrets(&client, sealer)?;
    Ok(DueDelivery {
        id: delivery.parse("delivery_id")?,
        lease,
        event_id: event.parse("event_id")?,
        watch_id: watch.parse("watch_id")?,
        job_id: watch.parse("job_id")?,
        body: event.get("body")?,
        created_at: event.time("created_at")?,
        callback_url: watch.read("callback_url", CallbackUrl::from_stored)?,
        secret: secrets.current,
        previous_secret: secrets.previous,
        deadline: delivery.time_opt("deadline")?,
        attempts: delivery.number("attempts")?,
        round_attempts: delivery.number("round_attempts")?,
        trace: trace(&watch)?,
    })
}
