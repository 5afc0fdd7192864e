//! How a command ends: exit codes and the one line that says why.

use std::{io::Write, process::ExitCode};

use crate::{domain::ErrorChain, store::postgres::OpenError};

/// The command failed: a port in use, a database out of reach.
const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub(super) const USAGE: u8 = 2;

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub(super) struct CommandFailure {
    code: u8,
    error: anyhow::Error,
}

impl CommandFailure {
    /// It could not be done.
    pub(super) fn failed(error: anyhow::Error) -> Self {
        Self {
            code: FAILED,
            error,
        }
    }

    /// It was asked for wrongly.
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: USAGE,
            error: error.into(),
        }
    }

    /// Says why on standard error. Nothing more can be done if that is closed.
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
