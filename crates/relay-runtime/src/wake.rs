//! Wakes a worker that waits.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes a waiting worker. A wake-up that comes while nobody waits is kept for the next wait.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Makes a `Wake` without a pending wake-up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the worker, now or as soon as it waits.
    pub fn notify(&self) {
        self.0.notify_one();
    }

    /// Waits for a wake-up.
    pub async fn notified(&self) {
        self.0.notified().await;
    }
}
