//! One trait for all operations of a store.

use crate::{
    AnswerStore, ClientStore, ConsoleStore, DeliveryStore, FollowStore, HintStore, OutboxStore,
    TrackerStore, UpkeepStore, WatchStore,
};

/// All operations of a store.
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
