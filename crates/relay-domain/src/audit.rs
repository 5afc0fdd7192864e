//! Operators, and what they do: the words of the audit log.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

use crate::{ClientId, outcome::closed_words};

closed_words! {
    /// What an operator did.
    AuditAct {
        /// A client was added. The subject is its name.
        ClientAdded => "client-added",
        /// A client got a new signing secret.
        SecretRotated => "secret-rotated",
        /// The previous signing secret of a client was ended early.
        SecretRetired => "secret-retired",
        /// A client got a new API key.
        KeyRotated => "key-rotated",
        /// A client was revoked, and its open watches were cancelled.
        ClientRevoked => "client-revoked",
        /// A client got a certificate or headers for its callbacks.
        CallbackAuthSet => "callback-auth-set",
        /// The certificate, the headers, or both of a client were removed.
        CallbackAuthCleared => "callback-auth-cleared",
        /// A test event was posted to a URL. The subject is the client's name and the URL without its query.
        CallbackTested => "callback-tested",
        /// The secrets of all clients were encrypted again.
        SecretsReencrypted => "secrets-reencrypted",
        /// A watch was cancelled. The subject is its id.
        WatchCancelled => "watch-cancelled",
        /// An event was queued again. The subject is the id of the watch or of the delivery.
        Redelivered => "redelivered",
        /// All dead deliveries since a time were queued again. The subject is that time.
        DeadRedelivered => "dead-redelivered",
        /// Chosen dead deliveries were queued again. The subject is the filter that chose them.
        ChosenRedelivered => "chosen-redelivered",
        /// A callback host was paused until somebody resumes it. The subject is the host.
        HostPaused => "host-paused",
        /// A callback host that an operator had paused was resumed. The subject is the host.
        HostResumed => "host-resumed",
        /// A subscription was ended. The subject is its id.
        SubscriptionEnded => "subscription-ended",
        /// The data of a person or a connection were erased. The subject is `user:` or `connection:` and the id.
        Erased => "erased",
        /// An operator logged in to the console.
        LoggedIn => "logged-in",
        /// A log-in to the console was refused.
        LogInFailed => "log-in-failed",
        /// An operator logged out of the console.
        LoggedOut => "logged-out",
        /// SIGHUP reloaded the secrets. The subject names the ones that changed.
        Reloaded => "reloaded",
        /// SIGHUP changed nothing, because the settings were unusable.
        ReloadFailed => "reload-failed",
    }
}

/// The maximum number of characters of an operator's name.
const LONGEST: usize = 64;

/// Who did something: an operator of `RELAY_ADMIN_TOKENS`, or one of the names that the relay gives itself.
///
/// Only names from the settings are parsed. A name that the relay gives itself is none of them, so that nobody can
/// take it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OperatorName(String);

/// The text is not a name that an operator can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OperatorNameError {
    /// The text has another length or other characters.
    #[error("a name has 1 to {LONGEST} of `A-Z a-z 0-9 . _ -`")]
    Malformed,
    /// The relay gives this name itself.
    #[error("the names `admin`, `cli`, `signal` and `unknown` are the relay's own")]
    Reserved,
}

const ADMIN: &str = "admin";
const COMMAND_LINE: &str = "cli";
const SIGNAL: &str = "signal";
const UNKNOWN: &str = "unknown";

impl OperatorName {
    /// Returns the name of the operator with `RELAY_ADMIN_TOKEN`.
    #[must_use]
    pub fn admin() -> Self {
        Self(ADMIN.to_owned())
    }

    /// Returns the name for a command that works on the store, such as `cli:ops`. `user` is the user of the operating
    /// system. The name has only visible characters, and a limited length.
    #[must_use]
    pub fn command_line(user: &str) -> Self {
        let visible = user.chars().filter(|letter| !letter.is_control());
        let user: String = visible.take(LONGEST).collect();
        if user.is_empty() {
            return Self(COMMAND_LINE.to_owned());
        }
        Self(format!("{COMMAND_LINE}:{user}"))
    }

    /// Returns the name for a signal, whose sender nobody knows.
    #[must_use]
    pub fn signal() -> Self {
        Self(SIGNAL.to_owned())
    }

    /// Returns the name for somebody without a valid token.
    #[must_use]
    pub fn unknown() -> Self {
        Self(UNKNOWN.to_owned())
    }

    /// Returns the name in an audit entry. It is taken as it is.
    #[must_use]
    pub fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OperatorName {
    type Err = OperatorNameError;

    fn from_str(text: &str) -> Result<Self, OperatorNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=LONGEST).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(OperatorNameError::Malformed);
        }
        if [ADMIN, COMMAND_LINE, SIGNAL, UNKNOWN].contains(&text) {
            return Err(OperatorNameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Who acts, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who acts.
    pub operator: OperatorName,
    /// The address of the peer, as the relay knows it: behind a proxy it is the proxy's. None for commands and signals.
    pub from: Option<IpAddr>,
}

/// Who asks the store for a change: a client, to which only its own things exist, or an operator, to whom everything
/// does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requester {
    /// A client.
    Client(ClientId),
    /// An operator. The change is recorded in the audit log.
    Operator(Actor),
}

impl Requester {
    /// Returns the client whose things exist to this caller, or none if those of all clients do.
    #[must_use]
    pub fn owner(&self) -> Option<ClientId> {
        match self {
            Self::Client(client) => Some(*client),
            Self::Operator(_) => None,
        }
    }

    /// Returns the operator, if it is one.
    #[must_use]
    pub fn operator(&self) -> Option<&Actor> {
        match self {
            Self::Client(_) => None,
            Self::Operator(actor) => Some(actor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_cannot_take_a_name_of_the_relay() {
        for good in ["alice", "Bob.Smith-2", "admin2", "CLI", &"x".repeat(64)] {
            assert_eq!(
                good.parse().map(|name: OperatorName| name.0),
                Ok(good.into())
            );
        }
        for own in ["admin", "cli", "signal", "unknown"] {
            let refused = own.parse::<OperatorName>();
            assert_eq!(refused, Err(OperatorNameError::Reserved), "{own}");
        }
        for bad in ["", "a b", "cli:root", "é", "a\n", &"x".repeat(65)] {
            let refused = bad.parse::<OperatorName>();
            assert_eq!(refused, Err(OperatorNameError::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_command_has_the_name_of_its_user() {
        for (user, name) in [("ops", "cli:ops"), ("", "cli"), ("a\nb", "cli:ab")] {
            assert_eq!(OperatorName::command_line(user).as_str(), name);
        }
        let long = OperatorName::command_line(&"é".repeat(100));
        assert_eq!(long.as_str().chars().count(), 4 + 64);
    }
}
