//! Reads a client certificate and its key from PEM, and checks that they can be used.

use jiff::Timestamp;
use relay_domain::ClientCertificate;
use rustls::{
    Error, InconsistentKeys, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

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

/// Returns the chain, and the earliest end of validity in it.
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

/// Returns when a certificate ends.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    let end = certificate.validity().not_after.timestamp();
    rest.is_empty().then_some(())?;
    Timestamp::from_second(end).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::delivery::fakes::now;

    /// Returns a self-signed certificate that ends in this year, and its key, in PEM.
    fn made(end: i32, key: &KeyPair) -> String {
        let mut params = CertificateParams::new(vec!["app".to_owned()]).unwrap();
        params.not_after = date_time_ymd(end, 3, 1);
        params.self_signed(key).unwrap().pem()
    }

    fn fault(certificate: &str, key: &str) -> String {
        let read = read_client_certificate(certificate.as_bytes(), key.as_bytes(), now());
        let error = read.unwrap_err();
        let of_key = if error.is_of_key() {
            "key"
        } else {
            "certificate"
        };
        format!("{of_key}: {error}")
    }

    #[test]
    fn a_chain_ends_with_its_first_certificate_to_end() {
        let key = KeyPair::generate().unwrap();
        for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let own = made(2027, &key);
            let key = key.serialize_pem();
            assert!(read_client_certificate(own.as_bytes(), key.as_bytes(), now()).is_ok());
        }
        // the years before and after 2050 have different forms
        for (own, above, end) in [(2030, 2060, 2030), (2060, 2029, 2029), (2060, 2070, 2060)] {
            let chain = format!("{}text between\n{}", made(own, &key), made(above, &key));
            let pem = key.serialize_pem();
            let read = read_client_certificate(chain.as_bytes(), pem.as_bytes(), now()).unwrap();
            assert_eq!(read.chain().len(), 2);
            let expected = format!("{end}-03-01T00:00:00Z");
            assert_eq!(read.expires_at().to_string(), expected);
        }
    }

    #[test]
    fn each_fault_names_the_file_and_never_the_key() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (good, pem, other) = (made(2030, &key), key.serialize_pem(), other.serialize_pem());
        let expired = made(2026, &key);
        let garbled = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
        let no_base64 = good.replace(&good[100..110], "**********");
        let cut = pem.replace(&pem[60..100], "");
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for (certificate, key, words) in [
            ("", pem.as_str(), "certificate: it holds no certificate"),
            (&pem, &pem, "certificate: it holds no certificate"),
            (&no_base64, &pem, "certificate: it holds no certificate"),
            (garbled, &pem, "certificate: certificate 1 of it cannot"),
            (
                &expired,
                &pem,
                "certificate: certificate 1 of it ended at 2026-03-01T00:00:00Z",
            ),
            (
                &format!("{good}{expired}"),
                &pem,
                "certificate: certificate 2 of it ended",
            ),
            (&good.repeat(11), &pem, "certificate: it holds more than 10"),
            (&good, "", "key: it holds no private key"),
            (&good, &good, "key: it holds no private key"),
            (&good, &cut, "key: "),
            (&good, no_key, "key: TLS cannot sign"),
            (&good, encrypted, "key: the key is encrypted"),
            (&good, &other, "key: the key does not belong"),
        ] {
            let fault = fault(certificate, key);
            assert!(fault.starts_with(words), "{words}: {fault}");
            let lines = key.lines().filter(|line| line.len() > 6);
            for line in lines {
                assert!(!fault.contains(line), "{fault}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_end_or_none(
            at in 0_usize..400,
            byte in any::<u8>(),
            cut in 0_usize..500,
        ) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["app".to_owned()]).unwrap();
            let mut der = params.self_signed(&key).unwrap().der().to_vec();
            prop_assert!(not_after(&der).is_some());
            let at = at % der.len();
            der[at] = byte;
            der.truncate(cut);
            // it must not panic, whatever it returns
            let _ = not_after(&der);
        }
    }
}
