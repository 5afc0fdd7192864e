//! Signing secrets and API keys. Neither `Debug` nor `Display` prints them.

use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// A signing secret in the format of Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone)]
pub struct SigningSecret(SecretString);

/// The text is not a signing secret. The error does not contain the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a signing secret is `whsec_` and the base64 of 24 to 64 bytes")]
pub struct SigningSecretError;

/// The text is not another system's signing secret. The error does not contain the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("allowed is the base64 of at least 8 bytes, with or without `whsec_` before it")]
pub struct ForeignSecretError;

impl SigningSecret {
    /// Makes a new secret of 32 random bytes.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("whsec_{}", STANDARD.encode(random_bytes())).into())
    }

    /// Parses a secret.
    pub fn parse(text: &str) -> Result<Self, SigningSecretError> {
        let key = decoded(text)?;
        if (24..=64).contains(&key.len()) {
            Ok(Self(text.to_owned().into()))
        } else {
            Err(SigningSecretError)
        }
    }

    /// Parses another system's secret, as a dashboard shows it. The secret has at least 8 bytes, may lack `whsec_`,
    /// and may be padded or not.
    pub fn of_another(text: &str) -> Result<Self, ForeignSecretError> {
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let encoded = encoded.trim_end_matches('=');
        let key = STANDARD_NO_PAD
            .decode(encoded)
            .map_err(|_| ForeignSecretError)?;
        if key.len() < 8 {
            return Err(ForeignSecretError);
        }
        Ok(Self(format!("whsec_{}", STANDARD.encode(key)).into()))
    }

    /// Returns the secret itself, to store, or to show to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns the bytes that sign.
    pub(crate) fn key(&self) -> Result<Vec<u8>, SigningSecretError> {
        decoded(self.expose())
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        self.expose()
            .as_bytes()
            .ct_eq(other.expose().as_bytes())
            .into()
    }
}

impl Eq for SigningSecret {}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An API key: `brk_` and 43 characters. It is shown once, when it is made.
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Makes a new key of 32 random bytes.
    #[must_use]
    pub fn generate() -> Self {
        let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random_bytes());
        Self(format!("brk_{encoded}").into())
    }

    /// Takes the key that a caller presented, in any format.
    #[must_use]
    pub fn presented(text: &str) -> Self {
        Self(text.to_owned().into())
    }

    /// Returns the key itself, to show to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns the hash that the store keeps. A key has 256 random bits, so one round of SHA-256 is enough.
    #[must_use]
    pub fn hash(&self) -> ApiKeyHash {
        ApiKeyHash(Sha256::digest(self.expose().as_bytes()).into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The SHA-256 of an API key. A comparison takes the same time wherever the hashes differ.
#[derive(Clone, Copy)]
pub struct ApiKeyHash([u8; 32]);

impl ApiKeyHash {
    /// Reads a stored hash. Returns none if the length is wrong.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the hash for the store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for ApiKeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ApiKeyHash {}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Decodes the base64 after `whsec_`.
fn decoded(text: &str) -> Result<Vec<u8>, SigningSecretError> {
    let encoded = text.strip_prefix("whsec_").ok_or(SigningSecretError)?;
    STANDARD.decode(encoded).map_err(|_| SigningSecretError)
}

fn random_bytes() -> [u8; 32] {
    rand::rng().random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_new_each_time_and_never_printed() {
        let secret = SigningSecret::generate();
        assert_ne!(secret.expose(), SigningSecret::generate().expose());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(format!("{:?}", ApiKey::generate()), "***");
        assert_eq!(format!("{:?}", ApiKey::generate().hash()), "***");
    }

    #[test]
    fn a_generated_secret_is_a_valid_one() {
        assert!(SigningSecret::parse(SigningSecret::generate().expose()).is_ok());
        for bad in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_not base64",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert!(SigningSecret::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_of_another_may_lack_prefix_and_padding() {
        let own = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        for text in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            let secret = SigningSecret::of_another(text).unwrap();
            assert_eq!(secret.expose(), own.expose());
        }
        let padded = SigningSecret::of_another("MfKQ9r8GKYqrTw==").unwrap();
        let bare = SigningSecret::of_another("MfKQ9r8GKYqrTw").unwrap();
        assert_eq!(padded.expose(), bare.expose());
        for bad in ["", "whsec_", "c2hvcnQ", "not base64, surely"] {
            assert!(SigningSecret::of_another(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_hash() {
        let key = ApiKey::generate();
        assert_eq!(ApiKey::presented(key.expose()).hash(), key.hash());
        assert_ne!(ApiKey::presented("brk_other").hash(), key.hash());
        assert_eq!(
            ApiKeyHash::from_bytes(key.hash().as_bytes()),
            Some(key.hash())
        );
    }
}
