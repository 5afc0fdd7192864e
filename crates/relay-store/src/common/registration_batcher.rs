//! Registers watches in batches: requests that wait while the maximum number of transactions run share the next one.
//! A caller gets its result only after its commit.

use std::sync::Arc;

use async_trait::async_trait;
use relay_domain::Fleet;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tracing::trace;

use crate::{
    NewWatch, Registration, StoreError,
    common::{
        closed,
        gather::{gather, take},
    },
};

/// The maximum number of requests of one transaction, and the maximum number that wait.
const BATCH: usize = 512;

/// The result of each watch, in their order.
pub(crate) type RegistrationResults = Vec<Result<Registration, StoreError>>;

/// Registers watches in one transaction.
#[async_trait]
pub(crate) trait RegisterBatch: Send + Sync + 'static {
    /// The maximum number of transactions that run at once.
    const AT_ONCE: usize;

    /// Returns the result of each registration. Fails if none was registered.
    async fn register_all(&self, new: Arc<[NewWatch]>) -> Result<RegistrationResults, StoreError>;
}

/// A handle of the registering task. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct RegistrationBatcher {
    queue: mpsc::Sender<Queued>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Queued {
    new: Vec<NewWatch>,
    caller: oneshot::Sender<Result<Vec<Registration>, StoreError>>,
}

