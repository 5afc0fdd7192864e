//! Limits the open connections of a listener. At the limit, a new connection ends the one that has been idle
//! longest. So a client that only holds connections open cannot lock out others.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant, timeout},
};

/// How long to wait for a connection to end before searching for an idle one again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The open connections of a listener. All clones share one state.
#[derive(Debug, Clone)]
pub(super) struct InboundConnections {
    slots: Arc<Semaphore>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    /// The number of connections opened so far. It is the number of the latest connection.
    begun: u64,
    connections: HashMap<u64, State>,
}

#[derive(Debug)]
struct State {
    /// The requests in progress on this connection. A request ends when the last byte of its response is taken.
    requests: usize,
    idle_since: Instant,
    /// Whether this connection has been asked to end.
    ends: bool,
    told: Arc<Notify>,
}

impl InboundConnections {
    /// Creates the state for at most `most` open connections.
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            open: Arc::default(),
        }
    }

    /// Acquires a permit for one more connection. At the limit, asks the longest idle connection to end. Waits
    /// while no connection is idle.
    pub(super) async fn enter(&self) -> Option<OpenConnection> {
        loop {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return Some(self.begin(slot));
            }
            self.end_longest_idle();
            let free = Arc::clone(&self.slots).acquire_owned();
            if let Ok(slot) = timeout(LOOK_AGAIN, free).await {
                return Some(self.begin(slot.ok()?));
            }
        }
    }

    fn begin(&self, slot: OwnedSemaphorePermit) -> OpenConnection {
        let told = Arc::new(Notify::new());
        let mut open = self.open();
        open.begun += 1;
        let number = open.begun;
        let state = State {
            requests: 0,
            idle_since: Instant::now(),
            ends: false,
            told: Arc::clone(&told),
        };
        open.connections.insert(number, state);
        drop(open);
        OpenConnection {
            number,
            of: self.clone(),
            told,
            _slot: slot,
        }
    }

    fn end_longest_idle(&self) {
        let mut open = self.open();
        let idle = open.connections.values_mut();
        let idle = idle.filter(|state| state.requests == 0 && !state.ends);
        if let Some(longest) = idle.min_by_key(|state| state.idle_since) {
            longest.ends = true;
            longest.told.notify_one();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

/// An open connection. Dropping it frees its permit.
#[derive(Debug)]
pub(super) struct OpenConnection {
    number: u64,
    of: InboundConnections,
    told: Arc<Notify>,
    _slot: OwnedSemaphorePermit,
}

impl OpenConnection {
    /// Returns the tracker for the requests of this connection.
    pub(super) fn requests(&self) -> ConnectionActivity {
        ConnectionActivity {
            number: self.number,
            of: self.of.clone(),
        }
    }

    /// Waits until another connection needs this one's permit. If a request has just arrived, it is answered first.
    pub(super) async fn must_end(&self) {
        loop {
            self.told.notified().await;
            let mut open = self.of.open();
            match open.connections.get_mut(&self.number) {
                Some(state) if state.requests > 0 => state.ends = false,
                Some(_) | None => return,
            }
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.of.open().connections.remove(&self.number);
    }
}

/// Tracks the requests of one connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionActivity {
    number: u64,
    of: InboundConnections,
}

impl ConnectionActivity {
    /// Counts a request. The connection is in use until the returned value is dropped.
    pub(super) fn begin(&self) -> ActiveRequest {
        self.change(|state| state.requests += 1);
        ActiveRequest(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.of.open().connections.get_mut(&self.number) {
            change(state);
        }
    }
}

/// A request in progress. Until it is dropped, its connection does not count as idle.
#[derive(Debug)]
pub(super) struct ActiveRequest(ConnectionActivity);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.requests = state.requests.saturating_sub(1);
            state.idle_since = Instant::now();
        });
    }
}

/// A response body. Its connection is in use until the body is dropped.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    _in_use: ActiveRequest,
}

impl TrackedBody {
    pub(super) fn new(body: Body, in_use: ActiveRequest) -> Self {
        Self {
            body,
            _in_use: in_use,
        }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn enter(connections: &InboundConnections) -> OpenConnection {
        let entered = timeout(Duration::from_mins(1), connections.enter()).await;
        entered.unwrap().unwrap()
    }

    fn is_told(connection: &OpenConnection) -> bool {
        connection.of.open().connections[&connection.number].ends
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_longest_makes_room_and_one_in_use_never_does() {
        let connections = InboundConnections::new(3);
        let used = enter(&connections).await;
        let in_use = used.requests().begin();
        tokio::time::advance(Duration::from_secs(1)).await;
        let idle = enter(&connections).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let fresh = enter(&connections).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let (entered, ()) = tokio::join!(enter(&connections), async {
            idle.must_end().await;
            drop(idle);
        });
        assert!(!is_told(&used) && !is_told(&fresh));
        tokio::time::advance(Duration::from_secs(1)).await;
        // the connection is idle once its response is out, but it became idle last
        drop(in_use);
        let (_another, ()) = tokio::join!(enter(&connections), async {
            fresh.must_end().await;
            drop(fresh);
        });
        assert!(!is_told(&used) && !is_told(&entered));
        assert_eq!(connections.open().connections.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn while_all_are_in_use_the_next_one_waits() {
        let connections = InboundConnections::new(1);
        let used = enter(&connections).await;
        let in_use = used.requests().begin();
        let waiting = timeout(Duration::from_secs(5), connections.enter());
        assert!(waiting.await.is_err());
        let (_next, ()) = tokio::join!(enter(&connections), async {
            drop(in_use);
            used.must_end().await;
            drop(used);
        });
    }
}
