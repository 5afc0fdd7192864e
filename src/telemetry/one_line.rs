//! Keeps each log line on its line: a text from outside can neither begin another nor steer a terminal.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// The control characters that a line may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlCharacters {
    /// None but the end of the line.
    None,
    /// Those that set a colour as well: the formatter writes them.
    Colours,
}

/// Makes writers whose lines are single ones.
#[derive(Debug, Clone)]
pub(super) struct OneLineWriter<M> {
    pub(super) inner: M,
    pub(super) controls: ControlCharacters,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLineWriter<M> {
    type Writer = LineWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter {
            inner: self.inner.make_writer(),
            controls: self.controls,
        }
    }
}

/// Writes a whole line at once, as the formatter hands it over.
pub(super) struct LineWriter<W> {
    inner: W,
    controls: ControlCharacters,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (body, end) = match text.strip_suffix('\n') {
            Some(body) => (body, "\n"),
            None => (&*text, ""),
        };
        let clean = escaped(body, self.controls) + end;
        self.inner.write_all(clean.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The text with each control character, and each that turns its direction round, as an escape.
fn escaped(text: &str, controls: ControlCharacters) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let is_plain = match character {
            '\u{1b}' => controls == ControlCharacters::Colours && is_colour(rest.as_str()),
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
            other => !other.is_control(),
        };
        if is_plain {
            clean.push(character);
        } else {
            clean.extend(character.escape_default());
        }
    }
    clean
}

/// Whether an escape that goes on so sets a colour, and does nothing else.
fn is_colour(rest: &str) -> bool {
    let numbers = rest.strip_prefix('[').and_then(|rest| rest.split_once('m'));
    numbers.is_some_and(|(numbers, _)| numbers.bytes().all(|byte| byte.is_ascii_digit()))
}
