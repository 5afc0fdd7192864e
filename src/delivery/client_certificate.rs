//! Reads a client certificate and its key from PEM, and checks that they can be used.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use relay_domain::ClientCertificate;
use rustls::{
    Error, InconsistentKeys, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use thiserror::Error;

use crate::delivery::client_identity::certified_key;

/// The maximum number of certificates in a chain.
const LONGEST_CHAIN: usize = 10;

/// The reason why a certificate and key cannot be used. No text of a key is in it.
#[derive(Debug, Error)]
pub enum ClientCertificateError {
    /// The text holds no certificate.
    #[error("it holds no certificate; PEM is allowed, the client's own certificate first")]
    NoCertificate,
    /// The chain is too long.
    #[error("it holds more than {LONGEST_CHAIN} certificates")]
    LongChain,
    /// A certificate of the chain cannot be parsed.
    #[error("certificate {0} of it cannot be read as X.509")]
    Unreadable(usize),
    /// A certificate of the chain has ended.
    #[error(
        "certificate {number} of it ended at {ended}; only certificates that are still valid are allowed"
    )]
    Expired {
        /// The number of the certificate, counted from 1.
        number: usize,
        /// When it ended.
        ended: Timestamp,
    },
    /// The text holds no usable key.
    #[error("it holds no private key; PEM is allowed, PKCS#8, PKCS#1 (RSA) or SEC1 (EC)")]
    NoKey,
    /// The key is protected by a pass phrase.
    #[error(
        "the key is encrypted with a pass phrase; `openssl pkey -in FILE` writes it without one"
    )]
    EncryptedKey,
    /// The key is of a kind that TLS cannot sign with.
    #[error(
        "TLS cannot sign with this key; RSA of 2048 bits or more, ECDSA and Ed25519 are allowed"
    )]
    UnusableKey,
    /// The key belongs to another certificate.
    #[error("the key does not belong to the first certificate")]
    OtherKey,
}

impl ClientCertificateError {
    /// Returns whether the file of the key is at fault, and not that of the certificate.
    #[must_use]
    pub fn is_of_key(&self) -> bool {
        matches!(
            self,
            Self::NoKey | Self::EncryptedKey | Self::UnusableKey | Self::OtherKey
        )
    }
}

/// Reads a chain, the client's own certificate first, and the key of the first. Fails if a certificate has ended by
/// `now`, or if TLS cannot use them.
pub fn read_client_certificate(
    chain_pem: &[u8],
    key_pem: &[u8],
    now: Timestamp,
) -> Result<ClientCertificate, ClientCertificateError> {
    let (chain, expires_at) = read_chain(chain_pem, now)?;
    let key = read_key(key_pem)?;
    match certified_key(&chain, &key) {
        Ok(_) => Ok(ClientCertificate::new(chain, key, expires_at)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(ClientCertificateError::OtherKey)
        }
        Err(Error::InvalidCertificate(_)) => Err(ClientCertificateError::Unreadable(1)),
        Err(_) => Err(ClientCertificateError::UnusableKey),
    }
}

/// Returns the chain, and when its first certificate ends.
fn read_chain(
    pem: &[u8],
    now: Timestamp,
) -> Result<(Vec<Vec<u8>>, Timestamp), ClientCertificateError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| ClientCertificateError::NoCertificate)?;
    if found.len() > LONGEST_CHAIN {
        return Err(ClientCertificateError::LongChain);
    }
    let mut ends = Vec::new();
    for (place, certificate) in found.iter().enumerate() {
        let number = place + 1;
        let end = not_after(certificate)
            .filter(|_| RootCertStore::empty().add(certificate.clone()).is_ok())
            .ok_or(ClientCertificateError::Unreadable(number))?;
        if end <= now {
            return Err(ClientCertificateError::Expired { number, ended: end });
        }
        ends.push(end);
    }
    let first = ends.into_iter().min();
    let first = first.ok_or(ClientCertificateError::NoCertificate)?;
    let chain = found.iter().map(|one| one.to_vec()).collect();
    Ok((chain, first))
}

fn read_key(pem: &[u8]) -> Result<Vec<u8>, ClientCertificateError> {
    // the error of the parser could repeat a line of the file
    if let Ok(key) = PrivateKeyDer::from_pem_slice(pem) {
        return Ok(key.secret_der().to_vec());
    }
    let text = String::from_utf8_lossy(pem);
    let is_encrypted = text.contains("ENCRYPTED PRIVATE KEY") || text.contains("4,ENCRYPTED");
    Err(if is_encrypted {
        ClientCertificateError::EncryptedKey
    } else {
        ClientCertificateError::NoKey
    })
}

/// The tags of DER that lead to the end of a certificate.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const GENERALIZED_TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const VERSION: u8 = 0xa0;
}

/// Returns when a certificate ends. TLS checks all else of it, but does not tell this.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, tag::SEQUENCE)?;
    let (mut rest, _) = element(certificate, tag::SEQUENCE)?;
    if let Some((_, after)) = element(rest, tag::VERSION) {
        rest = after;
    }
    // the serial number, the algorithm and the issuer
    for tag in [tag::INTEGER, tag::SEQUENCE, tag::SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, tag::SEQUENCE)?;
    let (_, end) = time(validity)?;
    Some(time(end)?.0)
}

/// Splits DER into the content of its first element and what follows it. Returns none if that has another tag.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        let add = |sum: usize, byte: &u8| (sum << 8) | usize::from(*byte);
        (bytes.iter().fold(0, add), rest)
    };
    rest.split_at_checked(length)
}

/// Reads a time, and returns it with what follows it. The forms are those of RFC 5280.
fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest) = match element(der, tag::UTC_TIME) {
        Some((text, rest)) => {
            let text = str::from_utf8(text).ok()?;
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            (format!("{century}{text}"), rest)
        }
        None => {
            let (text, rest) = element(der, tag::GENERALIZED_TIME)?;
            (str::from_utf8(text).ok()?.to_owned(), rest)
        }
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some((TimeZone::UTC.to_timestamp(time).ok()?, rest))
}
