//! Follows a watch, for a stream or a long poll.

use relay_domain::{ClientId, WatchId};

use crate::{
    api::{ApiParts, watch::NO_SUCH_WATCH},
    follow::{FollowError, MAX_FOLLOWERS_OF_WATCH, WatchFollower},
    web::{Problem, ProblemCode},
};

/// Seconds after which a rejected follower may try again.
const RETRY_SECONDS: u64 = 5;

/// Follows a client's watch.
pub(in crate::api) async fn follow(
    parts: &ApiParts,
    owner: ClientId,
    id: WatchId,
) -> Result<WatchFollower, Problem> {
    let followed = parts.follows.follow(&*parts.store, owner, id).await;
    followed.map_err(|error| match error {
        FollowError::NoSuchWatch => Problem::not_found(NO_SUCH_WATCH),
        FollowError::WatchFull => Problem::new(
            ProblemCode::TooManyStreams,
            format!("At most {MAX_FOLLOWERS_OF_WATCH} may follow one watch."),
        )
        .retry_after(RETRY_SECONDS),
        FollowError::RelayFull | FollowError::Closed => Problem::new(
            ProblemCode::Overloaded,
            "No more streams can be held open here now. Ask again shortly.",
        )
        .retry_after(RETRY_SECONDS),
        FollowError::Store(error) => error.into(),
    })
}
