//! Keeps each log event on one line. Text from outside can neither start another line nor control a terminal.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// The control characters that a line may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlCharacters {
    /// Only the end of the line.
    None,
    /// Also colour escapes, which the formatter writes.
    Colours,
}

/// Creates writers that keep each log event on one line.
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

/// Writes a whole line at once, as the formatter passes it.
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

/// Escapes each control character, and each character that changes the direction of text.
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

/// Returns whether the text after an escape character sets a colour and does nothing else.
fn is_colour(rest: &str) -> bool {
    let numbers = rest.strip_prefix('[').and_then(|rest| rest.split_once('m'));
    numbers.is_some_and(|(numbers, _)| numbers.bytes().all(|byte| byte.is_ascii_digit()))
}
