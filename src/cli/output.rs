//! Writes to standard output, where a closed pipe is a quiet end, and tells a person at a terminal how far
//! something is.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
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

/// Work that takes less is not told of.
const LONG: Duration = Duration::from_secs(1);

/// How often it is told how far work is.
const BEAT: Duration = Duration::from_millis(200);

/// One line on standard error that says how far long work is; only if that is a terminal.
#[derive(Debug)]
pub(super) struct Ticker {
    on: bool,
    next: Instant,
    is_shown: bool,
}

impl Ticker {
    /// For work that begins now.
    pub(super) fn start() -> Self {
        Self {
            on: io::stderr().is_terminal(),
            next: Instant::now() + LONG,
            is_shown: false,
        }
    }

    /// Shows how far it is, in place of what was shown before.
    pub(super) fn show(&mut self, text: impl Display) {
        if self.on && Instant::now() >= self.next {
            self.next = Instant::now() + BEAT;
            self.is_shown = true;
            self.write(text);
        }
    }

    /// The work has ended: nothing is shown any more.
    pub(super) fn end(mut self) {
        if self.is_shown {
            self.write("");
        }
    }

    /// In place of the line before. A terminal that is gone is told nothing more.
    fn write(&mut self, text: impl Display) {
        let mut out = io::stderr().lock();
        let written = write!(out, "\r{text}\u{1b}[K").and_then(|()| out.flush());
        self.on = written.is_ok();
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
