//! Authenticates clients by their API keys.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::{HeaderMap, header, request::Parts};
use relay_domain::{ApiKey, Client, WatchId};
use relay_store::Store;
use tracing::Span;

use crate::web::{limits::ClientLimits, problem::Problem};

/// Authenticates clients and enforces their rate limits.
#[derive(Clone)]
pub struct ClientAuth {
    store: Arc<dyn Store>,
    limits: Arc<ClientLimits>,
}

impl ClientAuth {
    /// Creates the authentication for the clients of a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, limits: ClientLimits) -> Self {
        Self {
            store,
            limits: Arc::new(limits),
        }
    }

    /// Returns the client of the API key in the headers. The lookup uses the key's hash, which a caller cannot
    /// choose. The hash is then compared again in constant time.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<Client, Problem> {
        let key = bearer(headers).ok_or_else(Problem::unauthorized)?;
        let hash = key.hash();
        let client = self.store.find_client_by_key(&hash).await?;
        let client = client
            .filter(|client| client.key_hash == hash && client.revoked_at.is_none())
            .ok_or_else(Problem::unauthorized)?;
        self.limits.check(client.id)?;
        Ok(client)
    }

    /// Returns the owner of a watch if `is_let_in` accepts it. Returns `None` if the watch does not exist, its
    /// client is revoked, or `is_let_in` refuses. The call does not count against the owner's rate limit, because
    /// browsers make it, and all of them may reconnect at once.
    pub async fn find_owner(
        &self,
        watch: WatchId,
        is_let_in: impl FnOnce(&Client) -> bool,
    ) -> Result<Option<Client>, Problem> {
        let owner = self.store.find_owner(watch).await?;
        Ok(owner.filter(is_let_in))
    }
}

/// The client that sent the request. It is within its rate limit.
#[derive(Debug)]
pub struct AuthenticatedClient(pub Client);

impl<S> FromRequestParts<S> for AuthenticatedClient
where
    S: Send + Sync,
    ClientAuth: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let client = ClientAuth::from_ref(state).admit(&parts.headers).await?;
        Span::current().record("client.name", client.name.as_str());
        Ok(Self(client))
    }
}

/// Returns the key or token in the `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<ApiKey> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| ApiKey::presented(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_key_is_read_from_a_bearer_header_only() {
        for (header, expected) in [
            ("Bearer brk_1", Some("brk_1")),
            ("bearer  brk_1 ", Some("brk_1")),
            ("Basic brk_1", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("brk_1", None),
        ] {
            let key = bearer(&with(header));
            assert_eq!(key.as_ref().map(ApiKey::expose), expected, "{header}");
        }
        assert!(bearer(&HeaderMap::new()).is_none());
    }
}
