//! Loads values for many callers at once: callers that wait while a lookup runs share the next one. Nothing is
//! cached, so a key that was revoked before a request came is not found by it.

use std::{collections::HashMap, fmt::Debug, hash::Hash, sync::Arc};

use async_trait::async_trait;
use relay_domain::Fleet;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tracing::trace;

use crate::{
    StoreError,
    common::{
        closed,
        gather::{gather, take},
    },
};

/// The maximum number of callers that share a lookup, and the maximum number that wait.
const BATCH: usize = 1024;

/// The value of each key, or the error why it cannot be read.
pub(crate) type LoadedEach<F> = Vec<Result<F, StoreError>>;

/// Finds the values of keys.
#[async_trait]
pub(crate) trait LoadBatch: Send + Sync + 'static {
    /// The key. No lookup asks for the same key twice.
    type Key: Debug + Clone + Eq + Hash + Send + Sync + 'static;
    /// The value.
    type Found: Debug + Clone + Send + 'static;

    /// Returns the value of each of these keys, in their order.
    async fn find_all(&self, keys: &[Self::Key]) -> Result<LoadedEach<Self::Found>, StoreError>;
}

/// A handle of the task that runs the lookups. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct BatchLoader<K, F> {
    queue: mpsc::Sender<Queued<K, F>>,
    _task: JoinSet<()>,
}

type Caller<F> = oneshot::Sender<Result<F, StoreError>>;

#[derive(Debug)]
struct Queued<K, F> {
    key: K,
    caller: Caller<F>,
}

impl<K, F> BatchLoader<K, F>
where
    K: Debug + Clone + Eq + Hash + Send + Sync + 'static,
    F: Debug + Clone + Send + 'static,
{
    /// Starts the task that runs the lookups. `share` says how long this relay leaves the database to others after
    /// each one.
    pub(crate) fn start(store: impl LoadBatch<Key = K, Found = F>, share: Fleet) -> Self {
        let (queue, queued) = mpsc::channel(BATCH);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(store, queued, share));
        Self {
            queue,
            _task: tasks,
        }
    }

    /// Returns the value of this key. The lookup begins after this call.
    pub(crate) async fn find(&self, key: K) -> Result<F, StoreError> {
        let (caller, answer) = oneshot::channel();
        let queued = Queued { key, caller };
        self.queue.send(queued).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn run<S: LoadBatch>(
    store: S,
    mut queue: mpsc::Receiver<Queued<S::Key, S::Found>>,
    share: Fleet,
) {
    let mut waiting = Vec::with_capacity(BATCH);
    while take(&mut queue, (&mut waiting, BATCH)).await {
        let (began, count) = (Instant::now(), waiting.len());
        let mut callers: HashMap<S::Key, Vec<Caller<S::Found>>> = HashMap::new();
        for Queued { key, caller } in waiting.drain(..) {
            callers.entry(key).or_default().push(caller);
        }
        let (keys, callers): (Vec<_>, Vec<_>) = callers.into_iter().unzip();
        let found = store.find_all(&keys).await;
        let found = found.unwrap_or_else(|failure| each(failure, keys.len()));
        for (found, callers) in found.into_iter().zip(callers) {
            answer(found, callers);
        }
        let rest = share.rest_after(began.elapsed());
        gather(&mut queue, (&mut waiting, BATCH), count, rest).await;
    }
}

/// Sends all callers the same result.
fn answer<F: Clone>(found: Result<F, StoreError>, callers: Vec<Caller<F>>) {
    let found = found.map_err(Arc::new);
    for caller in callers {
        let told = match &found {
            Ok(found) => Ok(found.clone()),
            Err(failure) => Err(again(failure)),
        };
        if caller.send(told).is_err() {
            trace!("a caller of the store did not wait for its answer");
        }
    }
}

/// Returns the same failure for each of the keys.
fn each<F>(failure: StoreError, struck: usize) -> LoadedEach<F> {
    let failure = Arc::new(failure);
    (0..struck).map(|_| Err(again(&failure))).collect()
}

/// Returns the same failure for one more caller.
fn again(failure: &Arc<StoreError>) -> StoreError {
    let source = Box::new(Arc::clone(failure));
    match &**failure {
        StoreError::Unavailable(_) => StoreError::Unavailable(source),
        StoreError::Damaged(_) => StoreError::Damaged(source),
        StoreError::Refused(_) | StoreError::Inconsistent { .. } => StoreError::Refused(source),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::sync::mpsc::UnboundedSender;

    use super::*;

    /// Finds twice a number, and fails for thirteen. Reports the keys of each lookup.
    struct Doubles(UnboundedSender<Vec<u32>>);

    #[async_trait]
    impl LoadBatch for Doubles {
        type Key = u32;
        type Found = u32;

        async fn find_all(&self, keys: &[u32]) -> Result<LoadedEach<u32>, StoreError> {
            let mut asked = keys.to_vec();
            asked.sort_unstable();
            self.0.send(asked).unwrap();
            tokio::time::sleep(TAKES).await;
            if keys.contains(&0) {
                return Err(StoreError::Unavailable("away".into()));
            }
            let found = keys.iter().map(|key| match key {
                13 => Err(StoreError::Unavailable("thirteen".into())),
                key => Ok(2 * key),
            });
            Ok(found.collect())
        }
    }

    /// How long a lookup takes.
    const TAKES: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_share_a_look_and_each_gets_its_own_answer() {
        let (told, mut asked) = mpsc::unbounded_channel();
        let loader = BatchLoader::start(Doubles(told), Fleet::alone());
        let waiting = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            join_all([3, 13, 5, 3].map(|key| loader.find(key))).await
        };
        let (first, later) = tokio::join!(loader.find(2), waiting);
        assert_eq!(first.unwrap(), 4);
        let later: Vec<_> = later.into_iter().map(Result::ok).collect();
        assert_eq!(later, [Some(6), None, Some(10), Some(6)]);
        drop(loader);
        assert_eq!(asked.recv().await, Some(vec![2]));
        assert_eq!(asked.recv().await, Some(vec![3, 5, 13]));
        assert_eq!(asked.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_told_to_all_who_share_it() {
        let (told, _asked) = mpsc::unbounded_channel();
        let loader = BatchLoader::start(Doubles(told), Fleet::alone());
        for told in join_all([0, 1].map(|key| loader.find(key))).await {
            assert!(matches!(told, Err(StoreError::Unavailable(_))));
        }
    }

    /// How long two lookups take, one after the other.
    async fn two_looks(relays: usize) -> Duration {
        let (told, _asked) = mpsc::unbounded_channel();
        let share = Fleet::alone();
        share.set_size(relays);
        let loader = BatchLoader::start(Doubles(told), share);
        let began = Instant::now();
        for key in [1, 2] {
            loader.find(key).await.unwrap();
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn between_looks_the_store_is_left_to_the_other_relays() {
        assert_eq!(two_looks(1).await, 2 * TAKES);
        assert_eq!(two_looks(3).await, 4 * TAKES);
    }
}
