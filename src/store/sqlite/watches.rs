//! Watches as their clients see them.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use crate::{
    domain::{ClientId, JobMemory, Operation, Watch, WatchId},
    store::{
        NewWatch, Registration, StoreError, WatchQuery, WatchStore, WatchStory,
        common::{Cells, int, unwritable},
        sqlite::{SqliteStore, stories},
    },
};

pub(super) const OPEN_WATCH: &str = "SELECT \
    (SELECT watch_id FROM watches WHERE job_id = ?1 AND client_id = ?2 AND callback_url = ?3 \
     AND settled_at IS NULL) AS watch_id, \
    (SELECT ifnull(sum(n), 0) FROM watch_counts WHERE client_id = ?2 \
     AND state IN ('watching', 'awaiting-user', 'delayed')) AS open, \
    EXISTS (SELECT 1 FROM clients WHERE client_id = ?2 AND revoked_at IS NOT NULL) AS revoked";

/// A job that nobody watched for a while keeps what is known of it, but not what the relay waited
/// for.
const ADD_JOB: &str = "INSERT INTO jobs (job_id, next_look_at, urgency, joined, memory) \
    VALUES (?1, ?2, 0, 1, ?3) ON CONFLICT (job_id) DO UPDATE SET \
    memory = iif(next_look_at IS NULL, json_set(iif(json_valid(memory), memory, ?3), \
        '$.phase', json('{\"kind\":\"running\"}'), \
        '$.errors_in_a_row', 0, '$.missing_since', NULL, '$.forbidden_since', NULL), memory), \
    next_look_at = min(ifnull(next_look_at, ?2), ?2), urgency = 0, joined = 1";

const ADD_WATCH: &str = "INSERT INTO watches (watch_id, client_id, job_id, callback_url, \
    callback_host, operation, events, until_step, locale, metadata, state, progress, created_at, \
    updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)";

const CANCEL_WATCH: &str = "UPDATE watches SET state = 'cancelled', updated_at = ?2, \
    settled_at = ?2 WHERE watch_id = ?1 AND settled_at IS NULL";

const CANCEL_DELIVERIES: &str = "UPDATE deliveries SET state = 'cancelled', \
    next_attempt_at = NULL, updated_at = ?2 WHERE watch_id = ?1 AND state = 'pending'";

const REST_JOB: &str = "UPDATE jobs SET next_look_at = NULL WHERE job_id = ?1 AND NOT EXISTS \
    (SELECT 1 FROM watches w WHERE w.job_id = jobs.job_id AND w.settled_at IS NULL)";

#[async_trait]
impl WatchStore for SqliteStore {
    async fn register_watches(&self, new: Vec<NewWatch>) -> Result<Vec<Registration>, StoreError> {
        self.write(move |connection| Box::pin(register_all(connection, new)))
            .await
    }

    async fn find_watch(
        &self,
        owner: Option<ClientId>,
        id: WatchId,
    ) -> Result<Option<WatchStory>, StoreError> {
        stories::find(&mut *self.read().await?, owner, id).await
    }

    async fn list_watches(&self, query: &WatchQuery) -> Result<Vec<WatchStory>, StoreError> {
        let mut view = self.read().await?;
        let rows = list(query).build().fetch_all(&mut *view).await?;
        stories::tell(&mut view, &rows).await
    }

    async fn cancel_watch(
        &self,
        owner: ClientId,
        id: WatchId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| Box::pin(cancel_own(connection, owner, id, now)))
            .await
    }
}

async fn register_all(
    connection: &mut SqliteConnection,
    new: Vec<NewWatch>,
) -> Result<Vec<Registration>, StoreError> {
    let mut registered = Vec::with_capacity(new.len());
    for new in new {
        registered.push(register(connection, new).await?);
    }
    Ok(registered)
}

async fn register(
    connection: &mut SqliteConnection,
    new: NewWatch,
) -> Result<Registration, StoreError> {
    let row = sqlx::query(OPEN_WATCH)
        .bind(new.request.job_id.as_str())
        .bind(new.client_id.0)
        .bind(new.request.callback_url.as_str())
        .fetch_one(&mut *connection)
        .await?;
    let cells = Cells::of("watches", "watch_id", &row);
    if cells.get("revoked")? {
        return Ok(Registration::Revoked);
    }
    let existing = cells.read_opt("watch_id", |text| text.parse().ok())?;
    if let Some(id) = existing {
        let story = stories::find(connection, Some(new.client_id), id).await?;
        return story
            .map(|story| Registration::Existing(Box::new(story)))
            .ok_or_else(|| cells.bad("job_id"));
    }
    if cells.number::<u64>("open")? >= new.max_open {
        return Ok(Registration::AtCap);
    }
    let watch = Watch::begun(new.id, new.client_id, new.request, new.now);
    add(connection, &watch).await?;
    Ok(Registration::Created(Box::new(watch)))
}

