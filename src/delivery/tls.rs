//! The certificate authorities that are trusted for callbacks: the system's, and those that a deployment adds.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use thiserror::Error;

use crate::{config::DeliveryConfig, delivery::dialer::HTTP_2};

/// The reason why no delivery can be sent.
#[derive(Debug, Error)]
pub enum DeliveryError {
    /// `RELAY_CALLBACK_CA_FILE` cannot be read.
    #[error("RELAY_CALLBACK_CA_FILE: cannot read `{}`", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `RELAY_CALLBACK_CA_FILE` holds no usable certificate.
    #[error("RELAY_CALLBACK_CA_FILE: `{}` holds no certificate in PEM", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
    },
    /// TLS could not be set up.
    #[error("TLS for callbacks could not be set up")]
    Tls(#[source] rustls::Error),
}

/// Reads the certificates of additional trusted authorities from `RELAY_CALLBACK_CA_FILE`. Returns none if that is
/// not set. Fails if the file cannot be read, or if it holds no certificate or an unusable one.
pub fn further_certificates(
    config: &DeliveryConfig,
) -> Result<Vec<CertificateDer<'static>>, DeliveryError> {
    let Some(path) = config.ca_file.clone() else {
        return Ok(Vec::new());
    };
    let pem = std::fs::read(&path).map_err(|source| DeliveryError::CaFile {
        path: path.clone(),
        source,
    })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() && found.iter().all(is_usable) => Ok(found),
        Ok(_) | Err(_) => Err(DeliveryError::Certificates { path }),
    }
}

fn is_usable(certificate: &CertificateDer<'static>) -> bool {
    RootCertStore::empty().add(certificate.clone()).is_ok()
}

/// Builds the TLS configuration for callbacks.
pub(super) fn client_config(config: &DeliveryConfig) -> Result<ClientConfig, DeliveryError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let further = further_certificates(config)?;
    let verifier = Verifier::new_with_extra_roots(further, Arc::clone(&provider))
        .map_err(DeliveryError::Tls)?;
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(DeliveryError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![HTTP_2.to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
