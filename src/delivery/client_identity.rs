//! The TLS client certificates that clients present to their callbacks.

use std::{fmt, sync::Arc};

use relay_domain::ClientCertificate;
use rustls::{
    ClientConfig,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// The identity that a connection proves by TLS: one client with one certificate. Connections of different identities
/// are never used for each other.
#[derive(Clone)]
pub(super) struct ClientIdentity {
    certificate: ClientCertificate,
    fingerprint: [u8; 32],
}

impl ClientIdentity {
    pub(super) fn new(client: &str, certificate: &ClientCertificate) -> Self {
        Self {
            certificate: certificate.clone(),
            fingerprint: certificate.fingerprint(client),
        }
    }

    /// Returns the TLS configuration that proves this identity, and otherwise does as `anonymous` does.
    ///
    /// It is made anew for each connection and resumes no session. A server takes the identity of a resumed session
    /// from the session. So a session must never be shared with another client, or outlive its certificate.
    pub(super) fn tls(&self, anonymous: &ClientConfig) -> Result<ClientConfig, rustls::Error> {
        let mut tls = anonymous.clone();
        let certified = certified_key(self.certificate.chain(), self.certificate.expose_key())?;
        tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        tls.resumption = Resumption::disabled();
        Ok(tls)
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for ClientIdentity {}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Makes what TLS signs with. Fails if the key cannot be used, or belongs to another certificate.
pub(super) fn certified_key(chain: &[Vec<u8>], key: &[u8]) -> Result<CertifiedKey, rustls::Error> {
    let chain = chain.iter().map(|one| CertificateDer::from(one.clone()));
    let key = PrivateKeyDer::try_from(key.to_vec());
    let key = key.map_err(|what| rustls::Error::General(what.to_owned()))?;
    CertifiedKey::from_der(chain.collect(), key, &aws_lc_rs::default_provider())
}
