//! Why an attempt got no response, and the words for it.

use std::{error::Error, io};

use relay_domain::{AttemptError, CallbackAuthPart};
use relay_runtime::{causes, lacks_handles, lacks_resources};
use rustls::AlertDescription;

use super::reply::printable;
use crate::delivery::{connections::SendError, dialer::DialError};

/// What the detail of an attempt says first if the receiver refused the client certificate.
const CERTIFICATE_REFUSED: &str =
    "the receiver accepts only a client certificate that it trusts, and got none or another: ";

/// The reason why there is no response.
pub(super) enum Failure {
    NoPermit,
    NoResources(String),
    Attempt(AttemptFailure),
}

impl<E: Into<AttemptFailure>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Attempt(error.into())
    }
}

/// An attempt that got no response.
#[derive(Debug)]
pub(super) struct AttemptFailure {
    pub(super) error: AttemptError,
    pub(super) detail: Option<String>,
    /// Whether the client's certificate or headers are the cause: the receiver refused the certificate or wanted one,
    /// or they cannot be used. Such a failure says nothing bad about the host.
    pub(super) certificate_failed: bool,
}

impl AttemptFailure {
    pub(super) fn by(error: AttemptError, cause: &(dyn Error + 'static)) -> Self {
        Self {
            error,
            detail: Some(described(cause)),
            certificate_failed: false,
        }
    }

    /// The request was sent or was to be sent, and no response came.
    pub(super) fn of_sending(failure: &SendError) -> Self {
        let plain = Self {
            certificate_failed: matches!(failure, SendError::Dial(DialError::Certificate(_))),
            ..Self::by(kind_of(failure), failure)
        };
        if plain.error != AttemptError::Tls || !refuses_certificate(failure) {
            return plain;
        }
        Self {
            detail: plain
                .detail
                .map(|text| format!("{CERTIFICATE_REFUSED}{text}")),
            certificate_failed: true,
            ..plain
        }
    }

    /// The relay sent nothing, because it cannot read what the client's callbacks get.
    pub(super) fn unreadable_auth(part: CallbackAuthPart) -> Self {
        Self {
            error: AttemptError::Internal,
            detail: Some(format!(
                "the stored {part} of the client cannot be read; `client set-callback-auth` replaces or removes it"
            )),
            certificate_failed: true,
        }
    }

    /// The relay lacked a resource, so it sent nothing.
    pub(super) fn out_of_resources(cause: String) -> Self {
        Self {
            error: AttemptError::NoResources,
            detail: Some(cause),
            certificate_failed: false,
        }
    }
}

impl From<AttemptError> for AttemptFailure {
    fn from(error: AttemptError) -> Self {
        Self {
            error,
            detail: None,
            certificate_failed: false,
        }
    }
}

/// Describes an error and its causes. A cause is left out if the text before it already contains it.
fn described(error: &(dyn Error + 'static)) -> String {
    let mut told = Vec::<String>::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if !told.last().is_some_and(|last| last.contains(&text)) {
            told.push(text);
        }
    }
    printable(told.join(": ").as_bytes())
}

fn kind_of(error: &SendError) -> AttemptError {
    if lacks_resources(error) {
        return AttemptError::NoResources;
    }
    match error {
        SendError::Dial(DialError::Proxy(_)) => AttemptError::Proxy,
        SendError::Dial(DialError::Connect(_) | DialError::Tunnel(_)) => AttemptError::Connect,
        SendError::Dial(DialError::Name(_) | DialError::Certificate(_) | DialError::Tls(_))
        | SendError::Tls(_) => AttemptError::Tls,
        SendError::Broken(_) => AttemptError::Broken,
    }
}

/// Whether a name did not resolve because the relay has no file handle left. Resolvers only say that they failed, so
/// this tests for a free handle.
pub(super) fn is_resource_exhaustion(error: &io::Error) -> bool {
    lacks_resources(error) || lacks_handles()
}

/// Whether the receiver reported by a TLS alert that the client certificate is missing or not accepted. These alerts
/// rarely have another cause.
fn refuses_certificate(failure: &SendError) -> bool {
    let alert = match failure {
        SendError::Dial(DialError::Tls(error)) => {
            let inner = error.get_ref();
            inner.and_then(|inner| inner.downcast_ref::<rustls::Error>())
        }
        SendError::Tls(error) => Some(error),
        SendError::Dial(_) | SendError::Broken(_) => None,
    };
    matches!(
        alert,
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError
        ))
    )
}
