//! Leave to wait: a call that waits on purpose is not held to the time limit, nor counted among those that
//! are worked on.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

/// A call's place among those that are worked on, which it may leave to wait. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct LongPoll(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    place: Mutex<Option<OwnedSemaphorePermit>>,
    is_taken: AtomicBool,
}

impl LongPoll {
    /// Leave from this place; there is none where a call is not counted.
    pub(super) fn from_place(place: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Inner {
            place: Mutex::new(place),
            is_taken: AtomicBool::new(false),
        }))
    }

    /// The call waits from now on, for a minute at most.
    pub fn take(&self) {
        self.0.is_taken.store(true, Ordering::Relaxed);
        self.release_permit();
    }

    /// Whether the call waits.
    pub(super) fn is_taken(&self) -> bool {
        self.0.is_taken.load(Ordering::Relaxed)
    }

    /// Another call may have its place.
    pub(super) fn release_permit(&self) {
        let mut place = self.0.place.lock().unwrap_or_else(PoisonError::into_inner);
        drop(place.take());
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LongPoll {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
