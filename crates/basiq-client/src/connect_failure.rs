//! Why no response came from Basiq: the kind of the failure, and the whole chain of causes.

use std::{error::Error, io};

use relay_domain::ErrorChain;
use thiserror::Error;

/// The kind of a connection failure between the relay and Basiq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The connection was refused: no process listens on the port.
    Refused,
    /// The host name does not resolve to an address.
    UnknownName,
    /// There is no route to the address.
    NoRoute,
    /// The TLS handshake failed: the certificate is not trusted, or the server does not speak TLS.
    Tls,
    /// The connection was not established in time.
    TimedOut,
    /// The connection broke.
    Broken,
    /// Any other failure.
    Other,
}

impl ConnectFailure {
    /// Returns the name of the kind in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::UnknownName => "unknown-name",
            Self::NoRoute => "no-route",
            Self::Tls => "tls",
            Self::TimedOut => "timed-out",
            Self::Broken => "broken",
            Self::Other => "other",
        }
    }

    /// Returns what is wrong, in words for an operator.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Refused => "the connection is refused",
            Self::UnknownName => "its name does not resolve to an address",
            Self::NoRoute => "there is no route to its address",
            Self::Tls => "the TLS handshake fails",
            Self::TimedOut => "no connection is established in time",
            Self::Broken => "the connection breaks",
            Self::Other => "it cannot be reached",
        }
    }
}

/// Why no response came. The message is the chain of causes, each named once.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{chain}")]
pub struct ConnectError {
    obstacle: ConnectFailure,
    chain: String,
}

impl ConnectError {
    /// Derives the kind and the message from an error and its sources.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let chain = ErrorChain(error).to_string();
        let obstacle = causes(error).filter_map(failure_of).last();
        Self {
            // Errors of the resolver have no type of their own, so the text decides.
            obstacle: obstacle.unwrap_or_else(|| failure_by_text(&chain)),
            chain,
        }
    }

    /// Returns the kind of the failure.
    #[must_use]
    pub fn kind(&self) -> ConnectFailure {
        self.obstacle
    }
}

/// Iterates over an error and its sources, outermost first.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn failure_of(error: &(dyn Error + 'static)) -> Option<ConnectFailure> {
    if error.is::<rustls::Error>() {
        return Some(ConnectFailure::Tls);
    }
    let error = error.downcast_ref::<io::Error>()?;
    // `source` does not return the error that an I/O error wraps.
    let inner: Option<&(dyn Error + 'static)> = match error.get_ref() {
        Some(inner) => Some(inner),
        None => None,
    };
    if let Some(obstacle) = inner.and_then(failure_of) {
        return Some(obstacle);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(ConnectFailure::Refused),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => Some(ConnectFailure::NoRoute),
        io::ErrorKind::TimedOut => Some(ConnectFailure::TimedOut),
        io::ErrorKind::UnexpectedEof if error.to_string().contains("tls") => {
            Some(ConnectFailure::Tls)
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(ConnectFailure::Broken),
        _ => None,
    }
}

fn failure_by_text(chain: &str) -> ConnectFailure {
    let chain = chain.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| chain.contains(part));
    if says(&[
        "dns error",
        "lookup",
        "name or service not known",
        "resolve",
    ]) {
        ConnectFailure::UnknownName
    } else if says(&["certificate", "tls", "handshake"]) {
        ConnectFailure::Tls
    } else if says(&["timed out"]) {
        ConnectFailure::TimedOut
    } else if says(&[
        "connection closed",
        "incomplete",
        "canceled",
        "connection error",
    ]) {
        ConnectFailure::Broken
    } else {
        ConnectFailure::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Box<dyn Error + Send + Sync>);

    fn layered(source: impl Into<Box<dyn Error + Send + Sync>>) -> Layer {
        Layer(
            "a request failed",
            Box::new(Layer("connect", source.into())),
        )
    }

    #[test]
    fn the_innermost_cause_says_what_stands_in_the_way() {
        let tls = rustls::Error::General("a certificate".to_owned());
        for (source, expected) in [
            (io::Error::from(io::ErrorKind::ConnectionRefused), "refused"),
            (io::Error::from(io::ErrorKind::ConnectionReset), "broken"),
            (io::Error::from(io::ErrorKind::HostUnreachable), "no-route"),
            (io::Error::from(io::ErrorKind::TimedOut), "timed-out"),
            (
                io::Error::new(io::ErrorKind::InvalidData, tls.clone()),
                "tls",
            ),
            (
                io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls)),
                "tls",
            ),
            (
                io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"),
                "tls",
            ),
            (
                io::Error::other("failed to lookup address information"),
                "unknown-name",
            ),
            (io::Error::other("who knows"), "other"),
        ] {
            let shown = source.to_string();
            let unreached = ConnectError::of(&layered(source));
            assert_eq!(unreached.kind().as_str(), expected, "{shown}");
        }
    }
}
