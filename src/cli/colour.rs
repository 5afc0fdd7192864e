//! Colours for a terminal. There are none for other outputs, or where `NO_COLOR` is set.

use std::{
    fmt::Display,
    io::{self, IsTerminal},
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const NOTABLE: Style = AnsiColor::Yellow.on_default();
const PATIENT: Style = AnsiColor::Blue.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Paints text, or leaves it unchanged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Painter {
    on: bool,
}

impl Painter {
    /// Leaves all text unchanged.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { on: false };

    /// Returns the painter that suits standard output and the environment.
    pub(super) fn detect() -> Self {
        let out = io::stdout();
        // A file or a pipe stays plain even where CLICOLOR_FORCE asks for colours.
        let on = out.is_terminal() && AutoStream::choice(&out) != ColorChoice::Never;
        Self { on }
    }

    pub(super) fn bold(self, text: impl Display) -> String {
        self.wrap(BOLD, text)
    }

    pub(super) fn dim(self, text: impl Display) -> String {
        self.wrap(DIM, text)
    }

    pub(super) fn good(self, text: impl Display) -> String {
        self.wrap(GOOD, text)
    }

    pub(super) fn bad(self, text: impl Display) -> String {
        self.wrap(BAD, text)
    }

    pub(super) fn notable(self, text: impl Display) -> String {
        self.wrap(NOTABLE, text)
    }

    /// Paints a status or state in its colour, padded to at least `width` characters.
    pub(super) fn standing(self, word: &str, width: usize) -> String {
        self.wrap(style_of(word), format!("{word:<width$}"))
    }

    /// Paints the HTTP status of a response.
    pub(super) fn http_status(self, status: u16) -> String {
        let style = if (200..300).contains(&status) {
            GOOD
        } else {
            NOTABLE
        };
        self.wrap(style, status)
    }

    fn wrap(self, style: Style, text: impl Display) -> String {
        if self.on {
            format!("{style}{text}{style:#}")
        } else {
            text.to_string()
        }
    }
}

/// Returns the style of an event status, a step status, or a state of a watch or delivery. A word that this version
/// does not know stays plain.
fn style_of(word: &str) -> Style {
    match word {
        "success" | "delivered" => GOOD,
        "failed" | "cancelled" | "dead" | "expired" => BAD,
        "action-required" | "awaiting-user" => NOTABLE,
        "delayed" => PATIENT,
        "pending" | "skipped" | "superseded" => DIM,
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_colour_and_keeps_its_width() {
        let paint = Painter { on: true };
        for (word, expected) in [
            ("success", "\u{1b}[32msuccess        \u{1b}[0m"),
            ("failed", "\u{1b}[31mfailed         \u{1b}[0m"),
            ("action-required", "\u{1b}[33maction-required\u{1b}[0m"),
            ("delayed", "\u{1b}[34mdelayed        \u{1b}[0m"),
            ("some-day", "some-day       "),
        ] {
            assert_eq!(paint.standing(word, 15), expected);
        }
        assert_eq!(paint.dim("09:14"), "\u{1b}[2m09:14\u{1b}[0m");
        assert_eq!(paint.http_status(204), "\u{1b}[32m204\u{1b}[0m");
        assert_eq!(paint.http_status(500), "\u{1b}[33m500\u{1b}[0m");
    }

    #[test]
    fn nothing_is_painted_where_no_colour_is_wanted() {
        let plain = Painter::PLAIN;
        let texts = [plain.bold("a"), plain.bad("b"), plain.standing("failed", 8)];
        assert_eq!(texts, ["a", "b", "failed  "]);
        // The test runner captures the output.
        assert!(!Painter::detect().on || io::stdout().is_terminal());
    }
}
