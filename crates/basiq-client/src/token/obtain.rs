//! Obtains a token from another relay on the same store, or from Basiq.

use std::time::Duration;

use http::HeaderValue;
use relay_domain::ErrorChain;
use tokio::time::Instant;
use tracing::debug;

use crate::{
    BasiqError,
    coordinator::{CoordinationError, SharedToken, UpstreamCoordinator},
    throttle::Throttle,
    token::{AccessToken, TokenCache},
};

/// How long to wait for a token that another relay is requesting.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(5);
const SEARCH_AGAIN: Duration = Duration::from_millis(100);

impl AccessToken {
    pub(super) fn of(found: SharedToken, number: u64) -> Self {
        Self {
            header: found.header,
            number,
            renew_at: found.renew_at,
            expires_at: found.expires_at,
        }
    }

    fn to_shared(&self) -> SharedToken {
        SharedToken {
            header: self.header.clone(),
            renew_at: self.renew_at,
            expires_at: self.expires_at,
        }
    }
}

/// The result of a search for a token that another relay shares.
enum TokenSearch {
    /// Another relay's token, which this relay can use.
    Token(SharedToken),
    /// There is no token, and this relay holds the claim to request one.
    Claimed,
    /// Another relay is requesting a token now.
    BeingFetched,
}

impl TokenCache {
    /// Returns a token that another relay shared, or requests one from Basiq for all relays. While another
    /// relay requests one, this relay waits for its result, at most [`PATIENCE_WITH_OTHERS`].
    pub(super) async fn obtain(
        &self,
        throttle: &Throttle,
        number: u64,
        refused: Option<&HeaderValue>,
    ) -> Result<AccessToken, BasiqError> {
        let Some(coordinator) = &self.coordinator else {
            return self.fetch(throttle, number).await;
        };
        let key = self.request.key.get();
        let began = Instant::now();
        while began.elapsed() < PATIENCE_WITH_OTHERS {
            match self.find_or_claim(&**coordinator, &key, refused).await {
                Ok(TokenSearch::Token(found)) => return Ok(AccessToken::of(found, number)),
                Ok(TokenSearch::Claimed) => {
                    let fetched = self.fetch(throttle, number).await;
                    let token = fetched.as_ref().ok().map(AccessToken::to_shared);
                    let shared = coordinator.end_token_claim(&key, token).await;
                    // The claim expires by itself.
                    shared.unwrap_or_else(
                        |error| debug!(error = %ErrorChain(&*error), "the token cannot be shared"),
                    );
                    return fetched;
                }
                Ok(TokenSearch::BeingFetched) => tokio::time::sleep(SEARCH_AGAIN).await,
                Err(error) => {
                    debug!(error = %ErrorChain(&*error), "other relays cannot be asked for their token");
                    break;
                }
            }
        }
        self.fetch(throttle, number).await
    }

    async fn find_or_claim(
        &self,
        coordinator: &dyn UpstreamCoordinator,
        key: &HeaderValue,
        refused: Option<&HeaderValue>,
    ) -> Result<TokenSearch, CoordinationError> {
        let usable = |token: &SharedToken| Some(&token.header) != refused;
        if let Some(token) = coordinator.find_token(key).await?.filter(usable) {
            return Ok(TokenSearch::Token(token));
        }
        if !coordinator.claim_token(key).await? {
            return Ok(TokenSearch::BeingFetched);
        }
        // Another relay may have shared a token between the first check and the claim.
        if let Some(token) = coordinator.find_token(key).await?.filter(usable) {
            coordinator
                .end_token_claim(key, Some(token.clone()))
                .await?;
            return Ok(TokenSearch::Token(token));
        }
        Ok(TokenSearch::Claimed)
    }
}
