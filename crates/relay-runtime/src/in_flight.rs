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
    landing: UnboundedSender<Option<T>>,
    landed: UnboundedReceiver<Option<T>>,
    wake: Wake,
}

impl<T: Send + 'static> InFlight<T> {
    /// Starts without tasks. `wake` is notified as each task ends.
    #[must_use]
    pub fn new(wake: Wake) -> Self {
        let (landing, landed) = mpsc::unbounded_channel();
        Self {
            tasks: JoinSet::new(),
            running: 0,
            landing,
            landed,
            wake,
        }
    }

    /// Returns the number of tasks whose results have not been taken yet.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running
    }

    /// Starts a task.
    pub fn start(&mut self, flight: impl Future<Output = T> + Send + 'static) {
        let landing = Landing {
            brought: None,
            place: self.landing.clone(),
            wake: self.wake.clone(),
        };
        self.running += 1;
        // a call's state is kilobytes: without the box, its task would move the state five times
        let flight = Box::pin(flight);
        self.tasks.spawn(async move { landing.land(flight.await) });
    }

    /// Returns the results of the tasks that have ended. A task that panicked has no result.
    pub fn take(&mut self) -> Vec<T> {
        let mut brought = Vec::new();
        while let Ok(landed) = self.landed.try_recv() {
            self.running = self.running.saturating_sub(1);
            brought.extend(landed);
        }
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(failure) = ended {
                error!(%failure, "a task broke off");
            }
        }
        brought
    }

    /// Waits for a task to end, and returns all results so far. Returns none if no task is in flight.
    pub async fn wait(&mut self) -> Option<Vec<T>> {
        if self.running == 0 {
            return None;
        }
        let first = self.landed.recv().await?;
        self.running = self.running.saturating_sub(1);
        let mut brought: Vec<T> = first.into_iter().collect();
        brought.extend(self.take());
        Some(brought)
    }
}

/// Sends a task's result when the task ends in any way, and then wakes the worker. The tick after the wake-up
/// therefore finds the result.
struct Landing<T> {
    brought: Option<T>,
    place: UnboundedSender<Option<T>>,
    wake: Wake,
}

impl<T> Landing<T> {
    /// Sets the result of a task that ended normally.
    fn land(mut self, brought: T) {
        self.brought = Some(brought);
    }
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        // If the worker is gone, the result is lost and the lease expires.
        drop(self.place.send(self.brought.take()));
        self.wake.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_flight_brought_is_there_when_it_rings_and_a_panic_brings_nothing() {
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
