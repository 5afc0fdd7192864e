//! Sessions: a signed cookie that holds the expiry, and a token for the forms of the session.
//!
//! Nothing is stored. The signing key is derived from the admin token, so a session is valid on every relay. All
//! sessions end when the token changes.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::{HeaderMap, HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;

use crate::web::AdminToken;

const COOKIE: &str = "relay_console";

/// How long a session lasts.
const LASTS: SignedDuration = SignedDuration::from_hours(8);

/// An open session.
pub(super) struct ConsoleSession {
    /// `expiry.nonce`
    id: String,
    key: hmac::Key,
}

impl ConsoleSession {
    /// Opens a session. Returns none if there is no admin token.
    pub(super) fn begin(admin: &AdminToken, now: Timestamp) -> Option<Self> {
        let until = now.checked_add(LASTS).ok()?.as_second();
        let nonce: [u8; 16] = rand::rng().random();
        Some(Self {
            id: format!("{until}.{}", BASE64.encode(nonce)),
            key: key(admin)?,
        })
    }

    /// Returns the session of a request's cookie, if the cookie is valid and has not expired.
    pub(super) fn of(admin: &AdminToken, headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let key = key(admin)?;
        let mut ids = cookies(headers).filter_map(|value| verified(&key, value));
        let id = ids.find(|id| lasts(id, now))?.to_owned();
        Some(Self { id, key })
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

fn key(admin: &AdminToken) -> Option<hmac::Key> {
    let bytes = admin.derive("console session")?;
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

/// Returns the id in a cookie's value, if the signature is valid.
fn verified<'a>(key: &hmac::Key, value: &'a str) -> Option<&'a str> {
    let (id, signature) = value.rsplit_once('.')?;
    let signature = BASE64.decode(signature).ok()?;
    hmac::verify(key, message("session", id).as_bytes(), &signature).ok()?;
    Some(id)
}

fn lasts(id: &str, now: Timestamp) -> bool {
    let until = id.split('.').next().and_then(|until| until.parse().ok());
    until.is_some_and(|until: i64| until > now.as_second())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn token(text: &str) -> AdminToken {
        AdminToken::new(Some(&SecretString::from(text)))
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
        let session = ConsoleSession::begin(&admin, at(0)).unwrap();
        let cookie = session.cookie(false).unwrap();
        let headers = presented(cookie.to_str().unwrap());
        let open = |admin: &AdminToken, seconds| ConsoleSession::of(admin, &headers, at(seconds));
        assert!(open(&admin, 8 * 3600 - 1).is_some());
        assert!(open(&admin, 8 * 3600).is_none());
        assert!(open(&token("another"), 1).is_none());
        assert!(open(&AdminToken::new(None), 1).is_none());
    }

    #[test]
    fn what_was_changed_is_no_session() {
        let admin = token("open sesame");
        let cookie = ConsoleSession::begin(&admin, at(0))
            .unwrap()
            .cookie(true)
            .unwrap();
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
            ConsoleSession::begin(&admin, at(0)).unwrap(),
            ConsoleSession::begin(&admin, at(0)).unwrap(),
        );
        assert!(one.is_of(&one.form_token()));
        for odd in ["", "x", &other.form_token()] {
            assert!(!one.is_of(odd), "{odd}");
        }
    }
}
