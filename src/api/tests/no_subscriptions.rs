//! The test store has no subscriptions.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{BasiqId, ClientId, Requester, Subscription, SubscriptionId};
use relay_store::{
    Claim, DiscoveryStore, DueList, JobListResult, NewSubscription, RecordedLists, StoreError,
    SubscriptionDetails, SubscriptionQuery, SubscriptionResult, SubscriptionStore,
};

use super::list_store::ListStore;

#[async_trait]
impl SubscriptionStore for ListStore {
    async fn subscribe(&self, _: NewSubscription) -> Result<SubscriptionResult, StoreError> {
        Ok(SubscriptionResult::AtCap)
    }

    async fn find_subscription(
        &self,
        _: Option<ClientId>,
        _: SubscriptionId,
    ) -> Result<Option<SubscriptionDetails>, StoreError> {
        Ok(None)
    }

    async fn list_subscriptions(
        &self,
        _: &SubscriptionQuery,
    ) -> Result<Vec<SubscriptionDetails>, StoreError> {
        Ok(Vec::new())
    }

    async fn subscriptions_to(&self, _: &BasiqId) -> Result<Vec<Subscription>, StoreError> {
        Ok(Vec::new())
    }

    async fn end_subscription(
        &self,
        _: &Requester,
        _: SubscriptionId,
        _: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[async_trait]
impl DiscoveryStore for ListStore {
    async fn claim_due_lists(&self, _: Claim) -> Result<Vec<DueList>, StoreError> {
        Ok(Vec::new())
    }

    async fn record_lists(&self, _: Vec<JobListResult>) -> Result<RecordedLists, StoreError> {
        Ok(RecordedLists::default())
    }

    async fn next_list_due(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
}
