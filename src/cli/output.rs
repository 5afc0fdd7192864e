//! Writes to standard output. A closed pipe is not an error.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, Write},
};

use anyhow::{Context, Result};

/// Writes one line.
pub(super) fn line(text: impl Display) -> Result<()> {
    line_if_read(text).map(drop)
}

/// Writes one line. Returns false if the reader has closed the pipe.
pub(super) fn line_if_read(text: impl Display) -> Result<bool> {
    let mut out = io::stdout().lock();
    is_read(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes a whole document unchanged.
pub(super) fn document(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    is_read(out.write_all(bytes).and_then(|()| out.flush())).map(drop)
}

/// Returns a number of things in words: `1 watch`, `2 watches`.
pub(super) fn counted<N: Display + Copy + PartialEq + From<u8>>(count: N, thing: &str) -> String {
    let ending = match thing {
        _ if count == N::from(1) => "",
        thing if thing.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{count} {thing}{ending}")
}

fn is_read(written: io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Replaces the characters in foreign text that a terminal could take as a command. These are control characters,
/// except line breaks, and characters that change the direction of text.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let harms = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(harms) {
        Cow::Owned(text.replace(harms, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_counted_in_words() {
        let told = [
            (0, "watch"),
            (1, "watch"),
            (2, "open watch"),
            (1, "client"),
            (7, "byte"),
        ]
        .map(|(count, thing)| counted(count, thing));
        assert_eq!(
            told,
            [
                "0 watches",
                "1 watch",
                "2 open watches",
                "1 client",
                "7 bytes"
            ]
        );
    }

    #[test]
    fn text_from_elsewhere_cannot_command_a_terminal() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\r\u{9b}c"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c"
        );
        assert_eq!(harmless("two\nlines"), "two\nlines");
        assert_eq!(harmless("لم يقبل"), "لم يقبل");
    }
}
