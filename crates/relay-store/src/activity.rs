//! What the relays did over time, in numbers, for the console.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ActivityRow, ActivityScope};

use crate::StoreError;

/// Counts of what the relays did, by minute, hour and day.
#[async_trait]
pub trait ActivityStore: Send + Sync {
    /// Stores rows. A row replaces an earlier one of the same scope, time and run of a relay, so storing it twice
    /// changes nothing.
    async fn record_activity(&self, rows: Vec<ActivityRow>) -> Result<(), StoreError>;

    /// Returns the rows of a scope that begin at `since` or later, oldest first: one for each run of a relay that
    /// counted something in that time.
    async fn list_activity(
        &self,
        scope: ActivityScope,
        since: Timestamp,
    ) -> Result<Vec<ActivityRow>, StoreError>;

    /// Deletes up to `limit` rows from before `before`, oldest first, and returns how many it deleted.
    async fn purge_activity(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}
