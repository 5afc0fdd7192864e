//! Does work in batches. At most [`BatchWork::AT_ONCE`] batches run. Inputs that come meanwhile join the next one.

use std::{sync::Arc, vec};

use relay_domain::Fleet;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tracing::trace;

use crate::{
    StoreError,
    batch::gather::{gather, take},
    error::closed,
};

/// The result of each part of a batch, in their order.
pub(crate) type EachResult<T> = Vec<Result<T, StoreError>>;

/// What a batcher does with a batch.
pub(crate) trait BatchWork: Send + Sync + 'static {
    /// What a caller asks for.
    type Input: Send + 'static;
    /// What the caller gets.
    type Output: Send + 'static;

    /// The maximum number of inputs in a batch, and of those in the queue. Between the batches of a fleet, up to as
    /// many again are gathered for the next batch.
    const MAX_INPUTS: usize;

    /// The maximum number of batches that run at once.
    const AT_ONCE: usize = 1;

    /// Does the work for these inputs, and answers their callers. On failure, the callers without an answer get the
    /// error.
    fn run(
        &self,
        inputs: Vec<Self::Input>,
        callers: &mut Callers<Self::Output>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A handle of the task that runs the batches. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Batcher<I, O> {
    queue: mpsc::Sender<Request<I, O>>,
    _task: JoinSet<()>,
}

/// An input, and where to send the result. There is no sender if nobody waits for the result.
type Request<I, O> = (I, Option<ResultSender<O>>);

type ResultSender<O> = oneshot::Sender<Result<O, StoreError>>;

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts the task. After each batch it leaves the database to the other relays of `fleet` for a while.
    pub(crate) fn start<W>(work: W, fleet: Fleet) -> Self
    where
        W: BatchWork<Input = I, Output = O>,
    {
        let (queue, requests) = mpsc::channel(W::MAX_INPUTS);
        let mut task = JoinSet::new();
        task.spawn(run_batches(Arc::new(work), requests, fleet));
        Self { queue, _task: task }
    }

    /// Returns the result of this input. Its batch begins after this call, so the result includes everything that was
    /// committed before.
    pub(crate) async fn submit(&self, input: I) -> Result<O, StoreError> {
        let (caller, answer) = oneshot::channel();
        let request = (input, Some(caller));
        self.queue.send(request).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Queues an input whose result nobody waits for. Returns false if the queue is full: the input is lost then.
    pub(crate) fn submit_unwatched(&self, input: I) -> bool {
        self.queue.try_send((input, None)).is_ok()
    }
}

/// The callers of a batch, in the order of their inputs.
pub(crate) struct Callers<O>(vec::IntoIter<Option<ResultSender<O>>>);

impl<O> Callers<O> {
    /// Sends the next caller its result.
    pub(crate) fn answer_next(&mut self, result: Result<O, StoreError>) {
        if let Some(Some(caller)) = self.0.next() {
            send_answer(caller, result);
        }
    }
}

async fn run_batches<W: BatchWork>(
    work: Arc<W>,
    mut queue: mpsc::Receiver<Request<W::Input, W::Output>>,
    fleet: Fleet,
) {
    let (mut waiting, mut running) = (Vec::with_capacity(W::MAX_INPUTS), JoinSet::new());
    while take(&mut queue, &mut waiting, W::MAX_INPUTS).await {
        let (began, count) = (Instant::now(), waiting.len());
        let (inputs, callers): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        running.spawn(run_batch(Arc::clone(&work), inputs, callers));
        while running.len() >= W::AT_ONCE {
            running.join_next().await;
        }
        let pause = fleet.pause_after(began.elapsed());
        gather(&mut queue, &mut waiting, W::MAX_INPUTS, count, pause).await;
    }
}

async fn run_batch<W: BatchWork>(
    work: Arc<W>,
    inputs: Vec<W::Input>,
    callers: Vec<Option<ResultSender<W::Output>>>,
) {
    let mut callers = Callers(callers.into_iter());
    if let Err(failure) = work.run(inputs, &mut callers).await {
        for caller in callers.0.flatten() {
            send_answer(caller, Err(failure.clone()));
        }
    }
}

/// Answers a caller. The caller may have gone away.
pub(crate) fn send_answer<T>(caller: oneshot::Sender<T>, answer: T) {
    if caller.send(answer).is_err() {
        trace!("a caller of the store did not wait for its answer");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    /// How long a batch takes.
    const TAKES: Duration = Duration::from_millis(10);

    /// Takes 10 ms for a batch. Returns how many inputs the batch has; fails before it answers for 0, and panics for
    /// 13.
    struct Counts;

    impl BatchWork for Counts {
        type Input = u32;
        type Output = usize;

        const MAX_INPUTS: usize = 4;
        const AT_ONCE: usize = 2;

        async fn run(
            &self,
            inputs: Vec<u32>,
            callers: &mut Callers<usize>,
        ) -> Result<(), StoreError> {
            tokio::time::sleep(TAKES).await;
            for input in &inputs {
                match input {
                    0 => return Err(StoreError::refused("zero")),
                    13 => panic!("on purpose"),
                    _ => callers.answer_next(Ok(inputs.len())),
                }
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_has_no_more_callers_than_fit_and_no_more_batches_run_than_may() {
        let batcher = Batcher::start(Counts, Fleet::alone());
        let began = Instant::now();
        let sizes = join_all((1..=9).map(|input| batcher.submit(input))).await;
        let sizes: Vec<_> = sizes.into_iter().map(Result::unwrap).collect();
        assert_eq!(sizes, [4, 4, 4, 4, 4, 4, 4, 4, 1]);
        assert_eq!(began.elapsed(), 2 * TAKES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_all_callers_without_an_answer() {
        let batcher = Batcher::start(Counts, Fleet::alone());
        let results = join_all([1, 0, 2].map(|input| batcher.submit(input))).await;
        assert!(matches!(
            results.as_slice(),
            [
                Ok(3),
                Err(StoreError::Refused(_)),
                Err(StoreError::Refused(_))
            ]
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_panic_the_callers_are_told_that_the_store_is_gone() {
        let batcher = Batcher::start(Counts, Fleet::alone());
        let result = batcher.submit(13).await;
        assert!(
            matches!(result, Err(StoreError::Unavailable(_))),
            "{result:?}"
        );
        batcher.submit(1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_unwatched_input_that_finds_the_queue_full_is_lost() {
        let batcher = Batcher::start(Counts, Fleet::alone());
        let queued: Vec<_> = (1..=5)
            .map(|input| batcher.submit_unwatched(input))
            .collect();
        assert_eq!(queued, [true, true, true, true, false]);
        tokio::time::sleep(TAKES).await;
        assert!(batcher.submit_unwatched(1));
    }
}
