//! The asynchronous runtime, and the threads that a command needs.
//!
//! The runtime panics if it cannot start a thread. It starts threads while it is built, at the first name lookup, and
//! at the first wait for the budget towards Basiq. Therefore `runtime` first tries to start the needed number of
//! threads. It also starts the threads for later use at once, and they stay.

use std::{io, sync::Arc, thread, time::Duration};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use crate::cli::exit::CommandFailure;

/// The number of threads that look up names. They stay alive, so no lookup fails because a thread cannot be started.
const LOOKUPS: usize = 4;

/// How long an idle lookup thread stays alive: ten years, that is, always.
const ALWAYS: Duration = Duration::from_hours(24 * 365 * 10);

/// Builds the runtime of a command that starts `own` more threads itself. Fails with a clear message if the system
/// does not allow that many threads.
pub(super) fn runtime(own: usize) -> Result<Runtime, CommandFailure> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let needed = workers + LOOKUPS + own + 1;
    try_threads(needed).with_context(|| {
        format!(
            "{needed} threads are needed and cannot be started: raise the limit of processes (ulimit -u) or of the \
             container's pids"
        )
    })?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_keep_alive(ALWAYS)
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(start_lookups());
    // Starts the timer thread that the budget towards Basiq uses.
    drop(futures_timer::Delay::new(Duration::ZERO));
    Ok(runtime)
}

/// Starts `count` threads at the same time, and ends them.
fn try_threads(count: usize) -> io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let started: Vec<_> = (0..count)
        .map(|_| {
            let gate = Arc::clone(&gate);
            thread::Builder::new().spawn(move || drop(gate.lock()))
        })
        .collect();
    drop(closed);
    let mut failed = Ok(());
    for thread in started {
        match thread {
            // The thread cannot panic.
            Ok(thread) => thread.join().unwrap_or_default(),
            Err(error) => failed = Err(error),
        }
    }
    failed
}

/// Starts the threads that look up names. Each task holds one thread until all tasks have begun.
async fn start_lookups() {
    let gate = Arc::new(Mutex::new(()));
    let tasks: Vec<_> = {
        let _closed = gate.lock();
        let start = |_| {
            let gate = Arc::clone(&gate);
            tokio::task::spawn_blocking(move || drop(gate.lock()))
        };
        (0..LOOKUPS).map(start).collect()
    };
    for task in tasks {
        // The task cannot panic.
        task.await.unwrap_or_default();
    }
}
