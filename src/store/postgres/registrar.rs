//! Registers watches in batches: those that wait while a transaction runs share the next one, and a
//! caller is answered only after its commit.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use sqlx::{PgConnection, Row};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tracing::trace;

use crate::{
    domain::{JobMemory, Operation, Phase, Watch, WatchId},
    store::{
        NewWatch, Registration, StoreError,
        common::{Cells, closed, unwritable},
        postgres::{pool::Pool, stories},
    },
};

/// The most registrations of one transaction.
const BATCH: usize = 512;

/// So close to its cap a client's watches are counted one transaction at a time.
const NEAR_CAP: u64 = 2048;

/// While a client is locked it cannot be revoked.
pub(super) const SHARE_CLIENTS: &str =
    "SELECT 1 FROM clients WHERE client_id = ANY($1) ORDER BY client_id FOR SHARE";

pub(super) const LOCK_CLIENTS: &str =
    "SELECT 1 FROM clients WHERE client_id = ANY($1) ORDER BY client_id FOR NO KEY UPDATE";

pub(super) const CLIENTS: &str = "SELECT c.client_id, c.revoked_at IS NOT NULL AS revoked, \
    (SELECT coalesce(sum(n), 0)::bigint FROM watch_counts n WHERE n.client_id = c.client_id \
     AND n.state IN ('watching', 'awaiting-user', 'delayed')) AS open \
    FROM clients c WHERE c.client_id = ANY($1)";

pub(super) const OPEN_WATCHES: &str = "SELECT q.place, w.watch_id \
    FROM unnest($1::text[], $2::bigint[], $3::text[]) WITH ORDINALITY \
        q (job_id, client_id, callback_url, place) \
    JOIN watches w ON w.job_id = q.job_id AND w.client_id = q.client_id \
        AND md5(w.callback_url) = md5(q.callback_url) AND w.callback_url = q.callback_url \
        AND w.settled_at IS NULL";

pub(super) const RESTING: &str = "SELECT job_id, memory FROM jobs \
    WHERE job_id = ANY($1) AND next_look_at IS NULL ORDER BY job_id FOR UPDATE";

/// A job that nobody watched for a while keeps what is known of it, but not what the relay waited for.
pub(super) const ADD_JOBS: &str = "INSERT INTO jobs AS j (job_id, next_look_at, urgency, joined, \
    memory) SELECT job_id, at, 0, TRUE, memory \
    FROM unnest($1::text[], $2::bigint[], $3::text[]) n (job_id, at, memory) \
    ON CONFLICT (job_id) DO UPDATE SET \
    memory = CASE WHEN j.next_look_at IS NULL THEN excluded.memory ELSE j.memory END, \
    next_look_at = least(coalesce(j.next_look_at, excluded.next_look_at), excluded.next_look_at), \
    urgency = 0, joined = TRUE";

pub(super) const ADD_WATCHES: &str = "INSERT INTO watches (watch_id, client_id, job_id, \
    callback_url, callback_host, operation, events, until_step, locale, metadata, state, progress, \
    created_at, updated_at) SELECT *, created_at \
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], \
        $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[]) \
        n (watch_id, client_id, job_id, callback_url, callback_host, operation, events, \
           until_step, locale, metadata, state, progress, created_at) \
    ON CONFLICT DO NOTHING RETURNING watch_id";

/// The way to the registering task; dropping it ends the task.
#[derive(Debug)]
pub(super) struct Registrar {
    queue: mpsc::Sender<Queued>,
    _task: JoinSet<()>,
}

struct Queued {
    new: Vec<NewWatch>,
    caller: oneshot::Sender<Result<Vec<Registration>, StoreError>>,
}

impl Registrar {
    /// Starts the registering task.
    pub(super) fn start(pool: Pool) -> Self {
        let (queue, queued) = mpsc::channel(BATCH);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(pool, queued));
        Self {
            queue,
            _task: tasks,
        }
    }

    /// Registers a watch together with others that wait.
    pub(super) async fn register(&self, new: NewWatch) -> Result<Registration, StoreError> {
        let mut registered = self.register_all(vec![new]).await?;
        registered.pop().ok_or_else(closed)
    }

    /// Registers watches in one transaction.
    pub(super) async fn register_all(
        &self,
        new: Vec<NewWatch>,
    ) -> Result<Vec<Registration>, StoreError> {
        let (caller, answer) = oneshot::channel();
        let queued = Queued { new, caller };
        self.queue.send(queued).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn run(pool: Pool, mut queue: mpsc::Receiver<Queued>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut waiting, BATCH).await > 0 {
        let all = waiting.iter().flat_map(|queued| queued.new.iter().cloned());
        let all = all.collect::<Vec<_>>();
        match register_all(&pool, &all).await {
            Ok(registered) => {
                let mut registered = registered.into_iter();
                for Queued { new, caller } in waiting.drain(..) {
                    tell(caller, Ok(registered.by_ref().take(new.len()).collect()));
                }
            }
            Err(StoreError::Unavailable(source)) => {
                let source = Arc::new(StoreError::Unavailable(source));
                for Queued { caller, .. } in waiting.drain(..) {
                    tell(
                        caller,
                        Err(StoreError::Unavailable(Box::new(Arc::clone(&source)))),
                    );
                }
            }
            // each by itself, so that one that fails leaves its neighbours alone
            Err(StoreError::Refused(_) | StoreError::Inconsistent { .. }) => {
                for Queued { new, caller } in waiting.drain(..) {
                    tell(caller, register_all(&pool, &new).await);
                }
            }
        }
    }
}

