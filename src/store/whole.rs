//! Everything a store can do, as one trait.

use crate::store::{
    AnswerStore, ClientStore, ConsoleStore, DeliveryStore, FollowStore, HintStore, OutboxStore,
    TrackerStore, UpkeepStore, WatchStore,
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
    + ConsoleStore
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
        + ConsoleStore
{
}
