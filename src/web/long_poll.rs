//! Calls that wait on purpose. Such a call has a longer time limit, and does not count as a request that is
//! handled.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::extract::FromRequestParts;
use http::request::Parts;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

/// The slot of a request among the limited number in progress. A long poll frees it before it waits. All clones share one state.
#[derive(Debug, Clone, Default)]
pub struct LongPoll(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    is_taken: AtomicBool,
}

impl LongPoll {
    /// Creates the state for a call. `place` is `None` if the call holds no permit.
    pub(super) fn with_permit(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Inner {
            permit: Mutex::new(permit),
            is_taken: AtomicBool::new(false),
        }))
    }

    /// Marks the call as waiting and frees its permit. The call may then take a minute longer than the time limit.
    pub fn take(&self) {
        self.0.is_taken.store(true, Ordering::Relaxed);
        self.release_permit();
    }

    /// Returns whether the call waits on purpose.
    pub(super) fn is_taken(&self) -> bool {
        self.0.is_taken.load(Ordering::Relaxed)
    }

    /// Frees the permit for another call.
    pub(super) fn release_permit(&self) {
        let mut permit = self.0.permit.lock();
        drop(permit.take());
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LongPoll {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
