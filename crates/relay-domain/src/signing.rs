//! Standard Webhooks signatures: signs for callbacks, and verifies for a receiver.
//!
//! The signature is `HMAC-SHA256(secret, "{id}.{timestamp}.{body}")`, in base64 after `v1,`. No function here reads a
//! clock: the time is an argument.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::{SigningSecret, SigningSecretError};

const WEBHOOK_ID: &str = "webhook-id";
const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// The maximum difference between a signature's time and the receiver's clock, in either direction, in seconds.
const TOLERANCE: i64 = 5 * 60;

/// The three headers of a signed message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureHeaders {
    /// `webhook-id`: the id of the event, the same on every attempt.
    pub id: String,
    /// `webhook-timestamp`: the time of this attempt, in Unix seconds.
    pub timestamp: String,
    /// `webhook-signature`: one or more `v1,<base64>`, separated by spaces.
    pub signature: String,
}

/// Why a message could not be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// No secret was given.
    #[error("there is no secret to sign with")]
    NoSecret,
    /// A secret cannot be used.
    #[error("the signing secret cannot be used")]
    Secret(#[source] SigningSecretError),
}

/// Why a message cannot be trusted.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A header is missing, or its value is not text.
    #[error("the header `{0}` is missing or unreadable")]
    Header(&'static str),
    /// The timestamp is not a number.
    #[error("the header `webhook-timestamp` is no number")]
    Timestamp,
    /// The timestamp differs from the receiver's time by more than five minutes. The message may be a replay.
    #[error("the message was signed more than five minutes ago, or in the future")]
    Stale,
    /// No signature matches.
    #[error("no signature fits the message")]
    Mismatch,
    /// The secret cannot be used.
    #[error("the signing secret cannot be used")]
    Secret(#[source] SigningSecretError),
}

impl SignatureHeaders {
    /// Reads the headers of a request.
    pub fn read(headers: &HeaderMap) -> Result<Self, VerifyError> {
        let text = |name: &'static str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
                .ok_or(VerifyError::Header(name))
        };
        Ok(Self {
            id: text(WEBHOOK_ID)?,
            timestamp: text(WEBHOOK_TIMESTAMP)?,
            signature: text(WEBHOOK_SIGNATURE)?,
        })
    }

    /// Returns the headers as pairs of name and value.
    #[must_use]
    pub fn entries(&self) -> [(&'static str, &str); 3] {
        [
            (WEBHOOK_ID, &self.id),
            (WEBHOOK_TIMESTAMP, &self.timestamp),
            (WEBHOOK_SIGNATURE, &self.signature),
        ]
    }
}

/// Signs a message with each of the secrets, as of `at`.
pub fn sign(
    id: &str,
    at: Timestamp,
    body: impl AsRef<[u8]>,
    secrets: &[&SigningSecret],
) -> Result<SignatureHeaders, SignError> {
    if secrets.is_empty() {
        return Err(SignError::NoSecret);
    }
    let signatures = secrets
        .iter()
        .map(|secret| signature(id, at.as_second(), body.as_ref(), secret))
        .collect::<Result<Vec<_>, _>>()
        .map_err(SignError::Secret)?;
    Ok(SignatureHeaders {
        id: id.to_owned(),
        timestamp: at.as_second().to_string(),
        signature: signatures.join(" "),
    })
}

/// Verifies that one of a message's signatures was made with `secret`, at most five minutes before or after `now`.
/// The body is verified byte for byte, and does not have to be text.
pub fn verify(
    headers: &SignatureHeaders,
    body: impl AsRef<[u8]>,
    secret: &SigningSecret,
    now: Timestamp,
) -> Result<(), VerifyError> {
    let signed_at: i64 = headers
        .timestamp
        .parse()
        .map_err(|_| VerifyError::Timestamp)?;
    if now.as_second().abs_diff(signed_at) > TOLERANCE.unsigned_abs() {
        return Err(VerifyError::Stale);
    }
    let expected =
        signature(&headers.id, signed_at, body.as_ref(), secret).map_err(VerifyError::Secret)?;
    headers
        .signature
        .split(' ')
        .any(|given| given.as_bytes().ct_eq(expected.as_bytes()).into())
        .then_some(())
        .ok_or(VerifyError::Mismatch)
}

fn signature(
    id: &str,
    seconds: i64,
    body: &[u8],
    secret: &SigningSecret,
) -> Result<String, SigningSecretError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.key()?);
    let mut message = hmac::Context::with_key(&key);
    message.update(format!("{id}.{seconds}.").as_bytes());
    message.update(body);
    Ok(format!("v1,{}", STANDARD.encode(message.sign())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::EventId;

    const BODY: &str = "{\"type\":\"job.failed\",\"detail\":\"caf\u{e9}\"}";

    fn secret(key: &[u8]) -> SigningSecret {
        SigningSecret::parse(&format!("whsec_{}", STANDARD.encode(key))).unwrap()
    }

    fn known() -> (EventId, Timestamp, SigningSecret, SigningSecret) {
        (
            "evt_01KAR2D3CV9Z8X7W6V5T4S3R2Q".parse().unwrap(),
            Timestamp::from_second(1_795_425_268).unwrap(),
            secret(&(0..32).collect::<Vec<u8>>()),
            secret(&(32..64).collect::<Vec<u8>>()),
        )
    }

    /// These were computed independently of this code, with Python's `hmac` and `base64`.
    #[test]
    fn a_known_message_has_its_known_signatures() {
        let (event, at, new, old) = known();
        let headers = sign(&event.to_string(), at, BODY, &[&new, &old]).unwrap();
        assert_eq!(
            headers.entries(),
            [
                ("webhook-id", "evt_01KAR2D3CV9Z8X7W6V5T4S3R2Q"),
                ("webhook-timestamp", "1795425268"),
                (
                    "webhook-signature",
                    "v1,0JgexgxhxuFk1AwIV6sESJ3W5gEhQBZGGW/s8sKgRmo= \
                     v1,Hhn3D8S227apm4Ee6W0+PhAnavbZzih3imOlA2ymNxk="
                ),
            ]
        );
    }

    #[test]
    fn a_message_that_is_too_old_or_too_early_is_not_trusted() {
        let (event, at, secret, _) = known();
        let headers = sign(&event.to_string(), at, BODY, &[&secret]).unwrap();
        for (seconds, trusted) in [
            (0, true),
            (300, true),
            (-300, true),
            (301, false),
            (-301, false),
        ] {
            let now = Timestamp::from_second(at.as_second() + seconds).unwrap();
            assert_eq!(
                verify(&headers, BODY, &secret, now).is_ok(),
                trusted,
                "{seconds}"
            );
        }
    }

    #[test]
    fn headers_that_are_missing_or_odd_are_told() {
        let (event, at, secret, _) = known();
        let signed = sign(&event.to_string(), at, BODY, &[&secret]).unwrap();
        let mut map = HeaderMap::new();
        assert!(matches!(
            SignatureHeaders::read(&map),
            Err(VerifyError::Header("webhook-id"))
        ));
        for (name, value) in signed.entries() {
            map.insert(name, value.parse().unwrap());
        }
        assert_eq!(SignatureHeaders::read(&map).unwrap(), signed);
        let odd = SignatureHeaders {
            timestamp: "soon".to_owned(),
            ..signed
        };
        let refused = verify(&odd, BODY, &secret, at);
        assert!(matches!(refused, Err(VerifyError::Timestamp)));
        assert!(matches!(
            sign(&event.to_string(), at, BODY, &[]),
            Err(SignError::NoSecret)
        ));
    }

    proptest! {
        #[test]
        fn what_was_signed_verifies_with_any_of_its_secrets_and_no_other(
            keys in proptest::array::uniform3(proptest::array::uniform32(any::<u8>())),
            body in ".*",
        ) {
            let (event, at, _, _) = known();
            let [new, old, other] = keys.map(|key| secret(&key));
            let headers = sign(&event.to_string(), at, &body, &[&new, &old]).unwrap();
            prop_assert!(verify(&headers, &body, &new, at).is_ok());
            prop_assert!(verify(&headers, &body, &old, at).is_ok());
            prop_assert!(verify(&headers, &body, &other, at).is_err());
        }

        #[test]
        fn a_changed_body_id_or_time_does_not_verify(
            body in ".{1,40}",
            other in ".{1,40}",
            transition in 1_u32..100,
            later in 1_i64..300,
        ) {
            let (event, at, secret, _) = known();
            let headers = sign(&event.to_string(), at, &body, &[&secret]).unwrap();
            if body != other {
                prop_assert!(verify(&headers, &other, &secret, at).is_err());
            }
            let watch = "wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q".parse().unwrap();
            let renamed = SignatureHeaders {
                id: EventId::derive(watch, transition).to_string(),
                ..headers.clone()
            };
            prop_assert!(verify(&renamed, &body, &secret, at).is_err());
            let moved = SignatureHeaders {
                timestamp: (at.as_second() + later).to_string(),
                ..headers
            };
            prop_assert!(verify(&moved, &body, &secret, at).is_err());
        }
    }
}
