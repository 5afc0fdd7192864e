//! A client: a backend team with an API key and a signing secret.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use thiserror::Error;

use crate::{ApiKeyHash, CallbackAuth, ClientId, SigningSecret};

/// How long the previous signing secret still signs after a rotation.
pub const ROTATION_OVERLAP: Duration = Duration::from_hours(24);

/// A client as the store keeps it.
#[derive(Debug, Clone)]
pub struct Client {
    /// The id of the client inside the store.
    pub id: ClientId,
    /// The client's name, which is unique.
    pub name: ClientName,
    /// The hash of the client's API key.
    pub key_hash: ApiKeyHash,
    /// The secret that signs the client's events.
    pub signing_secret: SigningSecret,
    /// The secret before a rotation, which also signs until the time given.
    pub previous_secret: Option<(SigningSecret, Timestamp)>,
    /// What requests to the client's callbacks show beside the signature.
    pub callback_auth: CallbackAuth,
    /// When the client was added.
    pub created_at: Timestamp,
    /// When the client was revoked. Its key no longer works.
    pub revoked_at: Option<Timestamp>,
}

/// A client's name: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientName(String);

/// The text is not a valid client name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no client name: 1 to 64 of `A-Z a-z 0-9 . _ -` are allowed, but not `.` or `..` alone"
)]
pub struct ClientNameError(String);

impl ClientName {
    /// Parses the name of a client to add. In a URL, `.` and `..` mean a folder, so such a client could not be managed.
    pub fn parse_new(text: &str) -> Result<Self, ClientNameError> {
        match text {
            "." | ".." => Err(ClientNameError(text.to_owned())),
            _ => text.parse(),
        }
    }

    /// Returns the name as text.
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
