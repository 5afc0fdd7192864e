//! A client: a backend team with an API key and a signing secret.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use thiserror::Error;

use crate::domain::{ApiKeyHash, ClientId, SigningSecret};

/// How long the signing secret before a rotation signs beside the new one.
pub const ROTATION_OVERLAP: Duration = Duration::from_hours(24);

/// A client as the store keeps it.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its id inside the store.
    pub id: ClientId,
    /// Its name, unique.
    pub name: ClientName,
    /// The hash of its API key.
    pub key_hash: ApiKeyHash,
    /// Signs its events.
    pub signing_secret: SigningSecret,
    /// Signs its events as well until the time given, after a rotation.
    pub previous_secret: Option<(SigningSecret, Timestamp)>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was revoked; its key no longer works.
    pub revoked_at: Option<Timestamp>,
}

/// A client's name: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientName(String);

/// Text that cannot be a client's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no client name: 1 to 64 of `A-Z a-z 0-9 . _ -` are allowed")]
pub struct ClientNameError(String);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientName {
    type Err = ClientNameError;

    fn from_str(text: &str) -> Result<Self, ClientNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ClientNameError(text.to_owned()))
        }
    }
}
