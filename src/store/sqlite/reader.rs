//! A thread with a connection of its own that only reads, for the short lookups that every request and every look
//! makes: each is done whole there, without a step to another thread for each statement.

use std::{io, thread};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::store::{
    StoreError,
    common::closed,
    sqlite::{file_health::FileHealth, tell},
};

/// The most lookups that wait; each of the few tasks that look waits for its answer.
const QUEUE: usize = 16;

/// The way to the reading thread; dropping the last clone ends it.
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
    /// Starts the reading thread. Fails if there can be no thread more.
    pub(super) fn start(connection: Connection, health: FileHealth) -> io::Result<Self> {
        let (queue, messages) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("store reader".to_owned())
            .spawn(move || run(connection, messages))?;
        Ok(Self { queue, health })
    }

    /// What a lookup finds in all that was committed before.
    pub(super) async fn read<T, F>(&self, lookup: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.health.is_in_place()?;
        let (caller, answer) = oneshot::channel();
        let lookup = Message::Lookup(Box::new(move |connection| {
            tell(caller, lookup(connection));
        }));
        self.queue.send(lookup).await.map_err(|_| closed())?;
        let answer = answer.await.unwrap_or_else(|_| Err(closed()));
        answer.inspect_err(|failure| self.health.note(failure))
    }

    /// Finishes what waits and closes the connection, so that the writer's is the last one to close.
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
                tell(caller, ());
                return;
            }
        }
    }
}