/// Answers a caller; one that went away does not matter.
fn tell<T>(caller: oneshot::Sender<T>, answer: T) {
    if caller.send(answer).is_err() {
        trace!("a caller of the store did not wait for its answer");
    }
}

async fn register_all(pool: &Pool, new: &[NewWatch]) -> Result<Vec<Registration>, StoreError> {
    for lock in [SHARE_CLIENTS, LOCK_CLIENTS] {
        let registered = pool
            .write((new, lock), |connection, (new, lock)| {
                Box::pin(register(connection, new, lock))
            })
            .await?;
        if let Some(registered) = registered {
            return Ok(registered);
        }
    }
    Ok(Vec::new())
}

/// What is known of a client when it registers.
struct Standing {
    revoked: bool,
    open: u64,
}

/// Registers watches; none if a client is so near its cap that its row must be locked for itself.
async fn register(
    connection: &mut PgConnection,
    new: &[NewWatch],
    lock: &'static str,
) -> Result<Option<Vec<Registration>>, StoreError> {
    let mut clients = standings(connection, new, lock).await?;
    let near = |new: &NewWatch| {
        let open = clients
            .get(&new.client_id.0)
            .map_or(0, |client| client.open);
        open.saturating_add(NEAR_CAP) >= new.max_open
    };
    if lock == SHARE_CLIENTS && new.iter().any(near) {
        return Ok(None);
    }
    let existing = open_watches(connection, new).await?;
    let mut decided = Vec::with_capacity(new.len());
    let mut fresh: Vec<&NewWatch> = Vec::new();
    for (new, existing) in new.iter().zip(&existing) {
        let client = clients.get_mut(&new.client_id.0);
        decided.push(match (client, existing) {
            (Some(client), _) if client.revoked => Decision::Final(Registration::Revoked),
            (_, Some(id)) => Decision::Existing(*id),
            (Some(client), None) if client.open >= new.max_open => {
                Decision::Final(Registration::AtCap)
            }
            (client, None) => {
                if let Some(client) = client {
                    client.open += 1;
                }
                fresh.push(new);
                Decision::New
            }
        });
    }
    let added = add(connection, &fresh).await?;
    let mut answers = Vec::with_capacity(new.len());
    for (new, decision) in new.iter().zip(decided) {
        answers.push(match decision {
            Decision::Final(answer) => answer,
            Decision::New if added.contains(&new.id.to_string()) => {
                Registration::Created(Box::new(watch_of(new)))
            }
            // another relay was quicker, or another of this batch
            Decision::New => existing_one(connection, new, None).await?,
            Decision::Existing(id) => existing_one(connection, new, Some(id)).await?,
        });
    }
    Ok(Some(answers))
}

/// What becomes of a watch that is asked for.
enum Decision {
    Final(Registration),
    Existing(WatchId),
    New,
}

