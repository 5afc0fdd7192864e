//! The test store has nothing for the operator's pages.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{Actor, DeliveryId, SubscriptionId};
use relay_store::{
    AlertStore, ConsoleStore, ErasureCounts, ErasureStore, ErasureSubject, EventDetails,
    FailingHost, HostPause, HostPauseStore, ManualPause, StoreError, ToldAlert, WatchDetails,
    WatchSearch,
};

use super::list_store::ListStore;

#[async_trait]
impl ConsoleStore for ListStore {
    async fn search_watches(&self, _: &WatchSearch) -> Result<Vec<WatchDetails>, StoreError> {
        Ok(Vec::new())
    }

    async fn search_by_prefix(&self, _: &str, _: usize) -> Result<Vec<WatchDetails>, StoreError> {
        Ok(Vec::new())
    }

    async fn filter_redeliverable(&self, _: &[DeliveryId]) -> Result<Vec<DeliveryId>, StoreError> {
        Ok(Vec::new())
    }

    async fn redeliver_chosen(
        &self,
        _: &Actor,
        _: &[DeliveryId],
        _: &str,
        _: Timestamp,
    ) -> Result<u64, StoreError> {
        Ok(0)
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
impl HostPauseStore for ListStore {
    async fn pause_host(&self, _: &Actor, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn resume_host(&self, _: &Actor, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn list_manual_pauses(&self, _: usize) -> Result<Vec<ManualPause>, StoreError> {
        Ok(Vec::new())
    }

    async fn pauses_of(&self, _: &[&str], _: Timestamp) -> Result<Vec<HostPause>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl AlertStore for ListStore {
    async fn remember_alert(&self, _: &ToldAlert) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forget_alert(&self, _: &ToldAlert) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list_told_alerts(&self) -> Result<Vec<ToldAlert>, StoreError> {
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
