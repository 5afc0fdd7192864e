//! A thread with its own read-only connection, for the short lookups of every request and every look. Each lookup
//! runs whole on that thread, without a change of thread for each statement.

use std::{io, thread};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::{StoreError, batch::send_answer, error::closed, sqlite::file_health::FileHealth};

/// The maximum number of lookups that wait. Only a few tasks look up, and each waits for its result.
const QUEUE: usize = 16;

/// A handle of the reading thread. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    queue: mpsc::Sender<Message>,
    health: FileHealth,
}

enum Message {
    Lookup(Box<dyn FnOnce(&Connection) + Send>),
    Close(oneshot::Sender<()>),
}

impl Reader {
    /// Starts the reading thread. Fails if the system cannot create another thread.
    pub(super) fn start(connection: Connection, health: FileHealth) -> io::Result<Self> {
        let (queue, messages) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("store reader".to_owned())
            .spawn(move || run(connection, messages))?;
        Ok(Self { queue, health })
    }

    /// Runs a lookup, which sees all earlier commits.
    pub(super) async fn read<T, F>(&self, lookup: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.health.ensure_in_place()?;
        let (caller, answer) = oneshot::channel();
        let lookup = Message::Lookup(Box::new(move |connection| {
            send_answer(caller, lookup(connection));
        }));
        self.queue.send(lookup).await.map_err(|_| closed())?;
        let answer = answer.await.unwrap_or_else(|_| Err(closed()));
        answer.inspect_err(|failure| self.health.note(failure))
    }

    /// Finishes the queued lookups and closes the connection, so that the writer's is the last one to close.
    pub(super) async fn close(&self) {
        let (caller, done) = oneshot::channel();
        if self.queue.send(Message::Close(caller)).await.is_ok() && done.await.is_err() {
            warn!("the store's reader ended before it could close");
        }
    }
}

fn run(connection: Connection, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Lookup(lookup) => lookup(&connection),
            Message::Close(caller) => {
                drop(connection);
                send_answer(caller, ());
                return;
            }
        }
    }
}
