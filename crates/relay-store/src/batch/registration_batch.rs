//! Registers the watches of many requests in one transaction. A caller gets its result only after its commit.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    NewWatch, Registration, StoreError,
    batch::{BatchWork, Callers, EachResult},
};

/// Registers watches in one transaction. [`RegistrationBatch`] runs it.
#[async_trait]
pub(crate) trait RegisterBatch: Send + Sync + 'static {
    /// The maximum number of transactions that run at once.
    const AT_ONCE: usize;

    /// Returns the result of each registration. Fails if none was registered.
    async fn register_all(
        &self,
        new: Arc<[NewWatch]>,
    ) -> Result<EachResult<Registration>, StoreError>;
}

/// Registers the watches of a batcher's callers together, or one caller's after the other's if the database refuses
/// the batch.
pub(crate) struct RegistrationBatch<R>(pub(crate) R);

impl<R: RegisterBatch> BatchWork for RegistrationBatch<R> {
    type Input = Vec<NewWatch>;
    type Output = Vec<Registration>;

    const MAX_INPUTS: usize = 512;
    const AT_ONCE: usize = R::AT_ONCE;

    async fn run(
        &self,
        requests: Vec<Vec<NewWatch>>,
        callers: &mut Callers<Vec<Registration>>,
    ) -> Result<(), StoreError> {
        let counts: Vec<_> = requests.iter().map(Vec::len).collect();
        let all: Arc<[NewWatch]> = requests.into_iter().flatten().collect();
        match self.0.register_all(Arc::clone(&all)).await {
            Ok(registered) => {
                let mut registered = registered.into_iter();
                for count in counts {
                    // take all of the caller's own results even if the first is an error: the next belong to another
                    let own: Vec<_> = registered.by_ref().take(count).collect();
                    callers.answer_next(own.into_iter().collect());
                }
            }
            Err(failure) if failure.is_unavailable() => return Err(failure),
            Err(_) => {
                let mut rest = &*all;
                for count in counts {
                    let (own, others) = rest.split_at(count.min(rest.len()));
                    rest = others;
                    let own = self.0.register_all(own.into()).await;
                    callers.answer_next(own.and_then(|own| own.into_iter().collect()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use relay_domain::{
        CallbackRules, CallbackUrl, ClientId, Fleet, Watch, WatchId, WatchOptions, WatchRequest,
    };
    use tokio::time::Instant;

    use super::*;
    use crate::{batch::Batcher, error::closed};

    /// Takes 10 ms, and fails to return the result of the job `unreadable`.
    struct Slow;

    #[async_trait]
    impl RegisterBatch for Slow {
        const AT_ONCE: usize = 1;

        async fn register_all(
            &self,
            new: Arc<[NewWatch]>,
        ) -> Result<EachResult<Registration>, StoreError> {
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
            subscription_id: None,
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
        let batcher = Batcher::start(RegistrationBatch(Slow), Fleet::alone());
        let first = batcher.submit(vec![new("before")]);
        let together = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::join!(
                batcher.submit(vec![new("unreadable"), new("b"), new("c")]),
                batcher.submit(vec![new("d"), new("e")]),
                batcher.submit(vec![new("f")]),
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
        let fleet = Fleet::alone();
        fleet.set_size(3);
        let batcher = Batcher::start(RegistrationBatch(Slow), fleet);
        let began = Instant::now();
        let callers = (0..callers).map(async |_| {
            batcher.submit(vec![new("job")]).await.unwrap();
            batcher.submit(vec![new("job")]).await.unwrap();
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
