//! Encrypts the secrets of clients at rest, if a key is configured. The cipher is AES-256-GCM with a random nonce. Each
//! secret is bound to the client's name, so that it cannot be moved to another client's row.

use std::{fmt, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use relay_domain::SigningSecret;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::StoreError;

/// The prefix of sealed secrets. A stored secret without the prefix is plain text.
const MARK: &str = "sealed1:";

/// The length of a key in bytes.
const KEY_LEN: usize = 32;

/// The text is not an encryption key. The error does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("allowed is the base64 of 32 random bytes, as `openssl rand -base64 32` prints it")]
pub struct KeyError;

/// Seals secrets with one key, and opens secrets that were sealed with that key or the previous one. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sealer(Arc<Keys>);

#[derive(Default)]
struct Keys {
    current: Option<RandomizedNonceKey>,
    previous: Option<RandomizedNonceKey>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(***)")
    }
}

impl Sealer {
    /// Makes a sealer from base64 keys. Seals with `current`; without it, secrets stay plain text. Also opens secrets
    /// that were sealed with `previous`.
    pub fn new(current: Option<&str>, previous: Option<&str>) -> Result<Self, KeyError> {
        Ok(Self(Arc::new(Keys {
            current: current.map(parse).transpose()?,
            previous: previous.map(parse).transpose()?,
        })))
    }

    /// Returns whether secrets are sealed.
    #[must_use]
    pub fn seals(&self) -> bool {
        self.0.current.is_some()
    }

    /// Makes a sealer whose key is derived from another secret. That secret must be impossible to guess.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        let key: [u8; KEY_LEN] = Sha256::new()
            .chain_update(b"basiq-relay sealing key\0")
            .chain_update(secret)
            .finalize()
            .into();
        Self(Arc::new(Keys {
            current: RandomizedNonceKey::new(&AES_256_GCM, &key).ok(),
            previous: None,
        }))
    }

    /// Returns the text to store for a client's secret.
    pub(super) fn seal(&self, secret: &SigningSecret, client: &str) -> Result<String, StoreError> {
        self.seal_text(secret.expose(), client)
    }

    /// Returns the text to store for a secret, bound to a name.
    pub fn seal_text(&self, secret: &str, name: &str) -> Result<String, StoreError> {
        let Some(key) = &self.0.current else {
            return Ok(secret.to_owned());
        };
        let mut sealed = secret.as_bytes().to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(StoreError::refused)?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.extend(sealed);
        Ok(format!("{MARK}{}", STANDARD.encode(bytes)))
    }

    /// Opens a client's stored secret; none if no key opens it.
    pub(super) fn open(&self, stored: &str, client: &str) -> Option<SigningSecret> {
        SigningSecret::parse(&self.open_any_text(stored, client)?).ok()
    }

    /// Returns a stored text that was sealed and bound to this name, or that is plain text; none if no key opens it.
    pub(super) fn open_any_text(&self, stored: &str, name: &str) -> Option<String> {
        if !stored.starts_with(MARK) {
            return Some(stored.to_owned());
        }
        self.open_text(stored, name)
    }

    /// Opens a text that was sealed and bound to this name; none if no key opens it.
    #[must_use]
    pub fn open_text(&self, stored: &str, name: &str) -> Option<String> {
        let bytes = STANDARD.decode(stored.strip_prefix(MARK)?).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let keys = [&self.0.current, &self.0.previous].into_iter().flatten();
        keys.into_iter().find_map(|key| {
            let mut text = sealed.to_vec();
            let aad = Aad::from(name.as_bytes());
            let opened = key.open_in_place(Nonce::from(nonce), aad, &mut text).ok()?;
            Some(str::from_utf8(opened).ok()?.to_owned())
        })
    }
}

fn parse(text: &str) -> Result<RandomizedNonceKey, KeyError> {
    let key = STANDARD.decode(text).map_err(|_| KeyError)?;
    if key.len() != KEY_LEN {
        return Err(KeyError);
    }
    RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| KeyError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; KEY_LEN])
    }

    fn sealer(current: u8, previous: Option<u8>) -> Sealer {
        let previous = previous.map(key);
        Sealer::new(Some(&key(current)), previous.as_deref()).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_for_its_client_alone() {
        let secret = SigningSecret::generate();
        let stored = sealer(1, None).seal(&secret, "shop").unwrap();
        assert!(!stored.contains(secret.expose().trim_start_matches("whsec_")));
        assert_ne!(stored, sealer(1, None).seal(&secret, "shop").unwrap());
        let open = |sealer: &Sealer, client: &str| {
            let opened = sealer.open(&stored, client);
            opened.map(|opened| opened.expose().to_owned())
        };
        let own = Some(secret.expose().to_owned());
        assert_eq!(open(&sealer(1, None), "shop"), own);
        assert_eq!(open(&sealer(2, Some(1)), "shop"), own);
        assert_eq!(open(&sealer(2, None), "shop"), None);
        assert_eq!(open(&sealer(1, None), "bank"), None);
        assert_eq!(open(&Sealer::default(), "shop"), None);
        let altered = stored.replace(&stored[20..24], "AAAA");
        assert!(sealer(1, None).open(&altered, "shop").is_none());
    }

    #[test]
    fn what_was_stored_before_there_was_a_key_is_read_as_it_is() {
        let secret = SigningSecret::generate();
        let plain = Sealer::default().seal(&secret, "shop").unwrap();
        assert_eq!(plain, secret.expose());
        assert!(sealer(1, None).open(&plain, "shop").is_some());
    }

    #[test]
    fn a_secret_seals_for_whoever_has_it() {
        let sealed = Sealer::of_secret(b"one")
            .seal_text("Bearer x", "token")
            .unwrap();
        assert!(!sealed.contains("Bearer"));
        let open = |secret: &[u8], name| Sealer::of_secret(secret).open_text(&sealed, name);
        assert_eq!(open(b"one", "token").as_deref(), Some("Bearer x"));
        assert_eq!(open(b"two", "token"), None);
        assert_eq!(open(b"one", "other"), None);
        assert_eq!(
            Sealer::of_secret(b"one").open_text("Bearer x", "token"),
            None
        );
    }

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        for bad in ["", "c2hvcnQ=", "not base64", &key(1)[1..]] {
            assert_eq!(Sealer::new(Some(bad), None).unwrap_err(), KeyError, "{bad}");
        }
        assert!(!format!("{:?}", sealer(1, None)).contains('1'));
    }
}
