//! Signed URLs of streams, which let anyone follow one watch for a limited time without an API key. Pure, without
//! I/O.
//!
//! The signing key is derived from the client's signing secret. So every relay on a store can sign and verify URLs,
//! and they become invalid when the client is revoked. The text for the derivation cannot be a signed webhook,
//! because a webhook's signed text contains two dots.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use relay_domain::{Client, SigningSecret, WatchId};

use crate::api::ApiParts;

/// How long a URL is valid, in seconds.
const VALID_FOR: i64 = 15 * 60;

/// The maximum difference between the clocks of two relays, in seconds.
const SKEW: i64 = 60;

/// The purpose of the derived key.
const PURPOSE: &[u8] = b"basiq-relay stream address 1";

/// The signed parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignedLink {
    /// The time at which the URL expires, in Unix seconds.
    pub(super) expires: i64,
    /// The signature.
    pub(super) signature: Vec<u8>,
}

impl SignedLink {
    /// Parses the parameters of a URL. Returns `None` if they cannot be a signature of the relay.
    pub(super) fn read(expires: &str, signature: &str) -> Option<Self> {
        let is_plain = expires.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self {
            expires: expires.parse().ok().filter(|_| is_plain)?,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Returns whether the URL is within its time limits. Does not check the signature.
    pub(super) fn is_timely(&self, now: Timestamp) -> bool {
        let now = now.as_second();
        now < self.expires && self.expires <= now + VALID_FOR + SKEW
    }

    /// Returns whether the client signed the URL for this watch, with a secret that is valid now.
    pub(super) fn is_by(&self, client: &Client, watch: WatchId, now: Timestamp) -> bool {
        let previous = client.previous_secret.as_ref();
        let previous = previous.filter(|(_, until)| now < *until);
        let secrets = [
            Some(&client.signing_secret),
            previous.map(|(secret, _)| secret),
        ];
        let message = message(watch, self.expires);
        let is_by = |secret| hmac::verify(&key(secret), message.as_bytes(), &self.signature);
        secrets
            .into_iter()
            .flatten()
            .any(|secret| is_by(secret).is_ok())
    }
}

/// Returns the URL at which a client's watch can be streamed without an API key, for a limited time.
pub(super) fn stream_url(parts: &ApiParts, client: &Client, watch: WatchId) -> String {
    let path = signed_path(client, watch, parts.clock.now());
    match &parts.server.public_url {
        Some(base) => format!("{}{path}", base.as_str().trim_end_matches('/')),
        None => path,
    }
}

/// Returns the path of a watch's stream, signed now.
fn signed_path(client: &Client, watch: WatchId, now: Timestamp) -> String {
    let expires = now.as_second() + VALID_FOR;
    let message = message(watch, expires);
    let signature = hmac::sign(&key(&client.signing_secret), message.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signature);
    format!("/watch/{watch}/stream?expires={expires}&signature={signature}")
}

fn message(watch: WatchId, expires: i64) -> String {
    format!("{watch} {expires}")
}

fn key(secret: &SigningSecret) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let derived = hmac::sign(&secret, PURPOSE);
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relay_domain::{ApiKey, ClientId};

    use super::*;

    const WATCH: &str = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn secret(byte: u8) -> SigningSecret {
        let text = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        SigningSecret::parse(&format!("whsec_{text}")).unwrap()
    }

    fn client(byte: u8) -> Client {
        Client {
            id: ClientId(1),
            name: "app".parse().unwrap(),
            key_hash: ApiKey::presented("brk_x").hash(),
            signing_secret: secret(byte),
            previous_secret: None,
            callback_auth: relay_domain::CallbackAuth::default(),
            created_at: at(0),
            revoked_at: None,
        }
    }

    fn read(path: &str) -> Option<SignedLink> {
        let query = path.split_once('?').unwrap().1;
        let mut values = query.split('&').map(|pair| pair.split_once('=').unwrap().1);
        SignedLink::read(values.next().unwrap(), values.next().unwrap())
    }

    fn is_valid(path: &str, client: &Client, watch: &str, now: Timestamp) -> bool {
        let signed = read(path).unwrap();
        signed.is_timely(now) && signed.is_by(client, watch.parse().unwrap(), now)
    }

    /// The expected value was computed independently, with Python's `hmac` and `base64`.
    #[test]
    fn a_known_watch_has_its_known_address() {
        let path = signed_path(&client(7), WATCH.parse().unwrap(), at(0));
        assert_eq!(
            path,
            "/watch/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q/stream?expires=1800000900\
             &signature=a1FhPrMD9uJfiVmks8z0jFLj7hC-0KAuX42ECrF7rPQ"
        );
    }

    #[test]
    fn an_address_is_valid_for_its_watch_its_client_and_its_time_only() {
        let owner = client(7);
        let path = signed_path(&owner, WATCH.parse().unwrap(), at(0));
        let other = WATCH.replace('Q', "P");
        assert!(is_valid(&path, &owner, WATCH, at(899)));
        assert!(
            is_valid(&path, &owner, WATCH, at(-60)),
            "a clock that is late"
        );
        for (client, watch, now) in [
            (&owner, WATCH, 900),
            (&owner, WATCH, -61),
            (&owner, &*other, 0),
            (&client(8), WATCH, 0),
        ] {
            assert!(!is_valid(&path, client, watch, at(now)), "{watch} {now}");
        }
        let later = path.replace("1800000900", "1800000901");
        assert!(!is_valid(&later, &owner, WATCH, at(0)));
    }

    #[test]
    fn the_secret_before_a_rotation_counts_while_it_signs() {
        let path = signed_path(&client(7), WATCH.parse().unwrap(), at(0));
        let rotated = Client {
            previous_secret: Some((secret(7), at(60))),
            ..client(8)
        };
        assert!(is_valid(&path, &rotated, WATCH, at(59)));
        assert!(!is_valid(&path, &rotated, WATCH, at(60)));
    }

    #[test]
    fn no_webhook_signature_is_an_address_even_of_the_same_text() {
        let (owner, watch) = (client(7), WATCH.parse().unwrap());
        let text = message(watch, at(900).as_second());
        let secret = owner.signing_secret.expose().as_bytes();
        let plain = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
        let forged = SignedLink {
            expires: at(900).as_second(),
            signature: plain.as_ref().to_vec(),
        };
        assert!(!forged.is_by(&owner, watch, at(0)));
        assert!(!PURPOSE.contains(&b'.'));
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_read_or_not_and_never_valid(expires in ".*", signature in ".*") {
            if let Some(signed) = SignedLink::read(&expires, &signature) {
                prop_assert!(!signed.is_by(&client(7), WATCH.parse().unwrap(), at(0)));
            }
        }
    }
}
