//! What relays that share a store have in common towards Basiq: the budget, its pauses, the token.

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use http::HeaderValue;
use jiff::Timestamp;

/// Why what is in common cannot be reached.
pub type CoordinationError = Box<dyn Error + Send + Sync>;

/// What is in common. Times are those of the clock that the client was given.
#[async_trait]
pub trait UpstreamCoordinator: Send + Sync {
    /// Reserves up to `most` turns that nobody else has, so far apart, all within `horizon` from now.
    async fn reserve_calls(
        &self,
        most: usize,
        (period, horizon): (Duration, Duration),
    ) -> Result<Reservation, CoordinationError>;

    /// Tells the others of a pause that Basiq asked for, and returns its number.
    async fn pause(&self, status: u16, length: Duration) -> Result<i64, CoordinationError>;

    /// The token that was got with this API key, if there is one that need not be renewed yet.
    async fn find_token(&self, key: &HeaderValue)
    -> Result<Option<SharedToken>, CoordinationError>;

    /// Takes the right to ask for a token; false if another relay has it.
    async fn claim_token(&self, key: &HeaderValue) -> Result<bool, CoordinationError>;

    /// Hands a token to the others, or says that there is none, and gives the right back.
    async fn end_token_claim(
        &self,
        key: &HeaderValue,
        token: Option<SharedToken>,
    ) -> Result<(), CoordinationError>;
}

/// Reserved turns.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// When each begins, in order; none if all of the time asked for are taken.
    pub at: Vec<Timestamp>,
    /// The latest pause that any relay was asked for: its number, its end and the HTTP status that began
    /// it.
    pub pause: (i64, Timestamp, u16),
}

/// A token that relays share.
#[derive(Clone)]
pub struct SharedToken {
    /// `Bearer …`, marked as sensitive.
    pub header: HeaderValue,
    /// When another is to be asked for.
    pub renew_at: Timestamp,
    /// When it is of no use any more.
    pub expires_at: Timestamp,
}
