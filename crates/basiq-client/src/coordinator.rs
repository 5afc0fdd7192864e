//! The state towards Basiq that all relays of one store share: the budget, its pauses and the token.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::HeaderValue;
use jiff::Timestamp;
use relay_domain::{Fleet, ReservedCalls};

/// Why the shared state cannot be reached.
pub type CoordinationError = Box<dyn Error + Send + Sync>;

/// How a client of Basiq works beside other relays.
#[derive(Clone)]
pub struct FleetCoordination {
    /// The state that all relays share. None if this relay is alone on its store.
    pub coordinator: Option<Arc<dyn UpstreamCoordinator>>,
    /// The part of the divided limits that this relay may use.
    pub fleet: Fleet,
}

impl FleetCoordination {
    /// Makes the coordination of a relay that is alone.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            coordinator: None,
            fleet: Fleet::alone(),
        }
    }
}

impl fmt::Debug for FleetCoordination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FleetCoordination({:?})", self.fleet)
    }
}

/// The shared state towards Basiq. All times are times of the clock that the client was given.
#[async_trait]
pub trait UpstreamCoordinator: Send + Sync {
    /// Reserves up to `most` slots that no other relay has. The slots are `period` apart, and all lie within
    /// `horizon` from now.
    async fn reserve_calls(
        &self,
        most: usize,
        period: Duration,
        horizon: Duration,
    ) -> Result<ReservedCalls, CoordinationError>;

    /// Publishes a pause that Basiq asked for to the other relays, and returns the number of the pause.
    async fn pause(&self, status: u16, length: Duration) -> Result<i64, CoordinationError>;

    /// Returns the token that was issued for this API key. Returns `None` if there is no token, or if the token
    /// is due for renewal.
    async fn find_token(&self, key: &HeaderValue)
    -> Result<Option<SharedToken>, CoordinationError>;

    /// Claims the right to request a token. Returns false if another relay holds the claim.
    async fn claim_token(&self, key: &HeaderValue) -> Result<bool, CoordinationError>;

    /// Shares a token with the other relays, or records that there is none, and ends the claim.
    async fn end_token_claim(
        &self,
        key: &HeaderValue,
        token: Option<SharedToken>,
    ) -> Result<(), CoordinationError>;
}

/// An access token that relays share.
#[derive(Clone)]
pub struct SharedToken {
    /// `Bearer …`, marked as sensitive.
    pub header: HeaderValue,
    /// When to request a new token.
    pub renew_at: Timestamp,
    /// When the token expires.
    pub expires_at: Timestamp,
}
