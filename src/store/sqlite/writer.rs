//! Group commit: one task owns the one connection that writes, and all units of work that wait
//! while a commit runs share the next one. A caller is answered only after its commit.
//!
//! All writes go through this one task, so it has a thread of its own: among the other tasks it would wait for
//! its turn after each statement.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};
use tracing::{trace, warn};

use crate::store::{
    StoreError,
    common::{closed, shared},
};

/// The most units that share one commit, and the most that wait for it.
const BATCH: usize = 512;

/// The shortest and the longest pause after the database could not be opened.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The way to the writing task; dropping the last clone ends the task.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    commits: Arc<AtomicU64>,
}

enum Message {
    Unit(Box<dyn Unit>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the writing task with a connection, and the options to open another if that breaks. Fails if there
    /// can be no thread more.
    pub(super) fn start(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
    ) -> io::Result<Self> {
        let (queue, units) = mpsc::channel(BATCH);
        let commits = Arc::new(AtomicU64::new(0));
        let task = Task {
            connection: Some(connection),
            options,
            back_off: BACK_OFF.0,
            commits: Arc::clone(&commits),
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        thread::Builder::new()
            .name("store writer".to_owned())
            .spawn(move || runtime.block_on(task.run(units)))?;
        Ok(Self { queue, commits })
    }

    /// Commits so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Does one unit of work, all of it or nothing, and returns when it is on the disk.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>,
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
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Finishes what is queued, moves the log into the database file and closes it.
    pub(super) async fn close(&self) {
        let (caller, done) = oneshot::channel();
        if self.queue.send(Message::Close(caller)).await.is_ok() && done.await.is_err() {
            warn!("the store's writer ended before it could close");
        }
    }
}

/// Work whose result waits for the commit.
trait Unit: Send {
    /// Does the work, and says whether it succeeded.
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, bool>;

    /// Tells the caller the result, or why there is none.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Queued<T, F> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Unit for Queued<T, F>
where
    T: Send,
    F: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>,
{
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return false;
            };
            let result = work(connection).await;
            self.result.insert(result).is_ok()
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.result) {
            (_, Some(Err(own))) => Err(own),
            (Err(failure), _) => Err(failure),
            (Ok(()), result) => result.unwrap_or_else(|| Err(closed())),
        };
        tell(self.caller, answer);
    }
}

struct Task {
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    back_off: Duration,
    commits: Arc<AtomicU64>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut messages, BATCH).await > 0 {
            let mut units = Vec::with_capacity(messages.len());
            let mut closing = None;
            for message in messages.drain(..) {
                match message {
                    Message::Unit(unit) => units.push(unit),
                    Message::Close(caller) => closing = Some(caller),
                }
            }
            self.commit(units).await;
            if let Some(caller) = closing {
                queue.close();
                self.close().await;
                tell(caller, ());
                return;
            }
        }
        self.close().await;
    }

    async fn commit(&mut self, mut units: Vec<Box<dyn Unit>>) {
        if units.is_empty() {
            return;
        }
        match self.transact(&mut units).await {
            Ok(()) => {
                self.commits.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("relay_store_commits_total").increment(1);
                for unit in units {
                    unit.answer(Ok(()));
                }
            }
            Err(failure) => {
                warn!(error = %failure, units = units.len(), "the store lost a transaction");
                metrics::counter!("relay_store_failures_total").increment(1);
                self.recover().await;
                let failure = Arc::new(failure);
                for unit in units {
                    unit.answer(Err(shared(&failure)));
                }
            }
        }
    }

    /// Each unit in a savepoint of its own, so that one that fails leaves its neighbours alone.
    async fn transact(&mut self, units: &mut [Box<dyn Unit>]) -> Result<(), sqlx::Error> {
        let connection = self.connected().await?;
        // each call is a way to another thread and back, so what can be said at once is
        let (mut before, mut last) = ("BEGIN IMMEDIATE; SAVEPOINT unit", "COMMIT");
        for unit in units {
            execute(connection, before).await?;
            (before, last) = if unit.run(connection).await {
                ("RELEASE unit; SAVEPOINT unit", "COMMIT")
            } else {
                ("ROLLBACK TO unit", "ROLLBACK TO unit; COMMIT")
            };
        }
        execute(connection, last).await
    }

    async fn connected(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match self.options.connect().await {
                Ok(connection) => connection,
                Err(failure) => {
                    tokio::time::sleep(self.back_off).await;
                    self.back_off = (self.back_off * 2).min(BACK_OFF.1);
                    return Err(failure);
                }
            },
        };
        self.back_off = BACK_OFF.0;
        Ok(self.connection.insert(connection))
    }

    /// Rolls back; a connection that cannot is given up.
    async fn recover(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if execute(&mut connection, "ROLLBACK").await.is_ok() {
            self.connection = Some(connection);
        } else if let Err(failure) = connection.close().await {
            warn!(error = %failure, "a broken connection to the store did not close");
        }
    }

    async fn close(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // the last connection to close moves the write-ahead log into the database file
        if let Err(failure) = connection.close().await {
            warn!(error = %failure, "the store did not close cleanly; nothing is lost");
        }
    }
}

