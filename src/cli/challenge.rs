//! A challenge that waits for the person's answer, read from the stream of a watch, and how to answer it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cli::{
    output::harmless,
    relay_client::{RelayCallError, RelayClient},
    terminal::Screen,
};

/// What the bank asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChallengeDocument {
    method: String,
    description: String,
    inputs: Vec<String>,
    expires_at: Option<Timestamp>,
    respond_to: Option<String>,
}

/// The part of an event's body that matters here.
#[derive(Debug, Deserialize)]
struct WholeEvent {
    challenge: Option<ChallengeDocument>,
}

impl ChallengeDocument {
    /// Reads the challenge of an event. Only the stream of a watch has whole events.
    pub(super) async fn read(
        relay: &RelayClient,
        watch_id: &str,
        event_id: &str,
    ) -> Result<Option<Self>, RelayCallError> {
        let path = format!("watch/{watch_id}/stream");
        let found = relay
            .read_stream(&path, |message| data_of(message, event_id))
            .await?;
        let event: Option<WholeEvent> = found.and_then(|data| serde_json::from_str(&data).ok());
        Ok(event.and_then(|event| event.challenge))
    }

    /// Returns a prompt for each expected text, in order.
    pub(super) fn prompts(&self) -> impl Iterator<Item = String> {
        self.inputs.iter().map(|input| one_line(input))
    }

    /// Describes the challenge in lines that fit the screen and are indented by `indent` spaces.
    pub(super) fn describe(&self, screen: &Screen, indent: usize) -> String {
        let until = self
            .expires_at
            .map(|at| format!(", until {}", screen.time(at)))
            .unwrap_or_default();
        let asked = format!(
            "the bank asks: {} ({}{until})",
            one_line(&self.description),
            one_line(&self.method)
        );
        let inputs = self.prompts().enumerate();
        let inputs = inputs.map(|(index, input)| format!("  {}. {input}", index + 1));
        let lines = std::iter::once(asked).chain(inputs).map(|line| {
            let line = format!("{:indent$}{line}", "");
            screen.fit(&line, indent + 2)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Says how to answer a challenge.
pub(super) fn how_to_answer(command: &str) -> String {
    format!("answer it: {command} -")
}

fn one_line(text: &str) -> String {
    harmless(text).replace('\n', " ")
}

/// Returns the data of a message of a stream, if its id is `id`.
fn data_of(message: &str, id: &str) -> Option<String> {
    let field = |name: &str| {
        let mut lines = message.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let is_meant = field("id").is_some_and(|found| found.trim() == id);
    is_meant
        .then(|| field("data"))
        .flatten()
        .map(|data| data.trim_start().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge() -> ChallengeDocument {
        serde_json::from_value(serde_json::json!({
            "method": "token", "description": "Enter the code\u{1b}[2J sent to xxx-123.",
            "inputs": ["Code"], "expiresAt": "2026-11-23T09:16:28Z", "respondTo": null, "of": "a later version",
        }))
        .unwrap()
    }

    #[test]
    fn a_challenge_is_told_in_lines_that_fit() {
        let told = challenge().describe(&Screen::utc(Some(60)), 2);
        assert_eq!(
            told,
            "  the bank asks: Enter the code\u{fffd}[2J sent to xxx-123. (token,\n    until 09:16:28)\n    1. Code"
        );
    }

    #[test]
    fn only_the_message_of_the_event_is_read() {
        let message = "id: evt_1\nevent: job.action-required\ndata: {\"a\":\"id: evt_2\"}";
        assert_eq!(data_of(message, "evt_1").unwrap(), "{\"a\":\"id: evt_2\"}");
        assert_eq!(data_of(message, "evt_2"), None);
        assert_eq!(data_of("event: progress\ndata: {}", "evt_1"), None);
    }
}
