//! Authenticates callers: a client by its API key, the operator by the admin token.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::{HeaderMap, header, request::Parts};
use relay_domain::{ApiKey, ApiKeyHash, Client, WatchId};
use relay_runtime::Reloadable;
use relay_store::Store;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
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
    /// client is revoked, or `is_let_in` refuses. The call counts against the owner's rate limit.
    pub async fn admit_owner(
        &self,
        watch: WatchId,
        is_let_in: impl FnOnce(&Client) -> bool,
    ) -> Result<Option<Client>, Problem> {
        let owner = self.store.find_owner(watch).await?;
        let owner = owner.filter(is_let_in);
        if let Some(owner) = &owner {
            self.limits.check(owner.id)?;
        }
        Ok(owner)
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

/// The hash of the operator's token, if one is set. All clones share it. The comparison takes constant time.
#[derive(Clone)]
pub struct AdminToken(Reloadable<Option<ApiKeyHash>>);

impl AdminToken {
    /// Creates the token from the settings.
    #[must_use]
    pub fn new(token: Option<&SecretString>) -> Self {
        Self(Reloadable::new(hash(token)))
    }

    /// Replaces or removes the token. Returns whether the token changed.
    #[must_use]
    pub fn replace(&self, token: Option<&SecretString>) -> bool {
        self.0.replace(hash(token))
    }

    /// Returns whether a token is set. Without one, nobody is admitted.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// Returns whether `presented` is the token.
    #[must_use]
    pub fn is(&self, presented: &ApiKey) -> bool {
        self.0.get() == Some(presented.hash())
    }

    /// Derives a key for one purpose. Only a holder of the token can derive it, and it changes with the token.
    /// Returns `None` if no token is set.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Option<[u8; 32]> {
        let hash = self.0.get()?;
        let derived = Sha256::new()
            .chain_update(purpose.as_bytes())
            .chain_update([0])
            .chain_update(hash.as_bytes());
        Some(derived.finalize().into())
    }

    /// Admits the operator. Returns 404 if the settings have no token, because the admin calls do not exist then.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let expected = self
            .0
            .get()
            .ok_or_else(|| Problem::not_found("There is no such page or call."))?;
        match bearer(headers) {
            Some(token) if token.hash() == expected => Ok(()),
            Some(_) | None => Err(Problem::unauthorized()),
        }
    }
}

fn hash(token: Option<&SecretString>) -> Option<ApiKeyHash> {
    token.map(|token| ApiKey::presented(token.expose_secret()).hash())
}

/// The operator, authenticated by the admin token.
#[derive(Debug)]
pub struct Operator;

impl<S> FromRequestParts<S> for Operator
where
    S: Send + Sync,
    AdminToken: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        AdminToken::from_ref(state).admit(&parts.headers)?;
        Ok(Self)
    }
}

fn bearer(headers: &HeaderMap) -> Option<ApiKey> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| ApiKey::presented(token))
}

/// Tests that a missing, a wrong and a revoked key get the same response.
#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::web::ProblemCode;

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

    #[test]
    fn the_operator_is_let_in_by_the_token_and_nobody_without_one() {
        let guarded = AdminToken::new(Some(&SecretString::from("open sesame")));
        assert!(guarded.admit(&with("Bearer open sesame")).is_ok());
        for headers in [
            with("Bearer open"),
            with("Basic open sesame"),
            HeaderMap::new(),
        ] {
            let problem = guarded.admit(&headers).unwrap_err();
            assert_eq!(problem.code(), ProblemCode::Unauthorized);
        }
        assert!(guarded.is(&ApiKey::presented("open sesame")));
        let derived = guarded.derive("a purpose");
        assert_ne!(derived, guarded.derive("another purpose"));
        assert!(guarded.replace(Some(&SecretString::from("another"))));
        assert!(guarded.is_set() && guarded.derive("a purpose") != derived);
        assert!(guarded.admit(&with("Bearer open sesame")).is_err());
        assert!(guarded.clone().admit(&with("Bearer another")).is_ok());
        let off = AdminToken::new(None);
        let refused = off.admit(&with("Bearer open sesame"));
        assert_eq!(refused.unwrap_err().code(), ProblemCode::NotFound);
        assert!(!off.is_set() && !off.is(&ApiKey::presented("")) && off.derive("").is_none());
    }
}
