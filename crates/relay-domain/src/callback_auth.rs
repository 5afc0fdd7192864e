//! The credentials that the relay presents to a client's callbacks: a TLS client certificate and static headers. Both
//! hold secrets, so `Debug` prints neither.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{SecretHeaders, outcome::closed_words};

/// A certificate that ends within this many days is marked where clients are listed.
const NEAR_END_DAYS: i64 = 30;

closed_words! {
    /// A part of a client's credentials for callbacks.
    CallbackAuthPart {
        /// The TLS client certificate and its key.
        Certificate => "certificate",
        /// The static headers.
        Headers => "headers",
    }
}

/// The credentials that the relay presents to a client's callbacks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CallbackAuth {
    /// The certificate for TLS handshakes in which the receiver asks for one.
    pub certificate: Option<ClientCertificate>,
    /// The headers that each request gets.
    pub headers: SecretHeaders,
    /// The stored parts that cannot be read. While there are any, the relay posts nothing to the client's callbacks.
    pub unreadable: Vec<CallbackAuthPart>,
}

impl CallbackAuth {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificate.is_none() && self.headers.is_empty() && self.unreadable.is_empty()
    }

    /// Describes the credentials without a secret: the end of the certificate, the names of the headers, and the parts
    /// that cannot be read. Returns none if there are none.
    #[must_use]
    pub fn described(&self, now: Timestamp) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let certificate = self.certificate.as_ref().map(|one| one.described(now));
        let names: Vec<_> = self.headers.names().collect();
        let headers = (!names.is_empty()).then(|| format!("headers {}", names.join(", ")));
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.map(|part| format!("{part} that cannot be read"));
        let parts = certificate.into_iter().chain(headers).chain(unreadable);
        let parts: Vec<_> = parts.collect();
        Some(parts.join("; "))
    }
}

/// A TLS client certificate with its chain and its private key, in DER. Cheap to clone.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Parts>);

struct Parts {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    expires_at: Timestamp,
}

impl ClientCertificate {
    /// Takes a chain, the client's own certificate first, and the key of the first. The chain ends at `expires_at`.
    #[must_use]
    pub fn new(chain: Vec<Vec<u8>>, key: Vec<u8>, expires_at: Timestamp) -> Self {
        Self(Arc::new(Parts {
            chain,
            key,
            expires_at,
        }))
    }

    /// Returns the chain, the client's own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.0.chain
    }

    /// Returns the private key itself, to store or to prove the client's identity with.
    #[must_use]
    pub fn expose_key(&self) -> &[u8] {
        &self.0.key
    }

    /// Returns the earliest end of validity of any certificate in the chain.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// Returns a digest that is the same only for the same client with the same chain and key.
    #[must_use]
    pub fn fingerprint(&self, client: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        let chain = self.0.chain.iter().map(Vec::as_slice);
        let parts = chain.chain([self.0.key.as_slice()]);
        for part in [client.as_bytes()].into_iter().chain(parts) {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn described(&self, now: Timestamp) -> String {
        let end = self.0.expires_at;
        let left = end.duration_since(now).as_hours() / 24;
        let note = match left {
            _ if end <= now => ", which has passed".to_owned(),
            0 => ", in less than a day".to_owned(),
            1 => ", in 1 day".to_owned(),
            2..NEAR_END_DAYS => format!(", in {left} days"),
            _ => String::new(),
        };
        format!("certificate until {end}{note}")
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(chain: &[&[u8]], key: &[u8], end: &str) -> ClientCertificate {
        let chain = chain.iter().map(|one| one.to_vec()).collect();
        ClientCertificate::new(chain, key.to_vec(), end.parse().unwrap())
    }

    #[test]
    fn what_is_shown_is_described_without_a_secret() {
        let now = "2026-11-01T00:00:00Z".parse().unwrap();
        let described = |end: Option<&str>, headers: &str| {
            let auth = CallbackAuth {
                certificate: end.map(|end| certificate(&[b"chain"], b"key", end)),
                headers: SecretHeaders::parse(headers).unwrap_or_default(),
                unreadable: Vec::new(),
            };
            assert!(!format!("{auth:?}").contains("word"));
            auth.described(now)
        };
        assert_eq!(described(None, ""), None);
        for (end, headers, text) in [
            (None, "X-Key: word", "headers x-key"),
            (
                Some("2026-12-02T00:00:00Z"),
                "",
                "certificate until 2026-12-02T00:00:00Z",
            ),
            (
                Some("2026-11-13T12:00:00Z"),
                "",
                "certificate until 2026-11-13T12:00:00Z, in 12 days",
            ),
            (
                Some("2026-11-01T12:00:00Z"),
                "",
                "certificate until 2026-11-01T12:00:00Z, in less than a day",
            ),
            (
                Some("2026-11-01T00:00:00Z"),
                "A: word\nB: word",
                "certificate until 2026-11-01T00:00:00Z, which has passed; headers a, b",
            ),
        ] {
            assert_eq!(described(end, headers).as_deref(), Some(text));
        }
        let unreadable = CallbackAuth {
            unreadable: CallbackAuthPart::ALL.to_vec(),
            ..CallbackAuth::default()
        };
        assert_eq!(
            unreadable.described(now).as_deref(),
            Some("certificate that cannot be read; headers that cannot be read")
        );
    }

    #[test]
    fn a_fingerprint_belongs_to_one_client_chain_and_key() {
        let end = "2027-01-01T00:00:00Z";
        let one = certificate(&[b"ab", b"c"], b"key", end);
        let same = certificate(&[b"ab", b"c"], b"key", end);
        assert_eq!(one.fingerprint("app"), same.fingerprint("app"));
        for (other, client) in [
            (&one, "bpp"),
            (&certificate(&[b"a", b"bc"], b"key", end), "app"),
            (&certificate(&[b"ab", b"c", b"key"], b"", end), "app"),
            (&certificate(&[b"ab", b"c"], b"kez", end), "app"),
        ] {
            assert_ne!(one.fingerprint("app"), other.fingerprint(client));
        }
    }
}
