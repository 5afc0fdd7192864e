//! One trait for all operations of a store.

use crate::{
    ActivityStore, AlertStore, AnswerStore, AuditStore, ClientStore, ConsoleStore, DeliveryStore,
    DiscoveryStore, ErasureStore, FollowStore, HintStore, HostPauseStore, OutboxStore,
    SubscriptionStore, TrackerStore, UpkeepStore, WatchStore,
};

/// All operations of a store.
pub trait Store:
    ClientStore
    + WatchStore
    + FollowStore
    + DeliveryStore
    + SubscriptionStore
    + DiscoveryStore
    + AnswerStore
    + HintStore
    + TrackerStore
    + OutboxStore
    + UpkeepStore
    + ConsoleStore
    + HostPauseStore
    + ErasureStore
    + AuditStore
    + ActivityStore
    + AlertStore
{
}

impl<S> Store for S where
    S: ClientStore
        + WatchStore
        + FollowStore
        + DeliveryStore
        + SubscriptionStore
        + DiscoveryStore
        + AnswerStore
        + HintStore
        + TrackerStore
        + OutboxStore
        + UpkeepStore
        + ConsoleStore
        + HostPauseStore
        + ErasureStore
        + AuditStore
        + ActivityStore
        + AlertStore
{
}
