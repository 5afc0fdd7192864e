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
    idle: Arc<Mutex<IdleConnections>>,
    /// The maximum number of connections in all, equal to the maximum number of concurrent requests. With fewer, each
    /// wave of deliveries would open connections again.
    max: usize,
    max_per_destination: usize,
}

#[derive(Default)]
struct IdleConnections {
    /// The idle connections, the longest idle one first.
    connections: VecDeque<IdleConnection>,
    swept: bool,
}

struct IdleConnection {
    to: Destination,
    connection: CallbackConnection,
    since: Instant,
}

impl IdleConnection {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= KEPT_FOR || !self.connection.is_usable()
    }
}

impl IdlePool {
    pub(super) fn new(max: usize, max_per_destination: usize) -> Self {
        Self {
            idle: Arc::default(),
            max,
            max_per_destination,
        }
    }

    /// Takes the most recently used connection to this destination at one of the vetted addresses.
    pub(super) fn take(&self, to: &Destination, vetted: &[IpAddr]) -> Option<CallbackConnection> {
        let mut idle = lock(&self.idle);
        let connections = &mut idle.connections;
        loop {
            let found = connections
                .iter()
                .rposition(|one| one.to == *to && vetted.contains(&one.connection.address))?;
            let one = connections.remove(found)?;
            if one.is_over() {
                continue;
            }
            if let Some(shared) = one.connection.shared() {
                connections.push_back(IdleConnection {
                    since: Instant::now(),
                    ..one
                });
                return Some(shared);
            }
            return Some(one.connection);
        }
    }

    /// Keeps a connection. A connection that requests share is kept only once.
    pub(super) fn put(&self, to: Destination, connection: CallbackConnection) {
        let mut idle = lock(&self.idle);
        let connections = &mut idle.connections;
        if connection.is_shared() {
            connections.retain(|one| !one.connection.is_same_as(&connection));
        }
        let alike = connections.iter().filter(|one| one.to == to).count();
        if alike >= self.max_per_destination
            && let Some(first) = connections.iter().position(|one| one.to == to)
        {
            connections.remove(first);
        }
        if connections.len() >= self.max {
            connections.pop_front();
        }
        connections.push_back(IdleConnection {
            to,
            connection,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut idle.swept, true) {
            TokioExecutor::new().execute(sweep(Arc::downgrade(&self.idle)));
        }
    }
}

/// Closes connections that were kept too long. Ends once the pool is empty.
async fn sweep(idle: Weak<Mutex<IdleConnections>>) {
    loop {
        sleep(SWEEP).await;
        let Some(idle) = idle.upgrade() else {
            return;
        };
        let mut idle = lock(&idle);
        idle.connections.retain(|one| !one.is_over());
        if idle.connections.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

fn lock(idle: &Mutex<IdleConnections>) -> MutexGuard<'_, IdleConnections> {
    idle.lock()
}
