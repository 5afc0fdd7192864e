//! What the relay sends to a callback, derived from what the store has of an event and its attempts: the headers of an
//! attempt, and a command that posts an event again by hand. Pure.

use relay_domain::{Attempt, CallbackUrl, EventBody, EventId, visible_json};

use crate::console::words;

/// Returns the headers of an attempt. The store has no signatures, and each can be computed again only with the secret.
pub(super) fn headers(event: EventId, attempt: &Attempt) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let sent = attempt.started_at.as_second();
    format!(
        "content-type: application/json\nuser-agent: basiq-relay/{version}\nwebhook-id: {event}\n\
         webhook-timestamp: {sent}\nwebhook-signature: v1,… (not stored)"
    )
}

/// Returns a command for a POSIX shell that posts an event to its callback. It has no signature, and no query of the
/// callback, because backends put tokens there.
pub(super) fn curl(callback: &CallbackUrl, event: EventId, body: &EventBody) -> String {
    let json = serde_json::to_string(body).unwrap_or_default();
    let url = quoted(&words::without_query(callback));
    let json = quoted(&visible_json(&json));
    format!(
        "curl -X POST {url} \\\n  -H 'content-type: application/json' \\\n  -H 'webhook-id: {event}' \\\n  \
         -H \"webhook-timestamp: $(date +%s)\" \\\n  --data-raw {json}"
    )
}

/// Quotes a text for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_text_as_it_is() {
        for (text, expected) in [
            ("plain", "'plain'"),
            ("it's $HOME `id` \"x\" \\", r#"'it'\''s $HOME `id` "x" \'"#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
