//! Group commit: one thread owns the one connection that writes. All units of work that wait while a commit runs
//! share the next one. A caller gets its result only after its commit.
//!
//! A unit runs as a whole on that thread, without a change of thread for each statement.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use relay_domain::{BackOff, ErrorChain};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::{
    StoreError,
    batch::send_answer,
    error::closed,
    sqlite::{
        file_health::FileHealth,
        open::{BUSY_TIMEOUT, open_to_write},
        statement::{SqlResult, execute, scalar},
    },
};

/// The maximum number of units that share one commit, and the maximum number that wait for it.
const BATCH: usize = 512;

/// How long all writers wait for readers while the log is emptied, and the pause before the next try.
const LOG_PATIENCE: Duration = Duration::from_millis(50);
const LOG_PAUSE: Duration = Duration::from_millis(500);

/// The pause after the database could not be opened.
const BACK_OFF: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_secs(2));

/// A handle of the writing thread. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    health: FileHealth,
    commits: Arc<AtomicU64>,
    log_mark: Arc<AtomicBool>,
}

enum Message {
    Unit(Box<dyn UnitOfWork>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the writing thread with a connection. If that breaks, the thread opens the file of `health` again.
    /// Fails if the system cannot create another thread.
    pub(super) fn start(connection: Connection, health: FileHealth) -> io::Result<Self> {
        let (queue, units) = mpsc::channel(BATCH);
        let commits = Arc::new(AtomicU64::new(0));
        let log_mark = Arc::<AtomicBool>::default();
        let task = Task {
            connection: Some(connection),
            health: health.clone(),
            failures: 0,
            commits: Arc::clone(&commits),
            log_mark: Arc::clone(&log_mark),
            next_log_try: None,
        };
        thread::Builder::new()
            .name("store writer".to_owned())
            .spawn(move || task.run(units))?;
        Ok(Self {
            queue,
            health,
            commits,
            log_mark,
        })
    }

    /// Returns the number of commits so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Does one unit of work, all of it or nothing, and returns when it is on the disk.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let unit = Box::new(Queued {
            work: Some(work),
            result: None,
            caller,
        });
        self.queue
            .send(Message::Unit(unit))
            .await
            .map_err(|_| closed())?;
        let answer = answer.await.unwrap_or_else(|_| Err(closed()));
        answer.inspect_err(|failure| self.health.note(failure))
    }

    /// Returns the mark that the write-ahead log must be emptied. A unit of work sets it. The thread empties the log
    /// after the commit, or once no reader needs the log, and clears the mark.
    pub(super) fn log_mark(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.log_mark)
    }

    /// Finishes the queued units, moves the log into the database file and closes it.
    pub(super) async fn close(&self) {
        let (caller, done) = oneshot::channel();
        if self.queue.send(Message::Close(caller)).await.is_ok() && done.await.is_err() {
            warn!("the store's writer ended before it could close");
        }
    }
}

/// A unit of work whose result waits for the commit.
trait UnitOfWork: Send {
    /// Does the work. Returns whether it succeeded.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Sends the caller the result, or the reason why the commit failed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Queued<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> UnitOfWork for Queued<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        self.result.insert(work(connection)).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.result) {
            (_, Some(Err(own))) => Err(own),
            (Err(failure), _) => Err(failure),
            (Ok(()), result) => result.unwrap_or_else(|| Err(closed())),
        };
        send_answer(self.caller, answer);
    }
}

struct Task {
    connection: Option<Connection>,
    health: FileHealth,
    /// How many times in a row the database could not be opened.
    failures: u32,
    commits: Arc<AtomicU64>,
    log_mark: Arc<AtomicBool>,
    /// None if the log can be emptied at once.
    next_log_try: Option<Instant>,
}

