//! Keeps idle connections for later requests, for a limited time and up to a limited number.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

use super::CallbackConnection;
use crate::delivery::dialer::Destination;

/// How long an unused connection is kept.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// The interval at which closed connections and connections that were kept too long are removed.
const SWEEP: Duration = Duration::from_secs(5);

/// A pool of idle connections. Clones share the connections.
#[derive(Clone)]
pub(super) struct IdlePool {
    resting: Arc<Mutex<Resting>>,
    /// The maximum number of connections in all, equal to the maximum number of concurrent requests. With fewer, each
    /// wave of deliveries would open connections again.
    most: usize,
    most_per_place: usize,
}

#[derive(Default)]
struct Resting {
    /// The idle connections, the longest idle one first.
    connections: VecDeque<Rest>,
    swept: bool,
}

struct Rest {
    to: Destination,
    connection: CallbackConnection,
    since: Instant,
}

impl Rest {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= KEPT_FOR || !self.connection.is_usable()
    }
}

impl IdlePool {
    pub(super) fn new(most: usize, most_per_place: usize) -> Self {
        Self {
            resting: Arc::default(),
            most,
            most_per_place,
        }
    }

    /// Takes the most recently used connection to this destination at one of the vetted addresses.
    pub(super) fn take(&self, to: &Destination, vetted: &[IpAddr]) -> Option<CallbackConnection> {
        let mut resting = lock(&self.resting);
        let connections = &mut resting.connections;
        loop {
            let found = connections
                .iter()
                .rposition(|rest| rest.to == *to && vetted.contains(&rest.connection.address))?;
            let rest = connections.remove(found)?;
            if rest.is_over() {
                continue;
            }
            if let Some(shared) = rest.connection.shared() {
                connections.push_back(Rest {
                    since: Instant::now(),
                    ..rest
                });
                return Some(shared);
            }
            return Some(rest.connection);
        }
    }

    /// Keeps a connection. A connection that requests share is kept only once.
    pub(super) fn put(&self, to: Destination, connection: CallbackConnection) {
        let mut resting = lock(&self.resting);
        let connections = &mut resting.connections;
        if connection.is_shared() {
            connections.retain(|rest| !rest.connection.is_same_as(&connection));
        }
        let alike = connections.iter().filter(|rest| rest.to == to).count();
        if alike >= self.most_per_place
            && let Some(first) = connections.iter().position(|rest| rest.to == to)
        {
            connections.remove(first);
        }
        if connections.len() >= self.most {
            connections.pop_front();
        }
        connections.push_back(Rest {
            to,
            connection,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut resting.swept, true) {
            TokioExecutor::new().execute(sweep(Arc::downgrade(&self.resting)));
        }
    }
}

/// Closes connections that were kept too long. Ends once the pool is empty.
async fn sweep(resting: Weak<Mutex<Resting>>) {
    loop {
        sleep(SWEEP).await;
        let Some(resting) = resting.upgrade() else {
            return;
        };
        let mut resting = lock(&resting);
        resting.connections.retain(|rest| !rest.is_over());
        if resting.connections.is_empty() {
            resting.swept = false;
            return;
        }
    }
}

fn lock(resting: &Mutex<Resting>) -> MutexGuard<'_, Resting> {
    resting.lock()
}
