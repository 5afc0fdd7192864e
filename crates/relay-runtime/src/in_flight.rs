//! Calls that run beside a worker. The worker takes their results at its next tick.

use std::future::Future;

use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};
use tracing::error;

use crate::Wake;

/// The tasks of one worker. The worker is woken as each task ends.
#[derive(Debug)]
pub struct InFlight<T> {
    tasks: JoinSet<()>,
    running: usize,
    /// Sends the result of each task that ends, or none if it panicked.
    result_sender: UnboundedSender<Option<T>>,
    results: UnboundedReceiver<Option<T>>,
    wake: Wake,
}

impl<T: Send + 'static> InFlight<T> {
    /// Starts without tasks. `wake` is notified as each task ends.
    #[must_use]
    pub fn new(wake: Wake) -> Self {
        let (result_sender, results) = mpsc::unbounded_channel();
        Self {
            tasks: JoinSet::new(),
            running: 0,
            result_sender,
            results,
            wake,
        }
    }

    /// Returns the number of tasks whose results have not been taken yet.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running
    }

    /// Starts a task.
    pub fn start(&mut self, task: impl Future<Output = T> + Send + 'static) {
        let end = TaskEnd {
            result: None,
            sender: self.result_sender.clone(),
            wake: self.wake.clone(),
        };
        self.running += 1;
        // a call's state is kilobytes: without the box, its task would move the state five times
        let task = Box::pin(task);
        self.tasks.spawn(async move { end.with(task.await) });
    }

    /// Returns the results of the tasks that have ended. A task that panicked has no result.
    pub fn take(&mut self) -> Vec<T> {
        let mut results = Vec::new();
        while let Ok(result) = self.results.try_recv() {
            self.running = self.running.saturating_sub(1);
            results.extend(result);
        }
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(failure) = ended {
                error!(%failure, "a task broke off");
            }
        }
        results
    }

    /// Waits for a task to end, and returns all results so far. Returns none if no task is in flight.
    pub async fn wait(&mut self) -> Option<Vec<T>> {
        if self.running == 0 {
            return None;
        }
        let first = self.results.recv().await?;
        self.running = self.running.saturating_sub(1);
        let mut results: Vec<T> = first.into_iter().collect();
        results.extend(self.take());
        Some(results)
    }
}

/// Sends a task's result when the task ends in any way, and then wakes the worker. The tick after the wake-up
/// therefore finds the result.
struct TaskEnd<T> {
    result: Option<T>,
    sender: UnboundedSender<Option<T>>,
    wake: Wake,
}

impl<T> TaskEnd<T> {
    /// Ends a task that returned normally.
    fn with(mut self, result: T) {
        self.result = Some(result);
    }
}

impl<T> Drop for TaskEnd<T> {
    fn drop(&mut self) {
        // If the worker is gone, the result is lost and the lease expires.
        drop(self.sender.send(self.result.take()));
        self.wake.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_result_of_a_task_is_there_when_the_worker_wakes_and_a_panic_has_none() {
        let wake = Wake::new();
        let mut flights = InFlight::new(wake.clone());
        flights.start(async { 7 });
        wake.notified().await;
        assert_eq!((flights.take(), flights.count()), (vec![7], 0));
        flights.start(async { panic!("broken on purpose") });
        wake.notified().await;
        assert_eq!((flights.take(), flights.count()), (vec![], 0));
        flights.start(async { 8 });
        assert_eq!(flights.wait().await, Some(vec![8]));
        assert_eq!(flights.wait().await, None);
    }
}
