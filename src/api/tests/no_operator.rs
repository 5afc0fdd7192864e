//! The test store has nothing for the operator's pages.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, SubscriptionId};
use relay_store::{
    ConsoleStore, ErasureCounts, ErasureStore, ErasureSubject, EventDetails, FailingHost,
    StoreError, WatchDetails, WatchSearch,
};

use super::list_store::ListStore;

#[async_trait]
impl ConsoleStore for ListStore {
    async fn search_watches(&self, _: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError> {
        Ok(Vec::new())
    }

    async fn notices_of(
        &self,
        _: SubscriptionId,
        _: usize,
    ) -> Result<Vec<EventDetails>, StoreError> {
        Ok(Vec::new())
    }

    async fn list_failing_hosts(&self, _: usize) -> Result<Vec<FailingHost>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl ErasureStore for ListStore {
    async fn erase(
        &self,
        _: &ErasureSubject,
        _: &Actor,
        _: Timestamp,
    ) -> Result<ErasureCounts, StoreError> {
        Ok(ErasureCounts::default())
    }
}
