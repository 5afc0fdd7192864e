//! `basiq-relay answer`: sends the person's answer to a challenge by a running relay. Nothing here prints the answer.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    str::FromStr,
};

use anyhow::{Context, anyhow};
use relay_domain::{MfaAnswer, WatchId};
use reqwest::Method;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use crate::cli::{
    exit::CommandFailure,
    output, progress,
    relay_client::{RelayArgs, RelayClient},
};

/// The text that stands for standard input.
const STANDARD_INPUT: &str = "-";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay answer wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q -
Example: basiq-relay answer wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q 1234 --key-file key.txt

The text `-` reads the answer from standard input, one line for each text, up to an empty line. Then it is neither
in the shell's history nor in the list of processes. A terminal does not show what is typed.
Exit codes: 0 Basiq took the answer; 1 it did not, there is no such watch, or the relay is out of reach;
2 wrong usage, or the relay refused the request.")]
pub(super) struct AnswerArgs {
    /// Id of the watch.
    #[arg(value_name = "WATCH")]
    watch: WatchId,
    /// One text for each input of the challenge, in their order; `-` reads them from standard input.
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<AnswerText>,
    #[command(flatten)]
    relay: RelayArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A text of the command line that is never printed.
#[derive(Clone)]
struct AnswerText(String);

impl fmt::Debug for AnswerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for AnswerText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

pub(super) async fn run(args: AnswerArgs) -> Result<(), CommandFailure> {
    let relay = RelayClient::new(&args.relay)?;
    let answer = MfaAnswer::new(texts(args.texts)?).ok_or_else(|| {
        CommandFailure::usage(anyhow!(
            "an answer has 1 to {} texts, each of 1 to {} characters",
            MfaAnswer::MOST_TEXTS,
            MfaAnswer::LONGEST_TEXT
        ))
    })?;
    let body = json!({ "response": answer.expose().collect::<Vec<_>>() });
    let path = format!("watch/{}/mfa", args.watch);
    let sending = relay.order(Method::POST, &path, Some(&body));
    progress::shown("waiting for Basiq", sending).await?;
    if args.json {
        let told = json!({ "watchId": args.watch, "accepted": true });
        return Ok(output::line(told)?);
    }
    Ok(output::line(format!(
        "Basiq took the answer; see what becomes of it: {}",
        relay.command_line("show", &args.watch.to_string())
    ))?)
}

/// Returns the texts of the answer.
fn texts(given: Vec<AnswerText>) -> Result<Vec<String>, CommandFailure> {
    let is_input = |text: &AnswerText| text.0 == STANDARD_INPUT;
    match given.as_slice() {
        [only] if is_input(only) => {
            let read = read_lines().context("the answer cannot be read from standard input");
            Ok(read?)
        }
        several if several.iter().any(is_input) => Err(CommandFailure::usage(anyhow!(
            "`-` reads the whole answer from standard input; no other text may stand beside it"
        ))),
        _ => Ok(given.into_iter().map(|text| text.0).collect()),
    }
}

/// Reads lines up to an empty one. A terminal does not show them.
fn read_lines() -> io::Result<Vec<String>> {
    let hidden = HiddenInput::begin()?;
    let lines = io::stdin().lines();
    let lines = lines.take_while(|line| !matches!(line, Ok(line) if line.is_empty()));
    let read = lines.collect();
    drop(hidden);
    read
}

/// Keeps a terminal from showing what is typed, until it is dropped. If the command is interrupted, the shell restores
/// its terminal.
struct HiddenInput {
    before: Option<Termios>,
}

impl HiddenInput {
    fn begin() -> io::Result<Self> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Ok(Self { before: None });
        }
        let before = tcgetattr(&input)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&input, OptionalActions::Flush, &silent)?;
        let asked = "answer, a line for each text (not shown), then an empty line:";
        // If standard error is closed, nobody reads the question.
        drop(writeln!(io::stderr(), "{asked}"));
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that went away needs no restoring.
            tcsetattr(io::stdin(), OptionalActions::Flush, before).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_stands_alone_and_no_text_is_printed() {
        let given = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let texts_of = |all: &[&str]| texts(given(all));
        assert_eq!(texts_of(&["12", "Hooli"]).unwrap(), ["12", "Hooli"]);
        for wrong in [&["-", "Hooli"][..], &["Hooli", "-"]] {
            let failure = texts_of(wrong).unwrap_err();
            let told = format!("{failure:?}");
            assert!(told.contains("standard input") && !told.contains("Hooli"), "{told}");
        }
        let text: AnswerText = "Hooli".parse().unwrap();
        assert_eq!(format!("{text:?}"), "***");
    }
}