async fn add(connection: &mut SqliteConnection, watch: &Watch) -> Result<(), StoreError> {
    let memory = serde_json::to_string(&JobMemory::default()).map_err(unwritable)?;
    sqlx::query(ADD_JOB)
        .bind(watch.request.job_id.as_str())
        .bind(watch.created_at.as_millisecond())
        .bind(memory)
        .execute(&mut *connection)
        .await?;
    let options = &watch.request.options;
    sqlx::query(ADD_WATCH)
        .bind(watch.id.to_string())
        .bind(watch.client_id.0)
        .bind(watch.request.job_id.as_str())
        .bind(watch.request.callback_url.as_str())
        .bind(watch.request.callback_url.host())
        .bind(options.operation.map(Operation::as_str))
        .bind(options.events.bits())
        .bind(options.until.as_deref())
        .bind(options.locale.as_str())
        .bind(serde_json::to_string(&options.metadata).map_err(unwritable)?)
        .bind(watch.state.as_str())
        .bind(serde_json::to_string(&watch.progress).map_err(unwritable)?)
        .bind(watch.created_at.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}

/// The statement that lists watches; each combination of filters has an index of its own.
pub(super) fn list(query: &WatchQuery) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(stories::SELECT);
    statement.push("WHERE 1");
    if let Some(owner) = query.owner {
        statement.push(" AND w.client_id = ").push_bind(owner.0);
    }
    if let Some(job_id) = &query.job_id {
        statement
            .push(" AND w.job_id = ")
            .push_bind(job_id.to_string());
    }
    if let Some(state) = query.state {
        statement.push(" AND w.state = ").push_bind(state.as_str());
    }
    if let Some(before) = query.before {
        statement
            .push(" AND w.watch_id < ")
            .push_bind(before.to_string());
    }
    statement
        .push(" ORDER BY w.watch_id DESC LIMIT ")
        .push_bind(int(query.limit));
    statement
}

/// A client's own watch: cancelled if it is open, and nothing more is posted for it in any case.
async fn cancel_own(
    connection: &mut SqliteConnection,
    owner: ClientId,
    id: WatchId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let job_id: Option<String> =
        sqlx::query_scalar("SELECT job_id FROM watches WHERE watch_id = ?1 AND client_id = ?2")
            .bind(id.to_string())
            .bind(owner.0)
            .fetch_optional(&mut *connection)
            .await?;
    match job_id {
        None => Ok(false),
        Some(job_id) => cancel(connection, &id.to_string(), &job_id, now)
            .await
            .map(|()| true),
    }
}

/// Cancels a watch, if it is open, and its pending deliveries.
pub(super) async fn cancel(
    connection: &mut SqliteConnection,
    watch_id: &str,
    job_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for statement in [CANCEL_WATCH, CANCEL_DELIVERIES] {
        sqlx::query(statement)
            .bind(watch_id)
            .bind(now.as_millisecond())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(REST_JOB)
        .bind(job_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Cancels all open watches of a client and all its pending deliveries; says how many watches.
pub(super) async fn cancel_all(
    connection: &mut SqliteConnection,
    client: ClientId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let open = sqlx::query(
        "SELECT watch_id, job_id FROM watches WHERE client_id = ?1 \
         AND state IN ('watching', 'awaiting-user', 'delayed')",
    )
    .bind(client.0)
    .fetch_all(&mut *connection)
    .await?;
    let mut cancelled = 0;
    for row in &open {
        cancel(
            connection,
            row.try_get("watch_id")?,
            row.try_get("job_id")?,
            now,
        )
        .await?;
        cancelled += 1;
    }
    sqlx::query(
        "UPDATE deliveries SET state = 'cancelled', next_attempt_at = NULL, updated_at = ?2 \
         WHERE client_id = ?1 AND state = 'pending'",
    )
    .bind(client.0)
    .bind(now.as_millisecond())
    .execute(connection)
    .await?;
    Ok(cancelled)
}
