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
    challenge::ChallengeDocument,
    exit::CommandFailure,
    output, progress,
    relay_client::{RelayArgs, RelayClient},
    watch_document::{WatchDocument, watch_id},
};

/// The text that stands for standard input.
const STANDARD_INPUT: &str = "-";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay answer wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q -
Example: basiq-relay answer wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q 1234 --key-file key.txt

With `-` the command reads the answer from standard input, one line for each text. So the answer is neither in the
shell's history nor in the list of processes. On a terminal the command asks for each input, and hides what you type.
Exit codes: 0 Basiq took the answer; 1 it did not, there is no such watch, or the relay is out of reach;
2 wrong usage, or the relay refused the request.")]
pub(super) struct AnswerArgs {
    /// Id of the watch.
    #[arg(value_name = "WATCH", value_parser = watch_id)]
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
    let texts = match given(args.texts)? {
        Some(texts) => texts,
        None if io::stdin().is_terminal() => ask(&prompts(&relay, args.watch).await)
            .context("the answer cannot be read from the terminal")?,
        None => piped().context("the answer cannot be read from standard input")?,
    };
    let answer = MfaAnswer::new(texts).ok_or_else(|| {
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

/// Returns the texts of the command line, or `None` if standard input has them.
fn given(texts: Vec<AnswerText>) -> Result<Option<Vec<String>>, CommandFailure> {
    let inputs = texts.iter().filter(|text| text.0 == STANDARD_INPUT).count();
    match (inputs, texts.len()) {
        (0, _) => Ok(Some(texts.into_iter().map(|text| text.0).collect())),
        (1, 1) => Ok(None),
        _ => Err(CommandFailure::usage(anyhow!(
            "`-` reads the whole answer from standard input; no other text may stand beside it"
        ))),
    }
}

/// Reads each line up to an empty one, or to the end.
fn piped() -> io::Result<Vec<String>> {
    let lines = io::stdin().lines();
    lines
        .take_while(|line| !matches!(line, Ok(line) if line.is_empty()))
        .collect()
}

/// Returns the inputs of the watch's open challenge. If it cannot be read, one text is asked for.
async fn prompts(relay: &RelayClient, watch: WatchId) -> Vec<String> {
    let path = format!("watch/{watch}");
    let reading = async {
        let watch: WatchDocument = relay.get(&path).await.ok()?;
        let event = watch.open_question()?;
        let read = ChallengeDocument::read(relay, &watch.id, &event.id).await;
        let prompts: Vec<_> = read.ok()??.prompts().collect();
        (!prompts.is_empty()).then_some(prompts)
    };
    let read = progress::shown("reading the challenge", reading).await;
    read.unwrap_or_else(|| vec!["answer".to_owned()])
}

/// Asks for each text on the terminal, which does not show what is typed.
fn ask(prompts: &[String]) -> io::Result<Vec<String>> {
    let hidden = HiddenInput::begin()?;
    let lines = prompts.iter().map(|prompt| {
        let mut err = io::stderr();
        write!(err, "{prompt} (not shown): ").and_then(|()| err.flush())?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    });
    let lines = lines.collect();
    drop(hidden);
    lines
}

/// Keeps a terminal from showing what is typed, until it is dropped. If the command is interrupted, the shell restores
/// its terminal.
struct HiddenInput {
    before: Termios,
}

impl HiddenInput {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // A terminal that went away needs no restoring.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.before).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_stands_alone_and_no_text_is_printed() {
        let of = |texts: &[&str]| given(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(of(&["12", "Hooli"]).unwrap().unwrap(), ["12", "Hooli"]);
        assert!(of(&["-"]).unwrap().is_none());
        for wrong in [&["-", "Hooli"][..], &["Hooli", "-"], &["-", "-"]] {
            let told = format!("{:?}", of(wrong).unwrap_err());
            assert!(
                told.contains("standard input") && !told.contains("Hooli"),
                "{told}"
            );
        }
        let text: AnswerText = "Hooli".parse().unwrap();
        assert_eq!(format!("{text:?}"), "***");
    }
}
