//! Access tokens: issue, check, expire.

use std::{collections::VecDeque, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use relay_domain::clock::later;
use serde_json::json;

use crate::{bounded_map::BoundedMap, error::ApiError};

/// How long a token is valid. The caller measures this time with its own clock, so the sandbox's speed does not
/// shorten it.
pub(super) const LIFETIME: Duration = Duration::from_hours(1);
/// Basiq's limit of token requests in one [`PERIOD`].
const MOST_REQUESTS: usize = 1500;
/// The period of Basiq's limit of token requests.
const PERIOD: Duration = Duration::from_mins(5);
/// The maximum number of tokens that are kept.
const REMEMBERED: usize = 10_000;

/// The permissions of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenScope {
    /// Everything except answers to challenges.
    Server,
    /// The calls of one user: answering a challenge.
    Client {
        /// The user's id.
        user_id: String,
    },
}

#[derive(Debug)]
struct Token {
    scope: TokenScope,
    expires: Timestamp,
}

/// The issued tokens.
#[derive(Debug)]
pub(super) struct IssuedTokens {
    tokens: BoundedMap<Token>,
    issued: VecDeque<Timestamp>,
}

impl Default for IssuedTokens {
    fn default() -> Self {
        Self {
            tokens: BoundedMap::at_most(REMEMBERED),
            issued: VecDeque::new(),
        }
    }
}

impl IssuedTokens {
    /// Issues a token. Fails if too many were issued within the limit's period.
    pub(super) fn issue(&mut self, scope: TokenScope, now: Timestamp) -> Result<String, ApiError> {
        while self
            .issued
            .front()
            .is_some_and(|&at| later(at, PERIOD) <= now)
        {
            self.issued.pop_front();
        }
        if self.issued.len() >= MOST_REQUESTS {
            return Err(ApiError::too_many_tokens());
        }
        self.issued.push_back(now);
        let expires = later(now, LIFETIME);
        let text = write(&scope, now, expires);
        self.tokens.keep(text.clone(), Token { scope, expires });
        Ok(text)
    }

    /// Returns the scope of a token. Fails if the token is unknown or expired.
    pub(super) fn check(&self, text: &str, now: Timestamp) -> Result<TokenScope, ApiError> {
        let token = self.tokens.get(text).ok_or_else(ApiError::unknown_token)?;
        if token.expires <= now {
            return Err(ApiError::expired_token());
        }
        Ok(token.scope.clone())
    }

    /// Expires every token.
    pub(super) fn expire_all(&mut self) {
        for token in self.tokens.values_mut() {
            token.expires = Timestamp::MIN;
        }
    }
}

/// Writes a token in the form of a JWT, because front ends read `exp` and `userId` from it. Random bytes stand in for
/// the signature.
fn write(scope: &TokenScope, now: Timestamp, expires: Timestamp) -> String {
    let (word, user_id) = match scope {
        TokenScope::Server => ("SERVER_ACCESS", None),
        TokenScope::Client { user_id } => ("CLIENT_ACCESS", Some(user_id)),
    };
    let mut claims = json!({
        "scope": word,
        "iat": now.as_second(),
        "exp": expires.as_second(),
    });
    if let (Some(claims), Some(user_id)) = (claims.as_object_mut(), user_id) {
        claims.insert("userId".to_owned(), json!(user_id));
    }
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let encoded = |part: String| URL_SAFE_NO_PAD.encode(part);
    format!(
        "{}.{}.{}",
        encoded(header.to_string()),
        encoded(claims.to_string()),
        URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_until_its_time_is_over() {
        let (mut tokens, now) = (IssuedTokens::default(), Timestamp::UNIX_EPOCH);
        let text = tokens.issue(TokenScope::Server, now).unwrap();
        let last = later(now, Duration::from_millis(3_599_999));
        assert_eq!(tokens.check(&text, last), Ok(TokenScope::Server));
        assert_eq!(
            tokens.check(&text, later(now, LIFETIME)),
            Err(ApiError::expired_token())
        );
        assert_eq!(tokens.check("made-up", now), Err(ApiError::unknown_token()));
    }

    #[test]
    fn too_many_tokens_in_five_minutes_are_refused() {
        let (mut tokens, now) = (IssuedTokens::default(), Timestamp::UNIX_EPOCH);
        for _ in 0..1500 {
            tokens.issue(TokenScope::Server, now).unwrap();
        }
        let soon = later(now, Duration::from_secs(299));
        assert!(tokens.issue(TokenScope::Server, soon).is_err());
        assert!(tokens.issue(TokenScope::Server, later(now, PERIOD)).is_ok());
    }
}
