//! A thread with a connection of its own that only reads, for the short lookups that every request and every look
//! makes: each is done whole there, without a step to another thread for each statement.

use std::{io, thread};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tracing::trace;

use crate::store::{StoreError, common::closed};

/// The most lookups that wait; each of the few tasks that look waits for its answer.
const QUEUE: usize = 16;

type Lookup = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reading thread; dropping the last clone ends it.
#[derive(Debug, Clone)]
pub(super) struct Reader(mpsc::Sender<Lookup>);

impl Reader {
    /// Starts the reading thread. Fails if there can be no thread more.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (queue, mut lookups) = mpsc::channel::<Lookup>(QUEUE);
        let run = move || {
            while let Some(lookup) = lookups.blocking_recv() {
                lookup(&connection);
            }
        };
        thread::Builder::new()
            .name("store reader".to_owned())
            .spawn(run)?;
        Ok(Self(queue))
    }

    /// What a lookup finds in all that was committed before.
    pub(super) async fn read<T, F>(&self, lookup: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let lookup: Lookup = Box::new(move |connection| {
            if caller.send(lookup(connection)).is_err() {
                trace!("a caller of the store did not wait for its answer");
            }
        });
        self.0.send(lookup).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}
