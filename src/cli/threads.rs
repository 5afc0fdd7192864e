//! The asynchronous runtime, and the threads that a command needs.
//!
//! Where a thread is missing, the runtime panics: while it is built, and later at the first name that is looked up or
//! the first wait for the budget towards Basiq. So it is tried beforehand whether there can be so many, and those that
//! are needed later are started at once and stay.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use crate::cli::exit::CommandFailure;

/// Threads that look up names, which stay: as long as there is one, no look-up fails for want of a thread.
const LOOKUPS: usize = 4;

/// How long an idle thread of those stays: always.
const ALWAYS: Duration = Duration::from_hours(24 * 365 * 10);

/// Builds the runtime of a command that starts so many threads of its own. Says clearly if there cannot be so many.
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
    // the thread by which the budget towards Basiq waits
    drop(futures_timer::Delay::new(Duration::ZERO));
    Ok(runtime)
}

/// Starts so many threads at once, and ends them.
fn try_threads(count: usize) -> io::Result<()> {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
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
            // it cannot panic
            Ok(thread) => thread.join().unwrap_or_default(),
            Err(error) => failed = Err(error),
        }
    }
    failed
}

/// Has the threads that look up names started: each task keeps one until all have begun.
async fn start_lookups() {
    let gate = Arc::new(Mutex::new(()));
    let tasks: Vec<_> = {
        let _closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let start = |_| {
            let gate = Arc::clone(&gate);
            tokio::task::spawn_blocking(move || drop(gate.lock()))
        };
        (0..LOOKUPS).map(start).collect()
    };
    for task in tasks {
        // it cannot panic
        task.await.unwrap_or_default();
    }
}
