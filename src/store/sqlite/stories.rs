//! Watches with all that happened to them, read in three statements however many they are.

use std::collections::HashMap;

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use crate::{
    domain::{
        Attempt, AttemptError, CallbackUrl, ClientId, DeliveryId, DeliveryState, EventFilter,
        Locale, Operation, Watch, WatchId, WatchOptions, WatchRequest, WatchState,
    },
    store::{
        DeliveryStory, EventStory, StoreError, WatchStory,
        sqlite::row::{Cells, json_list},
    },
};

/// The columns [`watch`] reads, of `watches w`.
macro_rules! watch_columns {
    () => {
        "w.watch_id, w.client_id, w.job_id, w.callback_url, w.operation, w.events, w.until_step, \
         w.locale, w.metadata, w.state, w.progress, w.created_at, w.updated_at, w.settled_at"
    };
}
pub(super) use watch_columns;

/// Selects what [`tell`] reads, of `watches w`.
pub(super) const SELECT: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, j.next_look_at FROM watches w CROSS JOIN jobs j ON j.job_id = w.job_id "
);

pub(super) const ONE: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", j.memory, j.next_look_at FROM watches w CROSS JOIN jobs j ON j.job_id = w.job_id \
     WHERE w.watch_id = ?1 AND w.client_id = ifnull(?2, w.client_id)"
);

pub(super) const EVENTS: &str = "SELECT e.watch_id, e.event_id, e.body, d.delivery_id, d.state, \
    d.next_attempt_at \
    FROM json_each(?1) i CROSS JOIN events e ON e.watch_id = i.value \
    CROSS JOIN deliveries d ON d.event_id = e.event_id ORDER BY e.event_id";

pub(super) const ATTEMPTS: &str = "SELECT a.delivery_id, a.number, a.started_at, a.duration, \
    a.status, a.error, a.response \
    FROM json_each(?1) i CROSS JOIN attempts a ON a.delivery_id = i.value \
    ORDER BY a.delivery_id, a.number";

/// One watch with its story.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    owner: Option<ClientId>,
    id: WatchId,
) -> Result<Option<WatchStory>, StoreError> {
    let row = sqlx::query(ONE)
        .bind(id.to_string())
        .bind(owner.map(|client| client.0))
        .fetch_optional(&mut *connection)
        .await?;
    let stories = tell(connection, row.as_slice()).await?;
    Ok(stories.into_iter().next())
}

/// The stories of rows of [`SELECT`].
pub(super) async fn tell(
    connection: &mut SqliteConnection,
    rows: &[SqliteRow],
) -> Result<Vec<WatchStory>, StoreError> {
    let mut stories = rows
        .iter()
        .map(without_events)
        .collect::<Result<Vec<_>, _>>()?;
    let mut events = events(connection, stories.iter().map(|story| story.watch.id)).await?;
    for story in &mut stories {
        story.events = events.remove(&story.watch.id).unwrap_or_default();
    }
    Ok(stories)
}

/// The attempts of deliveries, oldest first.
pub(super) async fn attempts(
    connection: &mut SqliteConnection,
    deliveries: impl IntoIterator<Item = DeliveryId>,
) -> Result<HashMap<DeliveryId, Vec<Attempt>>, StoreError> {
    let rows = sqlx::query(ATTEMPTS)
        .bind(json_list(deliveries))
        .fetch_all(connection)
        .await?;
    let mut attempts: HashMap<_, Vec<_>> = HashMap::new();
    for row in &rows {
        let cells = Cells::of("attempts", "delivery_id", row);
        attempts
            .entry(cells.parse("delivery_id")?)
            .or_default()
            .push(attempt(&cells)?);
    }
    Ok(attempts)
}

/// A delivery without its attempts.
pub(super) fn delivery(row: &SqliteRow) -> Result<DeliveryStory, StoreError> {
    let cells = Cells::of("deliveries", "delivery_id", row);
    Ok(DeliveryStory {
        id: cells.parse("delivery_id")?,
        state: cells.read("state", DeliveryState::from_word)?,
        next_attempt_at: cells.time_opt("next_attempt_at")?,
        attempts: Vec::new(),
    })
}

/// A watch.
pub(super) fn watch(row: &SqliteRow) -> Result<Watch, StoreError> {
    let cells = Cells::of("watches", "watch_id", row);
    Ok(Watch {
        id: cells.parse("watch_id")?,
        client_id: ClientId(cells.get("client_id")?),
        request: WatchRequest {
            job_id: cells.parse("job_id")?,
            callback_url: cells.read("callback_url", CallbackUrl::from_stored)?,
            options: WatchOptions {
                operation: cells.read_opt("operation", Operation::from_word)?,
                events: EventFilter::from_bits(cells.number("events")?),
                until: cells.get("until_step")?,
                locale: cells.read("locale", Locale::parse)?,
                metadata: cells.json("metadata")?,
            },
        },
        state: cells.read("state", WatchState::from_word)?,
        progress: cells.json("progress")?,
        created_at: cells.time("created_at")?,
        updated_at: cells.time("updated_at")?,
        settled_at: cells.time_opt("settled_at")?,
    })
}

fn without_events(row: &SqliteRow) -> Result<WatchStory, StoreError> {
    let watch = watch(row)?;
    let job = Cells::of("jobs", "job_id", row);
    let next_look_at = job.time_opt("next_look_at")?;
    Ok(WatchStory {
        job: job.json("memory")?,
        next_look_at: next_look_at.filter(|_| watch.state.is_open()),
        events: Vec::new(),
        watch,
    })
}

async fn events(
    connection: &mut SqliteConnection,
    watches: impl Iterator<Item = WatchId>,
) -> Result<HashMap<WatchId, Vec<EventStory>>, StoreError> {
    let rows = sqlx::query(EVENTS)
        .bind(json_list(watches))
        .fetch_all(&mut *connection)
        .await?;
    let mut events: HashMap<_, Vec<_>> = HashMap::new();
    let mut deliveries = Vec::with_capacity(rows.len());
    for row in &rows {
        let cells = Cells::of("events", "event_id", row);
        let event = EventStory {
            id: cells.parse("event_id")?,
            body: cells.json("body")?,
            delivery: delivery(row)?,
        };
        deliveries.push(event.delivery.id);
        events
            .entry(cells.parse("watch_id")?)
            .or_default()
            .push(event);
    }
    let mut attempts = attempts(connection, deliveries).await?;
    for event in events.values_mut().flatten() {
        event.delivery.attempts = attempts.remove(&event.delivery.id).unwrap_or_default();
    }
    Ok(events)
}

fn attempt(cells: &Cells<'_>) -> Result<Attempt, StoreError> {
    let status = cells.get::<Option<i64>>("status")?;
    Ok(Attempt {
        number: cells.number("number")?,
        started_at: cells.time("started_at")?,
        duration: std::time::Duration::from_millis(cells.number("duration")?),
        status: status
            .map(|status| u16::try_from(status).map_err(|_| cells.bad("status")))
            .transpose()?,
        error: cells.read_opt("error", AttemptError::from_word)?,
        response: cells.get("response")?,
    })
}
