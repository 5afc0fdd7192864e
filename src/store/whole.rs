//! Everything a store can do.

use crate::store::{
    AnswerStore, ClientStore, DeliveryStore, FollowStore, HintStore, OutboxStore, TrackerStore,
    UpkeepStore, WatchStore,
};

/// Everything a store can do.
pub trait Store:
    ClientStore
    + WatchStore
    + FollowStore
    + DeliveryStore
    + AnswerStore
    + HintStore
    + TrackerStore
    + OutboxStore
    + UpkeepStore
{
}

impl<S> Store for S where
    S: ClientStore
        + WatchStore
        + FollowStore
        + DeliveryStore
        + AnswerStore
        + HintStore
        + TrackerStore
        + OutboxStore
        + UpkeepStore
{
}
