//! Authenticates operators by their tokens.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::{HeaderMap, request::Parts};
use relay_domain::{Actor, ApiKey, ApiKeyHash, OperatorName};
use relay_runtime::Reloadable;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tracing::Span;

use crate::{
    config::ServerConfig,
    web::{auth::bearer, peer::PeerAddress, problem::Problem},
};

/// The operators and the hashes of their tokens. All clones share them.
#[derive(Clone)]
pub struct OperatorTokens(Reloadable<Arc<[KnownOperator]>>);

/// An operator, and the hash of its token.
#[derive(PartialEq, Eq)]
struct KnownOperator {
    name: OperatorName,
    token: ApiKeyHash,
}

impl OperatorTokens {
    /// Takes the operators from the settings.
    #[must_use]
    pub fn new(settings: &ServerConfig) -> Self {
        Self(Reloadable::new(known(settings)))
    }

    /// Replaces the operators by those of other settings. Returns whether any has changed.
    #[must_use]
    pub fn replace(&self, settings: &ServerConfig) -> bool {
        self.0.replace(known(settings))
    }

    /// Returns whether there is an operator. Without one, nobody is admitted.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.0.get().is_empty()
    }

    /// Returns the operator with this token. The token is compared with all tokens, each in constant time, so that the
    /// time reveals nothing about any of them.
    #[must_use]
    pub fn find(&self, presented: &ApiKey) -> Option<OperatorName> {
        let presented = presented.hash();
        let operators = self.0.get();
        let matching = operators
            .iter()
            .map(|operator| (operator.token == presented).then_some(&operator.name));
        matching.fold(None, Option::or).cloned()
    }

    /// Derives a key of this operator for one purpose. Only a holder of the token can derive it, and it changes with
    /// the token. Returns `None` if there is no such operator.
    #[must_use]
    pub fn derive(&self, operator: &str, purpose: &str) -> Option<[u8; 32]> {
        let operators = self.0.get();
        let operator = operators.iter().find(|one| one.name.as_str() == operator)?;
        let derived = Sha256::new()
            .chain_update(purpose.as_bytes())
            .chain_update([0])
            .chain_update(operator.token.as_bytes());
        Some(derived.finalize().into())
    }

    /// Admits an operator. Returns 404 if there is none in the settings, because the admin calls do not exist then.
    pub fn admit(&self, headers: &HeaderMap) -> Result<OperatorName, Problem> {
        if !self.is_set() {
            return Err(Problem::not_found("There is no such page or call."));
        }
        bearer(headers)
            .and_then(|token| self.find(&token))
            .ok_or_else(Problem::unauthorized)
    }
}

fn known(settings: &ServerConfig) -> Arc<[KnownOperator]> {
    let of = |name: OperatorName, token: &SecretString| KnownOperator {
        name,
        token: ApiKey::presented(token.expose_secret()).hash(),
    };
    let admin = settings.admin_token.iter();
    let admin = admin.map(|token| of(OperatorName::admin(), token));
    let named = settings.operators.iter();
    let named = named.map(|one| of(one.name.clone(), &one.token));
    admin.chain(named).collect()
}

/// An operator who sent the request, authenticated by its token.
#[derive(Debug)]
pub struct Operator(pub Actor);

impl<S> FromRequestParts<S> for Operator
where
    S: Send + Sync,
    OperatorTokens: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let operator = OperatorTokens::from_ref(state).admit(&parts.headers)?;
        Span::current().record("operator.name", operator.as_str());
        Ok(Self(Actor {
            operator,
            from: PeerAddress::of(&parts.extensions),
        }))
    }
}

/// Tests that the relay tells operators apart, and that a wrong token opens nothing.
#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;
    use crate::{
        config::{OperatorToken, Settings},
        web::ProblemCode,
    };

    fn with(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    fn settings(admin: Option<&str>, named: &[(&str, &str)]) -> ServerConfig {
        let named = named.iter().map(|(name, token)| OperatorToken {
            line: 1,
            name: name.parse().unwrap(),
            token: (*token).into(),
        });
        ServerConfig {
            admin_token: admin.map(SecretString::from),
            operators: named.collect(),
            ..Settings::default().server
        }
    }

    #[test]
    fn an_operator_is_let_in_by_its_token_and_nobody_without_one() {
        let guarded = OperatorTokens::new(&settings(Some("open sesame"), &[("alice", "a cave")]));
        for (token, name) in [("Bearer open sesame", "admin"), ("Bearer a cave", "alice")] {
            assert_eq!(guarded.admit(&with(token)).unwrap().as_str(), name);
        }
        for headers in [
            with("Bearer open"),
            with("Basic open sesame"),
            with("Bearer alice:a cave"),
            HeaderMap::new(),
        ] {
            let problem = guarded.admit(&headers).unwrap_err();
            assert_eq!(problem.code(), ProblemCode::Unauthorized);
        }
        let off = OperatorTokens::new(&settings(None, &[]));
        let refused = off.admit(&with("Bearer open sesame"));
        assert_eq!(refused.unwrap_err().code(), ProblemCode::NotFound);
        assert!(!off.is_set() && off.find(&ApiKey::presented("")).is_none());
        assert!(off.derive("admin", "").is_none());
    }

    #[test]
    fn a_key_is_derived_from_one_operators_token_for_one_purpose() {
        let before = OperatorTokens::new(&settings(Some("open sesame"), &[("alice", "a cave")]));
        let derive = |name, purpose| before.derive(name, purpose);
        let admins = derive("admin", "a purpose");
        assert!(admins.is_some() && derive("bob", "a purpose").is_none());
        assert_ne!(admins, derive("admin", "another purpose"));
        assert_ne!(admins, derive("alice", "a purpose"));
        let alices = derive("alice", "a purpose");
        let shared = before.clone();
        assert!(shared.replace(&settings(None, &[("alice", "a cave")])));
        assert!(!shared.replace(&settings(None, &[("alice", "a cave")])));
        assert_eq!(before.derive("alice", "a purpose"), alices);
        assert!(before.derive("admin", "a purpose").is_none());
        assert!(shared.replace(&settings(None, &[("alice", "another cave")])));
        assert_ne!(before.derive("alice", "a purpose"), alices);
    }
}