/// Answers a caller; one that went away does not matter.
fn tell<T>(caller: oneshot::Sender<T>, answer: T) {
    if caller.send(answer).is_err() {
        trace!("a caller of the store did not wait for its answer");
    }
}

async fn execute(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn writer() -> (Writer, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(home.path().join("x.db"))
            .foreign_keys(true);
        let mut connection = options
            .clone()
            .create_if_missing(true)
            .connect()
            .await
            .unwrap();
        let tables = "CREATE TABLE one (n INTEGER PRIMARY KEY); CREATE TABLE two (n INTEGER \
            REFERENCES one DEFERRABLE INITIALLY DEFERRED)";
        sqlx::raw_sql(tables)
            .execute(&mut connection)
            .await
            .unwrap();
        (Writer::start(connection, options).unwrap(), home)
    }

    async fn write(writer: &Writer, statement: &'static str) -> Result<(), StoreError> {
        let unit = writer.write(move |connection| {
            Box::pin(async move { Ok(execute(connection, statement).await?) })
        });
        unit.await
    }

    async fn twice(connection: &mut SqliteConnection) -> Result<(), StoreError> {
        for _ in 0..2 {
            execute(connection, "INSERT INTO one VALUES (1)").await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_commit_that_fails_is_told_to_all_and_the_next_one_works() {
        let (writer, _home) = writer().await;
        let (one, two) = tokio::join!(
            write(&writer, "INSERT INTO one VALUES (1)"),
            // refused by the commit, not by the statement
            write(&writer, "INSERT INTO two VALUES (7)"),
        );
        assert!(matches!(one, Err(StoreError::Refused(_))), "{one:?}");
        assert!(matches!(two, Err(StoreError::Refused(_))), "{two:?}");
        assert_eq!(writer.commits(), 0);
        write(&writer, "INSERT INTO one VALUES (1)").await.unwrap();
        assert_eq!(writer.commits(), 1);
    }

    #[tokio::test]
    async fn a_unit_that_fails_is_undone_alone() {
        let (writer, _home) = writer().await;
        let half = writer.write(|connection| Box::pin(twice(connection)));
        let (half, whole) = tokio::join!(half, write(&writer, "INSERT INTO one VALUES (1)"));
        assert!(matches!(half, Err(StoreError::Refused(_))), "{half:?}");
        whole.unwrap();
        assert_eq!(writer.commits(), 1);
    }

    #[tokio::test]
    async fn after_a_panic_every_caller_is_told_that_the_store_is_gone() {
        let (writer, _home) = writer().await;
        let broken = writer.write::<(), _>(|_| Box::pin(async { panic!("on purpose") }));
        let (broken, waiting) = tokio::join!(broken, write(&writer, "SELECT 1"));
        let later = write(&writer, "SELECT 1").await;
        for answer in [broken, waiting, later] {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        }
        writer.close().await;
    }

    #[tokio::test]
    async fn a_broken_transaction_gives_the_connection_up_and_opens_another() {
        let (writer, _home) = writer().await;
        // as SQLite itself does when a disk fails
        let rolled_back = write(&writer, "ROLLBACK").await;
        assert!(rolled_back.is_err());
        write(&writer, "INSERT INTO one VALUES (1)").await.unwrap();
    }
}