impl RegistrationBatcher {
    /// Starts the registering task. `share` says how long this relay leaves the database to others after each batch.
    pub(crate) fn start(store: impl RegisterBatch, share: Fleet) -> Self {
        let (queue, queued) = mpsc::channel(BATCH);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(store, queued, share));
        Self {
            queue,
            _task: tasks,
        }
    }

    /// Registers watches in one transaction, together with other requests that wait.
    pub(crate) async fn register(
        &self,
        new: Vec<NewWatch>,
    ) -> Result<Vec<Registration>, StoreError> {
        let (caller, answer) = oneshot::channel();
        let queued = Queued { new, caller };
        self.queue.send(queued).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn run<S: RegisterBatch>(store: S, mut queue: mpsc::Receiver<Queued>, share: Fleet) {
    let store = Arc::new(store);
    let (mut waiting, mut under_way) = (Vec::with_capacity(BATCH), JoinSet::new());
    while take(&mut queue, (&mut waiting, BATCH)).await {
        let (began, count) = (Instant::now(), waiting.len());
        let together = std::mem::replace(&mut waiting, Vec::with_capacity(BATCH));
        under_way.spawn(register(Arc::clone(&store), together));
        while under_way.len() >= S::AT_ONCE {
            under_way.join_next().await;
        }
        let rest = share.rest_after(began.elapsed());
        gather(&mut queue, (&mut waiting, BATCH), count, rest).await;
    }
    // requests that were taken before the queue was closed still get their results
    under_way.join_all().await;
}

/// Registers the watches of all requests, and sends each caller its results.
async fn register(store: Arc<impl RegisterBatch>, together: Vec<Queued>) {
    let (mut callers, mut all) = (Vec::with_capacity(together.len()), Vec::new());
    for Queued { new, caller } in together {
        callers.push((caller, new.len()));
        all.extend(new);
    }
    let all: Arc<[NewWatch]> = all.into();
    match store.register_all(Arc::clone(&all)).await {
        Ok(registered) => {
            let mut registered = registered.into_iter();
            for (caller, count) in callers {
                // take all of the caller's own results even if the first is an error: the next belong to another
                let own: Vec<_> = registered.by_ref().take(count).collect();
                tell(caller, own.into_iter().collect());
            }
        }
        Err(StoreError::Unavailable(source)) => {
            let source = Arc::new(StoreError::Unavailable(source));
            for (caller, _) in callers {
                let source = Box::new(Arc::clone(&source));
                tell(caller, Err(StoreError::Unavailable(source)));
            }
        }
        Err(StoreError::Refused(_) | StoreError::Damaged(_) | StoreError::Inconsistent { .. }) => {
            one_by_one(&*store, &all, callers).await;
        }
    }
}

type Caller = oneshot::Sender<Result<Vec<Registration>, StoreError>>;

/// Registers each caller's watches in a transaction of their own, so that a failing one does not affect the others.
async fn one_by_one(store: &impl RegisterBatch, all: &[NewWatch], callers: Vec<(Caller, usize)>) {
    let mut rest = all;
    for (caller, count) in callers {
        let (own, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        let registered = store.register_all(own.into()).await;
        tell(
            caller,
            registered.and_then(|each| each.into_iter().collect()),
        );
    }
}

/// Answers a caller. The caller may have gone away.
fn tell<T>(caller: oneshot::Sender<T>, answer: T) {
    if caller.send(answer).is_err() {
        trace!("a caller of the store did not wait for its answer");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use relay_domain::{
        CallbackRules, CallbackUrl, ClientId, Watch, WatchId, WatchOptions, WatchRequest,
    };

    use super::*;

    /// Takes 10 ms, and fails to return the result of the job `unreadable`.
    struct Slow;

    #[async_trait]
    impl RegisterBatch for Slow {
        const AT_ONCE: usize = 1;

        async fn register_all(
            &self,
            new: Arc<[NewWatch]>,
        ) -> Result<RegistrationResults, StoreError> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let registered = new.iter().map(|new| {
                if new.request.job_id.as_str() == "unreadable" {
                    return Err(closed());
                }
                let watch = Watch::begun(new.id, new.client_id, new.request.clone(), new.now);
                Ok(Registration::Created(Box::new(watch)))
            });
            Ok(registered.collect())
        }
    }

    fn new(job: &str) -> NewWatch {
        let callback = CallbackUrl::parse("https://app.example/hook", &CallbackRules::default());
        NewWatch {
            id: WatchId::new(Timestamp::UNIX_EPOCH),
            client_id: ClientId(1),
            request: WatchRequest {
                job_id: job.parse().unwrap(),
                callback_url: callback.unwrap(),
                options: WatchOptions::default(),
            },
            max_open: 10,
            now: Timestamp::UNIX_EPOCH,
            trace: None,
        }
    }

    fn jobs(registered: Result<Vec<Registration>, StoreError>) -> Option<Vec<String>> {
        let jobs = registered.ok()?.into_iter().map(|registration| {
            let Registration::Created(watch) = registration else {
                return String::new();
            };
            watch.request.job_id.to_string()
        });
        Some(jobs.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_gets_its_own_answers_when_another_cannot_have_all_of_its() {
        let registrar = RegistrationBatcher::start(Slow, Fleet::alone());
        let first = registrar.register(vec![new("before")]);
        let together = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::join!(
                registrar.register(vec![new("unreadable"), new("b"), new("c")]),
                registrar.register(vec![new("d"), new("e")]),
                registrar.register(vec![new("f")]),
            )
        };
        let (first, (broken, two, one)) = tokio::join!(first, together);
        assert_eq!(jobs(first), Some(vec!["before".to_owned()]));
        assert_eq!(jobs(broken), None);
        assert_eq!(jobs(two), Some(vec!["d".to_owned(), "e".to_owned()]));
        assert_eq!(jobs(one), Some(vec!["f".to_owned()]));
    }

    /// How long it takes until each of these callers has registered twice, at one relay of three. Each registers
    /// again as soon as it is answered.
    async fn twice(callers: usize) -> Duration {
        let share = Fleet::alone();
        share.set_size(3);
        let registrar = RegistrationBatcher::start(Slow, share);
        let began = Instant::now();
        let callers = (0..callers).map(async |_| {
            registrar.register(vec![new("job")]).await.unwrap();
            registrar.register(vec![new("job")]).await.unwrap();
        });
        futures_util::future::join_all(callers).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn others_have_the_store_as_long_unless_as_many_wait_again() {
        assert_eq!(twice(3).await, Duration::from_millis(10 + 2 * 10 + 10));
        assert_eq!(twice(20).await, Duration::from_millis(10 + 10));
    }
}
