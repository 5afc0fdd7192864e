//! Starts, names and stops every background task, and notices when a task dies.

use std::{future::Future, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// The result of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// Every task ended by itself.
    Drained,
    /// The deadline passed, and the remaining tasks were aborted. This is safe because of leases.
    Aborted,
}

/// Owns the tasks of a process.
#[derive(Debug, Default)]
pub struct Supervisor {
    tasks: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Makes a supervisor without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the token that is cancelled when the tasks should stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that should run until [`Supervisor::stop_token`] is cancelled.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until a task ends although no stop was requested, and returns its name.
    pub async fn wait_for_task_exit(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => {
                error!(task = name, "a task ended although it should not");
                name
            }
            Some(Err(failure)) => {
                error!(%failure, "a task panicked");
                "panicked"
            }
            None => std::future::pending().await,
        }
    }

    /// Asks every task to stop, and waits until all have ended. Aborts the rest after `grace`, or when `hurry`
    /// completes.
    pub async fn shut_down(
        mut self,
        grace: Duration,
        hurry: impl Future<Output = ()>,
    ) -> StopOutcome {
        self.stop.cancel();
        let stopped = tokio::select! {
            () = self.all_ended() => StopOutcome::Drained,
            () = tokio::time::sleep(grace) => StopOutcome::Aborted,
            () = hurry => StopOutcome::Aborted,
        };
        self.tasks.shutdown().await;
        match stopped {
            StopOutcome::Drained => info!("stopped: all work in flight was finished"),
            StopOutcome::Aborted => {
                warn!("stopped at the deadline: the leases of unfinished work run out");
            }
        }
        stopped
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(failure) = ended {
                warn!(%failure, "a task failed while stopping");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_that_end_in_time_are_drained() {
        let mut supervisor = Supervisor::new();
        let stop = supervisor.stop_token();
        supervisor.spawn("polite", async move { stop.cancelled().await });
        let stopped = supervisor
            .shut_down(Duration::from_secs(1), std::future::pending())
            .await;
        assert_eq!(stopped, StopOutcome::Drained);
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_hang_are_aborted_at_the_deadline_or_on_a_second_signal() {
        for hurry in [Duration::from_secs(1), Duration::from_hours(1)] {
            let mut supervisor = Supervisor::new();
            supervisor.spawn("stubborn", std::future::pending());
            let hurry = tokio::time::sleep(hurry);
            assert_eq!(
                supervisor.shut_down(Duration::from_secs(5), hurry).await,
                StopOutcome::Aborted
            );
        }
    }

    #[tokio::test]
    async fn a_death_is_noticed() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("short-lived", async {});
        assert_eq!(supervisor.wait_for_task_exit().await, "short-lived");
    }
}
