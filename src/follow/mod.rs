//! Watches that clients follow, in a stream or a long poll. Each is read once for all its followers.
//!
//! The relay keeps nothing for watches without followers. The first follower reads the watch. After that, one worker
//! reads changed watches in batches and sends each to all its followers. The [`FollowRegistry`] records which watches
//! changed. The API notifies it of a watch, the tracker of jobs, and another relay of a change without details. Every
//! second the worker also checks all followed watches, because nothing notifies it of some changes, such as attempts.

mod follower;
mod registry;
mod snapshot;
mod worker;

pub use self::{
    follower::{FollowError, WatchFollower},
    registry::{FollowRegistry, MAX_FOLLOWERS_OF_WATCH},
    snapshot::{SnapshotEvent, WatchSnapshot},
    worker::FollowWorker,
};
