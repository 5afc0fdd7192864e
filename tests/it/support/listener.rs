//! Reads a stream of server-sent events, as a browser's `EventSource` does.

use std::time::Duration;

use serde_json::Value;

/// The time-out for the next event.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open stream.
pub(crate) struct Listener {
    answer: reqwest::Response,
    buffer: String,
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) event: String,
    pub(crate) id: Option<String>,
    /// The data as text.
    pub(crate) text: String,
    pub(crate) retry: Option<String>,
}

impl Said {
    pub(crate) fn data(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

impl Listener {
    /// Reads the body of a response as a stream.
    pub(crate) fn to(answer: reqwest::Response) -> Self {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self {
            answer,
            buffer: String::new(),
        }
    }

    /// Returns the next event, or `None` when the stream is closed.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        let next = tokio::time::timeout(PATIENCE, self.read());
        next.await.expect("an event or the end comes")
    }

    async fn read(&mut self) -> Option<Said> {
        loop {
            let said = self.buffered();
            if said.is_some() {
                return said;
            }
            let chunk = self.answer.chunk().await.unwrap()?;
            self.buffer.push_str(str::from_utf8(&chunk).unwrap());
        }
    }

    /// Takes the first complete event from the buffer. Skips comments.
    fn buffered(&mut self) -> Option<Said> {
        let mut said = None;
        while let Some((block, rest)) = self.buffer.split_once("\n\n").filter(|_| said.is_none()) {
            let (parsed, rest) = (parse(block), rest.to_owned());
            self.buffer = rest;
            said = parsed;
        }
        said
    }

    /// Returns the next event with this name. Skips the events before it.
    pub(crate) async fn next_named(&mut self, name: &str) -> Said {
        loop {
            let said = self.next().await.expect("the stream goes on");
            if said.event == name {
                return said;
            }
        }
    }

    /// Returns the names of all events until the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(said) = self.next().await {
            names.push(said.event);
        }
        names
    }
}

/// Parses an event. Returns `None` for a comment.
fn parse(block: &str) -> Option<Said> {
    let field = |name: &str| {
        let mut lines = block.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.map(str::to_owned)
    };
    Some(Said {
        event: field("event")?,
        id: field("id"),
        text: field("data")?,
        retry: field("retry"),
    })
}
