//! A wake-up call for a worker that waits.

use std::sync::Arc;

use tokio::sync::Notify;

/// Rings a waiting worker. A ring while nobody waits is kept for the next wait.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// A new bell.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the worker, now or as soon as it waits.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}
