//! Writes to standard output, where a closed pipe is a quiet end.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anyhow::{Context, Result};

/// Writes one line.
pub(super) fn line(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// Colours for a terminal, and none for anything else or where `NO_COLOR` is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// As standard output and the environment want it.
    pub(super) fn detect() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            on: io::stdout().is_terminal() && !refused,
        }
    }

    pub(super) fn bold(self, text: impl Display) -> String {
        self.wrap("1", text)
    }

    pub(super) fn dim(self, text: impl Display) -> String {
        self.wrap("2", text)
    }

    pub(super) fn good(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    pub(super) fn bad(self, text: impl Display) -> String {
        self.wrap("31", text)
    }

    pub(super) fn notable(self, text: impl Display) -> String {
        self.wrap("33", text)
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }
}