async fn standings(
    connection: &mut PgConnection,
    new: &[NewWatch],
    lock: &'static str,
) -> Result<HashMap<i64, Standing>, StoreError> {
    let mut ids: Vec<i64> = new.iter().map(|new| new.client_id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    sqlx::query(lock)
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query(CLIENTS)
        .bind(&ids)
        .fetch_all(connection)
        .await?;
    let standings = rows.iter().map(|row| {
        let cells = Cells::of("clients", "name", row);
        let standing = Standing {
            revoked: cells.get("revoked")?,
            open: cells.number("open")?,
        };
        Ok((cells.get("client_id")?, standing))
    });
    standings.collect()
}

/// The open watch of each that has one.
async fn open_watches(
    connection: &mut PgConnection,
    new: &[NewWatch],
) -> Result<Vec<Option<WatchId>>, StoreError> {
    let jobs = new.iter().map(|new| new.request.job_id.as_str());
    let urls = new.iter().map(|new| new.request.callback_url.as_str());
    let rows = sqlx::query(OPEN_WATCHES)
        .bind(jobs.collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.client_id.0).collect::<Vec<_>>())
        .bind(urls.collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut found = vec![None; new.len()];
    for row in &rows {
        let cells = Cells::of("watches", "watch_id", row);
        let place: usize = cells.number("place")?;
        if let Some(found) = place.checked_sub(1).and_then(|place| found.get_mut(place)) {
            *found = Some(cells.parse("watch_id")?);
        }
    }
    Ok(found)
}

async fn existing_one(
    connection: &mut PgConnection,
    new: &NewWatch,
    known: Option<WatchId>,
) -> Result<Registration, StoreError> {
    let id = match known {
        Some(id) => Some(id),
        None => open_watches(connection, std::slice::from_ref(new))
            .await?
            .pop()
            .flatten(),
    };
    let story = match id {
        Some(id) => stories::find(connection, Some(new.client_id), id).await?,
        None => None,
    };
    story
        .map(|story| Registration::Existing(Box::new(story)))
        .ok_or_else(|| StoreError::Inconsistent {
            table: "watches",
            column: "job_id",
            row: new.request.job_id.to_string(),
        })
}

/// The watch that is asked for, as it begins.
fn watch_of(new: &NewWatch) -> Watch {
    Watch::begun(new.id, new.client_id, new.request.clone(), new.now)
}

/// Makes jobs due and adds their watches; says which watches are new.
async fn add(
    connection: &mut PgConnection,
    new: &[&NewWatch],
) -> Result<HashSet<String>, StoreError> {
    if new.is_empty() {
        return Ok(HashSet::new());
    }
    add_jobs(connection, new).await?;
    let watches: Vec<_> = new.iter().map(|new| watch_of(new)).collect();
    let texts = |of: fn(&Watch) -> String| watches.iter().map(of).collect::<Vec<_>>();
    let json = |of: fn(&Watch) -> serde_json::Result<String>| {
        let texts = watches.iter().map(|watch| of(watch).map_err(unwritable));
        texts.collect::<Result<Vec<_>, _>>()
    };
    let optional = |of: fn(&Watch) -> Option<String>| watches.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: fn(&Watch) -> i64| watches.iter().map(of).collect::<Vec<_>>();
    let added: Vec<String> = sqlx::query_scalar(ADD_WATCHES)
        .bind(texts(|watch| watch.id.to_string()))
        .bind(numbers(|watch| watch.client_id.0))
        .bind(texts(|watch| watch.request.job_id.to_string()))
        .bind(texts(|watch| {
            watch.request.callback_url.as_str().to_owned()
        }))
        .bind(texts(|watch| watch.request.callback_url.host().to_owned()))
        .bind(optional(|watch| {
            let operation = watch.request.options.operation;
            operation.map(|operation| Operation::as_str(operation).to_owned())
        }))
        .bind(numbers(|watch| {
            i64::from(watch.request.options.events.bits())
        }))
        .bind(optional(|watch| watch.request.options.until.clone()))
        .bind(texts(|watch| {
            watch.request.options.locale.as_str().to_owned()
        }))
        .bind(json(|watch| {
            serde_json::to_string(&watch.request.options.metadata)
        })?)
        .bind(texts(|watch| watch.state.as_str().to_owned()))
        .bind(json(|watch| serde_json::to_string(&watch.progress))?)
        .bind(numbers(|watch| watch.created_at.as_millisecond()))
        .fetch_all(connection)
        .await?;
    Ok(added.into_iter().collect())
}

async fn add_jobs(connection: &mut PgConnection, new: &[&NewWatch]) -> Result<(), StoreError> {
    // each job once, in the order in which rows are locked
    let mut due: BTreeMap<&str, i64> = BTreeMap::new();
    for new in new {
        let at = new.now.as_millisecond();
        let due = due.entry(new.request.job_id.as_str()).or_insert(at);
        *due = at.min(*due);
    }
    let ids: Vec<_> = due.keys().copied().collect();
    let rows = sqlx::query(RESTING)
        .bind(&ids)
        .fetch_all(&mut *connection)
        .await?;
    let mut resting = HashMap::new();
    for row in &rows {
        let id: String = row.try_get("job_id")?;
        resting.insert(id, afresh(row.try_get("memory")?)?);
    }
    let unknown = serde_json::to_string(&JobMemory::default()).map_err(unwritable)?;
    let memories = ids
        .iter()
        .map(|id| resting.remove(*id).unwrap_or_else(|| unknown.clone()));
    sqlx::query(ADD_JOBS)
        .bind(&ids)
        .bind(due.values().copied().collect::<Vec<_>>())
        .bind(memories.collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// The memory of a job that is watched again; what cannot be read is forgotten.
fn afresh(memory: &str) -> Result<String, StoreError> {
    let memory: JobMemory = serde_json::from_str(memory).unwrap_or_default();
    let memory = JobMemory {
        phase: Phase::Running,
        errors_in_a_row: 0,
        missing_since: None,
        forbidden_since: None,
        ..memory
    };
    serde_json::to_string(&memory).map_err(unwritable)
}