impl Task {
    fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut messages, BATCH) > 0 {
            let mut units = Vec::with_capacity(messages.len());
            let mut closing = None;
            for message in messages.drain(..) {
                match message {
                    Message::Unit(unit) => units.push(unit),
                    Message::Close(caller) => closing = Some(caller),
                }
            }
            self.commit_all(units);
            self.empty_marked_log();
            if let Some(caller) = closing {
                queue.close();
                self.close();
                send_answer(caller, ());
                return;
            }
        }
        self.close();
    }

    /// Empties the write-ahead log if it is marked. Tries again later if a reader needs it.
    fn empty_marked_log(&mut self) {
        let is_due = self.next_log_try.is_none_or(|at| at <= Instant::now());
        if !is_due || !self.log_mark.load(Ordering::Relaxed) {
            return;
        }
        let is_empty = self.empty_log().unwrap_or_else(|failure| {
            debug!(error = %ErrorChain(&failure), "the write-ahead log cannot be emptied");
            false
        });
        self.log_mark.store(!is_empty, Ordering::Relaxed);
        self.next_log_try = (!is_empty).then(|| Instant::now() + LOG_PAUSE);
    }

    /// Moves the write-ahead log into the database file and truncates the log. Returns false if a reader needs it.
    fn empty_log(&mut self) -> SqlResult<bool> {
        let connection = self.connected()?;
        connection.busy_timeout(LOG_PATIENCE)?;
        let is_busy = scalar::<i64>(connection, "PRAGMA wal_checkpoint(TRUNCATE)", []);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(is_busy? == Some(0))
    }

    /// Commits all units together. In a damaged file each gets its own transaction, because SQLite commits nothing of
    /// a transaction that met damage.
    fn commit_all(&mut self, units: Vec<Box<dyn UnitOfWork>>) {
        if self.health.ensure_undamaged().is_ok() {
            self.commit(units);
        } else {
            for unit in units {
                self.commit(vec![unit]);
            }
        }
    }

    fn commit(&mut self, mut units: Vec<Box<dyn UnitOfWork>>) {
        if units.is_empty() || self.refuse_if_lost(&mut units) {
            return;
        }
        match self.transact(&mut units) {
            Ok(()) => self.acknowledge(units),
            Err(failure) => {
                warn!(error = %ErrorChain(&failure), units = units.len(), "the store lost a transaction");
                metrics::counter!("relay_store_failures_total").increment(1);
                self.recover();
                let failure = StoreError::from(failure);
                for unit in units {
                    unit.answer(Err(failure.clone()));
                }
            }
        }
    }

    /// Refuses all units if the file is known to be another one than was opened. Checks the file itself before it is
    /// opened again.
    fn refuse_if_lost(&self, units: &mut Vec<Box<dyn UnitOfWork>>) -> bool {
        let check = if self.connection.is_some() {
            FileHealth::ensure_in_place
        } else {
            FileHealth::check_place
        };
        let is_lost = check(&self.health).is_err();
        if is_lost {
            for unit in units.drain(..) {
                unit.answer(check(&self.health));
            }
        }
        is_lost
    }

    /// Answers the units of a commit. A removed file still takes commits, but they are lost when the relay ends. So
    /// such commits are not acknowledged.
    fn acknowledge(&self, units: Vec<Box<dyn UnitOfWork>>) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("relay_store_commits_total").increment(1);
        let ensure_in_place = self.health.check_place().is_ok();
        for unit in units {
            unit.answer(if ensure_in_place {
                Ok(())
            } else {
                self.health.check_place()
            });
        }
    }

    /// Runs each unit so that a failing one can be undone alone. The first is undone by rolling back the transaction,
    /// which contains nothing else yet. Each other unit has a savepoint.
    fn transact(&mut self, units: &mut [Box<dyn UnitOfWork>]) -> SqlResult<()> {
        let connection = self.connected()?;
        execute(connection, "BEGIN IMMEDIATE", [])?;
        let mut units = units.iter_mut();
        if units.next().is_some_and(|first| !first.run(connection)) {
            execute(connection, "ROLLBACK", [])?;
            execute(connection, "BEGIN IMMEDIATE", [])?;
        }
        for unit in units {
            execute(connection, "SAVEPOINT unit", [])?;
            if !unit.run(connection) {
                execute(connection, "ROLLBACK TO unit", [])?;
            }
            execute(connection, "RELEASE unit", [])?;
        }
        execute(connection, "COMMIT", [])?;
        Ok(())
    }

    fn connected(&mut self) -> SqlResult<&Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_to_write(self.health.path()).inspect_err(|_| {
                self.failures = self.failures.saturating_add(1);
                thread::sleep(BACK_OFF.after(self.failures));
            })?,
        };
        self.failures = 0;
        Ok(self.connection.insert(connection))
    }

    /// Rolls back. Gives the connection up if it cannot.
    fn recover(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if execute(&connection, "ROLLBACK", []).is_ok() {
            self.connection = Some(connection);
        } else if let Err((_, failure)) = connection.close() {
            warn!(error = %ErrorChain(&failure), "a broken connection to the store did not close");
        }
    }

    fn close(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // the last connection to close moves the write-ahead log into the database file
        if let Err((_, failure)) = connection.close() {
            warn!(error = %ErrorChain(&failure), "the store did not close cleanly; nothing is lost");
        }
    }
}

#[cfg(test)]
mod tests;
