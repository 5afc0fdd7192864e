//! How a command ends: its exit code, and one line with the error.

use relay_domain::ErrorChain;
use relay_store::postgres::OpenError;
use std::{io::Write, process::ExitCode};

/// The exit code of a command that failed: a port is in use, or a database is out of reach.
const FAILED: u8 = 1;
/// The exit code for wrong usage or configuration.
pub(super) const USAGE: u8 = 2;

/// The reason why a command ends with an exit code other than 0.
#[derive(Debug)]
pub(super) struct CommandFailure {
    code: u8,
    error: anyhow::Error,
}

impl CommandFailure {
    /// The command could not do its work.
    pub(super) fn failed(error: anyhow::Error) -> Self {
        Self {
            code: FAILED,
            error,
        }
    }

    /// The command was called or configured in a wrong way.
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: USAGE,
            error: error.into(),
        }
    }

    /// Prints the error on standard error and returns the exit code. If standard error is closed, the code is 1.
    pub(super) fn report(self) -> ExitCode {
        let written = writeln!(
            std::io::stderr(),
            "error: {}",
            ErrorChain(self.error.as_ref())
        );
        if written.is_err() {
            ExitCode::from(FAILED)
        } else {
            ExitCode::from(self.code)
        }
    }
}

impl From<anyhow::Error> for CommandFailure {
    fn from(error: anyhow::Error) -> Self {
        let unusable = error.downcast_ref::<OpenError>();
        if unusable.is_some_and(OpenError::is_configuration) {
            Self::usage(error)
        } else {
            Self::failed(error)
        }
    }
}
