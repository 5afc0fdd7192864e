//! Asks before a command does what cannot be undone.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, anyhow};

use crate::cli::exit::CommandFailure;

/// Asks a question on a terminal. Fails with `refusal` unless the reply is yes. Scripts, whose standard input is no
/// terminal, are not asked.
pub(super) fn confirm(question: &str, refusal: &str) -> Result<(), CommandFailure> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut err = io::stderr();
    write!(err, "{question} [y/N] ")
        .and_then(|()| err.flush())
        .context("cannot ask on standard error; --yes does it without a question")?;
    let mut reply = String::new();
    io::stdin()
        .read_line(&mut reply)
        .context("cannot read the reply")?;
    match reply.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CommandFailure::failed(anyhow!(refusal.to_owned()))),
    }
}
