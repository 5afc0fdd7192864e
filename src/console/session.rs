//! Sessions: a signed cookie that holds the expiry and the operator, and a token for the forms of the session.
//!
//! Nothing is stored. The signing key is derived from the operator's token, so a session is valid on every relay. All
//! sessions of an operator end when its token changes or goes away.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::{HeaderMap, HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use relay_domain::OperatorName;

use crate::web::OperatorTokens;

const COOKIE: &str = "relay_console";

/// How long a session lasts.
const LASTS: SignedDuration = SignedDuration::from_hours(8);

/// An open session.
pub(super) struct ConsoleSession {
    /// `expiry.nonce.operator`
    id: String,
    operator: OperatorName,
    key: hmac::Key,
}

impl ConsoleSession {
    /// Opens a session. Returns none if the operator has no token.
    pub(super) fn begin(
        tokens: &OperatorTokens,
        operator: OperatorName,
        now: Timestamp,
    ) -> Option<Self> {
        let until = now.checked_add(LASTS).ok()?.as_second();
        let nonce: [u8; 16] = rand::rng().random();
        Some(Self {
            id: format!("{until}.{}.{operator}", BASE64.encode(nonce)),
            key: key(tokens, operator.as_str())?,
            operator,
        })
    }

    /// Returns the session of a request's cookie, if the cookie is valid and has not expired.
    pub(super) fn of(tokens: &OperatorTokens, headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        cookies(headers).find_map(|value| verified(tokens, value, now))
    }

    /// Returns whose session it is.
    pub(super) fn operator(&self) -> &OperatorName {
        &self.operator
    }

    /// Returns the cookie of the session. If `secure` is set, browsers send it over HTTPS only.
    pub(super) fn cookie(&self, secure: bool) -> Option<HeaderValue> {
        let signature = BASE64.encode(self.sign("session"));
        let seconds = LASTS.as_secs();
        let secure = if secure { "; Secure" } else { "" };
        let text = format!(
            "{COOKIE}={}.{signature}; Path=/console; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}",
            self.id
        );
        HeaderValue::from_str(&text).ok()
    }

    /// Returns the token that each form of the session must contain.
    pub(super) fn form_token(&self) -> String {
        BASE64.encode(self.sign("form"))
    }

    /// Whether a form's token belongs to this session.
    pub(super) fn is_of(&self, form_token: &str) -> bool {
        let signature = BASE64.decode(form_token).unwrap_or_default();
        hmac::verify(&self.key, message("form", &self.id).as_bytes(), &signature).is_ok()
    }

    fn sign(&self, purpose: &str) -> hmac::Tag {
        hmac::sign(&self.key, message(purpose, &self.id).as_bytes())
    }
}

/// Returns the cookie that ends a session.
pub(super) fn no_cookie() -> HeaderValue {
    HeaderValue::from_static("relay_console=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict")
}

fn key(tokens: &OperatorTokens, operator: &str) -> Option<hmac::Key> {
    let bytes = tokens.derive(operator, "console session")?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn message(purpose: &str, id: &str) -> String {
    format!("{purpose}:{id}")
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::COOKIE).into_iter();
    let pairs = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// Returns the session in a cookie's value, if its signature is valid and it has not expired.
fn verified(tokens: &OperatorTokens, value: &str, now: Timestamp) -> Option<ConsoleSession> {
    let (id, signature) = value.rsplit_once('.')?;
    let mut parts = id.splitn(3, '.');
    let until: i64 = parts.next()?.parse().ok()?;
    let operator = parts.nth(1)?;
    let key = key(tokens, operator)?;
    let signature = BASE64.decode(signature).ok()?;
    hmac::verify(&key, message("session", id).as_bytes(), &signature).ok()?;
    (until > now.as_second()).then(|| ConsoleSession {
        id: id.to_owned(),
        operator: OperatorName::recorded(operator),
        key,
    })
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::config::{OperatorToken, ServerConfig, Settings};

    fn tokens(admin: Option<&str>, alice: Option<&str>) -> OperatorTokens {
        let alice = alice.map(|token| OperatorToken {
            line: 1,
            name: "alice.b".parse().unwrap(),
            token: token.into(),
        });
        OperatorTokens::new(&ServerConfig {
            admin_token: admin.map(SecretString::from),
            operators: alice.into_iter().collect(),
            ..Settings::default().server
        })
    }

    fn token(text: &str) -> OperatorTokens {
        tokens(Some(text), None)
    }

    fn begin(tokens: &OperatorTokens, name: &str) -> Option<ConsoleSession> {
        ConsoleSession::begin(tokens, OperatorName::recorded(name), at(0))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn presented(cookie: &str) -> HeaderMap {
        let value = format!("other=1; {}", cookie.split(';').next().unwrap());
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&value).unwrap())])
    }

    #[test]
    fn a_session_lasts_eight_hours_and_not_beyond_the_token() {
        let admin = token("open sesame");
        let session = begin(&admin, "admin").unwrap();
        let cookie = session.cookie(false).unwrap();
        let headers = presented(cookie.to_str().unwrap());
        let open =
            |admin: &OperatorTokens, seconds| ConsoleSession::of(admin, &headers, at(seconds));
        assert!(open(&admin, 8 * 3600 - 1).is_some());
        assert!(open(&admin, 8 * 3600).is_none());
        assert!(open(&token("another"), 1).is_none());
        assert!(open(&tokens(None, None), 1).is_none());
    }

    #[test]
    fn what_was_changed_is_no_session() {
        let admin = token("open sesame");
        let cookie = begin(&admin, "admin").unwrap().cookie(true).unwrap();
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"));
        assert!(!cookie.contains("sesame"));
        let longer = cookie.replacen("relay_console=18", "relay_console=19", 1);
        for odd in [
            &longer,
            "relay_console=",
            "relay_console=..",
            "relay_console=x.y.z",
            "a=b",
        ] {
            assert!(
                ConsoleSession::of(&admin, &presented(odd), at(1)).is_none(),
                "{odd}"
            );
        }
    }

    #[test]
    fn a_form_is_of_one_session_only() {
        let admin = token("open sesame");
        let (one, other) = (
            begin(&admin, "admin").unwrap(),
            begin(&admin, "admin").unwrap(),
        );
        assert!(one.is_of(&one.form_token()));
        for odd in ["", "x", &other.form_token()] {
            assert!(!one.is_of(odd), "{odd}");
        }
    }

    #[test]
    fn a_session_is_of_one_operator_and_ends_with_its_token() {
        let both = tokens(Some("open sesame"), Some("a cave"));
        let session = begin(&both, "alice.b").unwrap();
        let cookie = session.cookie(false).unwrap();
        let headers = presented(cookie.to_str().unwrap());
        let open = |tokens: &OperatorTokens| ConsoleSession::of(tokens, &headers, at(1));
        assert_eq!(open(&both).unwrap().operator().as_str(), "alice.b");
        assert!(open(&tokens(None, Some("a cave"))).is_some());
        assert!(open(&tokens(Some("open sesame"), Some("another"))).is_none());
        assert!(open(&tokens(Some("a cave"), None)).is_none());
        let renamed = cookie.to_str().unwrap().replace("alice.b", "admin");
        let renamed = ConsoleSession::of(&both, &presented(&renamed), at(1));
        assert!(renamed.is_none());
        assert!(begin(&both, "bob").is_none());
    }
}
