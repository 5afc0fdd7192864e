//! Finds clients by their keys for many requests at once: those that wait while a look is under way share
//! the next one. Nothing is remembered, so a key that was revoked before a request came is not found by it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tracing::trace;

use crate::{
    domain::{ApiKeyHash, Client},
    store::{StoreError, common::closed},
};

/// The most requests that share a look, and the most that wait.
const BATCH: usize = 1024;

/// Finds the client of a key.
#[async_trait]
pub(in crate::store) trait FindsClients: Send + Sync + 'static {
    /// The client with this key, unless it is revoked.
    async fn find(&self, key: &ApiKeyHash) -> Result<Option<Client>, StoreError>;
}

/// The way to the task that looks; dropping it ends the task.
#[derive(Debug)]
pub(in crate::store) struct Lookups {
    queue: mpsc::Sender<Queued>,
    _task: JoinSet<()>,
}

type Found = Result<Option<Client>, StoreError>;

#[derive(Debug)]
struct Queued {
    key: ApiKeyHash,
    caller: oneshot::Sender<Found>,
}

impl Lookups {
    /// Starts the task that looks.
    pub(in crate::store) fn start(store: impl FindsClients) -> Self {
        let (queue, queued) = mpsc::channel(BATCH);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(store, queued));
        Self {
            queue,
            _task: tasks,
        }
    }

    /// The client with this key, as of now or later.
    pub(in crate::store) async fn find(&self, key: &ApiKeyHash) -> Found {
        let (caller, answer) = oneshot::channel();
        let queued = Queued { key: *key, caller };
        self.queue.send(queued).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn run(store: impl FindsClients, mut queue: mpsc::Receiver<Queued>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut waiting, BATCH).await > 0 {
        let mut callers: HashMap<Vec<u8>, (ApiKeyHash, Vec<_>)> = HashMap::new();
        for Queued { key, caller } in waiting.drain(..) {
            let of_key = callers.entry(key.as_bytes().to_vec());
            of_key.or_insert((key, Vec::new())).1.push(caller);
        }
        let looks = callers.into_values().map(|(key, callers)| {
            let store = &store;
            async move { answer(store.find(&key).await, callers) }
        });
        join_all(looks).await;
    }
}

/// Tells all the same.
fn answer(found: Found, callers: Vec<oneshot::Sender<Found>>) {
    let found = found.map_err(Arc::new);
    for caller in callers {
        let told = match &found {
            Ok(client) => Ok(client.clone()),
            Err(failure) => Err(again(failure)),
        };
        if caller.send(told).is_err() {
            trace!("a caller of the store did not wait for its answer");
        }
    }
}

/// The same failure for one more of those it struck.
fn again(failure: &Arc<StoreError>) -> StoreError {
    let source = Box::new(Arc::clone(failure));
    match &**failure {
        StoreError::Unavailable(_) => StoreError::Unavailable(source),
        StoreError::Refused(_) | StoreError::Inconsistent { .. } => StoreError::Refused(source),
    }
}
