//! The loop in which every background worker runs.

use std::{error::Error, future::Future, time::Duration};

use relay_domain::{BackOff, ErrorChain, Fleet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Wake;

/// Why a tick failed. The loop logs the error, backs off and ticks again.
pub type WorkerError = Box<dyn Error + Send + Sync>;

/// The pause after failed ticks.
const BACK_OFF: BackOff = BackOff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The longest time that a worker waits before it looks for work by itself. A wake-up can be lost if the caller stops
/// after it stored the work.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The pause after a tick is computed as if the tick had taken this many times as long. So callers of other relays,
/// which wait for an answer, come before workers.
const STORE_PAUSE_FACTOR: u32 = 2;

/// The result of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickOutcome {
    /// There may be more to do at once.
    Busy,
    /// There may be more to do. The loop waits for this time or a wake-up, so that one tick finds more work.
    Paced(Duration),
    /// There is nothing to do before a wake-up or the end of the wait.
    Idle {
        /// The time until something is due; none if nothing is known to be due.
        next_due_in: Option<Duration>,
    },
}

/// Background work in bounded steps.
pub trait Worker: Send {
    /// Returns the worker's name for logs.
    fn name(&self) -> &'static str;

    /// Returns the `Wake` that is notified when there may be work.
    fn wake(&self) -> Wake;

    /// Does one bounded batch. It must not wait for the network. Network calls run beside the worker, and notify
    /// [`Worker::wake`] when they end.
    fn tick(&mut self) -> impl Future<Output = Result<TickOutcome, WorkerError>> + Send;

    /// Leaves the store to other relays for this time. The worker still takes new work that is sent to it.
    fn leave_store_to_others(&mut self, pause: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(pause)
    }

    /// Finishes the work in flight, and claims no new work.
    fn drain(&mut self) -> impl Future<Output = Result<(), WorkerError>> + Send;
}

/// Ticks a worker until `stop`, then drains it.
///
/// [`Wake`] keeps a wake-up that comes between a tick and the wait after it, so none is lost. After each tick, the
/// worker leaves the store to the other relays that `fleet` counts.
pub async fn run_worker<W: Worker>(mut worker: W, fleet: Fleet, stop: CancellationToken) {
    let wake = worker.wake();
    let mut failures = 0_u32;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let ticked = worker.tick().await;
        let store_pause = fleet.pause_after(STORE_PAUSE_FACTOR * began.elapsed());
        if !store_pause.is_zero() {
            worker.leave_store_to_others(store_pause).await;
        }
        let pause = match ticked {
            Ok(TickOutcome::Busy) => {
                failures = 0;
                continue;
            }
            Ok(TickOutcome::Paced(wait)) => {
                failures = 0;
                Some(wait)
            }
            Ok(TickOutcome::Idle { next_due_in }) => {
                failures = 0;
                next_due_in
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let pause = BACK_OFF.after(failures);
                warn!(worker = worker.name(), error = %ErrorChain(&*error), pause = ?pause, "work failed, will try again");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
                continue;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(pause.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)) => {}
        }
    }
    if let Err(error) = worker.drain().await {
        warn!(worker = worker.name(), error = %ErrorChain(&*error), "could not finish cleanly; leases cover what is left");
    }
    debug!(worker = worker.name(), "stopped");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Script {
        ticks: Vec<Result<TickOutcome, WorkerError>>,
        log: Arc<Mutex<Vec<&'static str>>>,
        wake: Wake,
        stop: CancellationToken,
    }

    impl Worker for Script {
        fn name(&self) -> &'static str {
            "script"
        }

        fn wake(&self) -> Wake {
            self.wake.clone()
        }

        async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
            self.log.lock().unwrap().push("tick");
            if self.ticks.is_empty() {
                self.stop.cancel();
                return Ok(TickOutcome::Idle { next_due_in: None });
            }
            self.ticks.remove(0)
        }

        async fn drain(&mut self) -> Result<(), WorkerError> {
            self.log.lock().unwrap().push("drain");
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ticks_on_after_work_waits_and_errors_and_drains_once_at_the_end() {
        let (log, wake, stop) = (Arc::default(), Wake::new(), CancellationToken::new());
        let ticks = vec![
            Ok(TickOutcome::Busy),
            Ok(TickOutcome::Idle {
                next_due_in: Some(Duration::from_hours(1)),
            }),
            Err("out of reach".into()),
            Ok(TickOutcome::Idle { next_due_in: None }),
        ];
        let worker = Script {
            ticks,
            log: Arc::clone(&log),
            wake: wake.clone(),
            stop: stop.clone(),
        };
        wake.notify();
        let run = run_worker(worker, Fleet::alone(), stop);
        let ring_later = async {
            tokio::time::sleep(Duration::from_hours(2)).await;
            wake.notify();
        };
        tokio::join!(run, ring_later);
        assert_eq!(
            *log.lock().unwrap(),
            ["tick", "tick", "tick", "tick", "tick", "drain"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn work_whose_ring_was_lost_is_found_all_the_same() {
        let (log, stop) = (Arc::<Mutex<Vec<_>>>::default(), CancellationToken::new());
        let worker = Script {
            ticks: vec![Ok(TickOutcome::Idle { next_due_in: None })],
            log: Arc::clone(&log),
            wake: Wake::new(),
            stop: stop.clone(),
        };
        let run = tokio::time::timeout(LONGEST_WAIT * 2, run_worker(worker, Fleet::alone(), stop));
        assert!(run.await.is_ok(), "nobody notifies it, and it ticks again");
    }

    /// Makes three ticks of five milliseconds, and checks when they began.
    struct Slow(Vec<Instant>, CancellationToken);

    impl Worker for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn wake(&self) -> Wake {
            Wake::new()
        }

        async fn tick(&mut self) -> Result<TickOutcome, WorkerError> {
            self.0.push(Instant::now());
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.0.len() == 3 {
                self.1.cancel();
            }
            Ok(TickOutcome::Busy)
        }

        async fn drain(&mut self) -> Result<(), WorkerError> {
            let apart = self.0.windows(2).map(|two| two[1] - two[0]);
            let millis: Vec<_> = apart.map(|apart| apart.as_millis()).collect();
            assert_eq!(millis, [25, 25], "5 and twice 5 for each of two");
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_the_other_relays_has_the_store_twice_as_long_as_a_tick_took() {
        let (fleet, stop) = (Fleet::alone(), CancellationToken::new());
        fleet.set_size(3);
        run_worker(Slow(Vec::new(), stop.clone()), fleet, stop).await;
    }
}
