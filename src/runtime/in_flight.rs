//! Calls in flight beside a worker: what they bring is there at its next tick.

use std::future::Future;

use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};
use tracing::error;

use crate::runtime::Wake;

/// The tasks of one worker, which is rung as each ends.
#[derive(Debug)]
pub struct InFlight<T> {
    tasks: JoinSet<()>,
    running: usize,
    landing: UnboundedSender<Option<T>>,
    landed: UnboundedReceiver<Option<T>>,
    wake: Wake,
}

impl<T: Send + 'static> InFlight<T> {
    /// None in flight; `wake` is rung as each ends.
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

    /// How many have not been taken yet.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running
    }

    /// Starts one.
    pub fn start(&mut self, flight: impl Future<Output = T> + Send + 'static) {
        let landing = Landing {
            brought: None,
            place: self.landing.clone(),
            wake: self.wake.clone(),
        };
        self.running += 1;
        // a call's state is kilobytes, which its task would move five times
        let flight = Box::pin(flight);
        self.tasks.spawn(async move { landing.land(flight.await) });
    }

    /// What those that have ended brought. One that broke off brings nothing.
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

    /// Waits for one to end, and takes all that have; none if none is in flight.
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

/// Hands over what a flight brought when it ends, in whatever way, and only then rings: a tick after
/// the ring finds it.
struct Landing<T> {
    brought: Option<T>,
    place: UnboundedSender<Option<T>>,
    wake: Wake,
}

impl<T> Landing<T> {
    /// The flight ended as it should.
    fn land(mut self, brought: T) {
        self.brought = Some(brought);
    }
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        // Without a worker that listens the lease runs out.
        drop(self.place.send(self.brought.take()));
        self.wake.ring();
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
        wake.rung().await;
        assert_eq!((flights.take(), flights.count()), (vec![7], 0));
        flights.start(async { panic!("broken on purpose") });
        wake.rung().await;
        assert_eq!((flights.take(), flights.count()), (vec![], 0));
        flights.start(async { 8 });
        assert_eq!(flights.wait().await, Some(vec![8]));
        assert_eq!(flights.wait().await, None);
    }
}
