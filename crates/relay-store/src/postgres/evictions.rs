//! Evictions of connections. A connection opened before the latest eviction is closed before anybody uses it.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, pool::PoolConnectionMetadata};
use tokio::sync::watch;

/// How long after its last use a connection counts as alive without a ping.
const FRESH: Duration = Duration::from_secs(1);

/// The time-out of a ping.
const PING: Duration = Duration::from_secs(1);

/// When the relay last gave up all its older connections to the database. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Evictions(watch::Sender<Instant>);

impl Default for Evictions {
    fn default() -> Self {
        Self(watch::Sender::new(Instant::now()))
    }
}

impl Evictions {
    /// Evicts all connections that are open now.
    pub(super) fn evict(&self) {
        self.0.send_replace(Instant::now());
    }

    /// Whether a connection of this age was evicted.
    pub(super) fn has_evicted(&self, age: Duration) -> bool {
        let opened = Instant::now().checked_sub(age);
        opened.is_none_or(|opened| opened <= *self.0.borrow())
    }

    /// Returns a receiver that is notified of each eviction, for code that keeps a connection.
    pub(super) fn subscribe(&self) -> watch::Receiver<Instant> {
        self.0.subscribe()
    }

    /// Whether a connection of the pool can be used. An idle connection is pinged first. If it does not answer,
    /// all connections are evicted, because those of the same age will not answer either.
    pub(super) async fn is_usable(
        &self,
        connection: &mut PgConnection,
        meta: PoolConnectionMetadata,
    ) -> bool {
        if self.has_evicted(meta.age) {
            return false;
        }
        self.is_answered(connection, meta.idle_for).await
    }

    /// Whether a connection that was idle for this time is alive. Pings it if it was idle for more than a second,
    /// and evicts all connections if it does not answer.
    pub(super) async fn is_answered(&self, connection: &mut PgConnection, idle: Duration) -> bool {
        if idle <= FRESH {
            return true;
        }
        let answer = tokio::time::timeout(PING, connection.ping()).await;
        let is_alive = matches!(answer, Ok(Ok(())));
        if !is_alive {
            self.evict();
        }
        is_alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_before_are_given_up_and_later_ones_are_not() {
        let evictions = Evictions::default();
        let an_hour = Duration::from_hours(1);
        assert!(evictions.has_evicted(an_hour), "older than the pool");
        assert!(!evictions.has_evicted(Duration::ZERO));
        let opened = Instant::now();
        assert!(!evictions.has_evicted(opened.elapsed()));
        evictions.evict();
        assert!(evictions.has_evicted(opened.elapsed()));
        assert!(!evictions.has_evicted(Duration::ZERO));
    }
}
