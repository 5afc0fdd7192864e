//! What people at a terminal need: lines that fit its width, and local times.

use std::io::{self, IsTerminal};

use jiff::{Timestamp, tz::TimeZone};

/// The width below which lines are not wrapped.
const NARROWEST: usize = 40;

/// How text is shown to a person: the width of the terminal, and the time zone.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    /// `None` for a file or a pipe. Lines are not wrapped there.
    width: Option<usize>,
    zone: TimeZone,
}

impl Screen {
    /// Returns the screen of standard output, with the time zone of the environment.
    pub(super) fn detect() -> Self {
        let out = io::stdout();
        let size = out
            .is_terminal()
            .then(|| rustix::termios::tcgetwinsize(&out));
        let width = size.and_then(Result::ok).map(|size| size.ws_col.into());
        Self {
            width,
            zone: TimeZone::system(),
        }
    }

    /// Returns a screen that shows times in UTC.
    #[cfg(test)]
    pub(super) fn utc(width: Option<usize>) -> Self {
        Self {
            width,
            zone: TimeZone::UTC,
        }
    }

    /// Returns the local time of day.
    pub(super) fn time(&self, at: Timestamp) -> String {
        self.format(at, "%H:%M:%S")
    }

    /// Returns the local date and time.
    pub(super) fn date_time(&self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    /// Returns the local date and time with the difference from UTC.
    pub(super) fn moment(&self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S %:z")
    }

    /// Returns the difference of local time from UTC, such as `+10:00`.
    pub(super) fn offset(&self, at: Timestamp) -> String {
        self.format(at, "%:z")
    }

    fn format(&self, at: Timestamp, format: &str) -> String {
        at.to_zoned_datetime(self.zone.clone())
            .strftime(format)
            .to_string()
    }

    /// Breaks lines that are wider than the terminal. Each further line begins with `indent` spaces.
    pub(super) fn fit(&self, text: &str, indent: usize) -> String {
        match self.width {
            Some(width) if width >= NARROWEST.max(2 * indent) => {
                let lines = text.split('\n').map(|line| wrap(line, width, indent));
                lines.collect::<Vec<_>>().join("\n")
            }
            _ => text.to_owned(),
        }
    }

    /// Cuts a line that, with `others` more columns, would be wider than the terminal.
    pub(super) fn clip(&self, line: &str, others: usize) -> String {
        match self.width.map(|width| width.saturating_sub(others)) {
            Some(room) if columns(line) > room => {
                let mut taken = 0;
                let fits = |letter: &char| {
                    taken += columns(letter.encode_utf8(&mut [0; 4]));
                    taken < room
                };
                line.chars().take_while(fits).collect::<String>() + "…"
            }
            _ => line.to_owned(),
        }
    }
}

/// Returns how long something took: `12 ms`, or `15.0 s` from a second on.
pub(super) fn took(millis: u64) -> String {
    if millis < 1000 {
        return format!("{millis} ms");
    }
    let tenths = millis.saturating_add(50) / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// Breaks one line at spaces. A word that is wider than a line stays whole, so that it can be copied.
fn wrap(line: &str, width: usize, indent: usize) -> String {
    let (mut wrapped, mut column) = (String::new(), 0);
    let mut rest = line;
    while !rest.is_empty() {
        let spaces = rest.len() - rest.trim_start_matches(' ').len();
        let end = rest
            .get(spaces..)
            .and_then(|word| word.find(' '))
            .map_or(rest.len(), |length| spaces + length);
        let (piece, after) = rest.split_at(end);
        let word = piece.trim_start_matches(' ');
        let needed = spaces + columns(word);
        if column > indent && !word.is_empty() && column + needed > width {
            wrapped = wrapped + "\n" + &" ".repeat(indent) + word;
            column = indent + columns(word);
        } else {
            wrapped.push_str(piece);
            column += needed;
        }
        rest = after;
    }
    wrapped
}

/// Returns the columns that a text takes on a terminal. Codes of colours take none, East Asian characters take two.
pub(super) fn columns(text: &str) -> usize {
    let (mut columns, mut is_code) = (0, false);
    for letter in text.chars() {
        match letter {
            '\u{1b}' => is_code = true,
            'm' if is_code => is_code = false,
            _ if is_code => {}
            '\u{1100}'..='\u{115f}'
            | '\u{2e80}'..='\u{a4cf}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{ff00}'..='\u{ff60}'
            | '\u{1f300}'..='\u{1faff}' => columns += 2,
            _ => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal_and_stay_whole_in_a_pipe() {
        let text = "09:14:30  event    1 failed  verify-credentials\nYour bank did not accept these login details.";
        let narrow = Screen::utc(Some(40)).fit(text, 10);
        assert_eq!(
            narrow,
            "09:14:30  event    1 failed\n          verify-credentials\n\
             Your bank did not accept these login\n          details."
        );
        assert_eq!(Screen::utc(None).fit(text, 10), text);
        assert_eq!(Screen::utc(Some(20)).fit(text, 10), text, "too narrow");
        let word = "a".repeat(90);
        assert_eq!(Screen::utc(Some(80)).fit(&word, 4), word);
    }

    #[test]
    fn what_took_a_second_is_told_in_seconds() {
        let told = [0, 999, 1000, 1049, 1050, 15_004].map(took);
        assert_eq!(
            told,
            ["0 ms", "999 ms", "1.0 s", "1.0 s", "1.1 s", "15.0 s"]
        );
    }

    #[test]
    fn a_line_that_must_stay_one_is_cut() {
        let screen = Screen::utc(Some(20));
        assert_eq!(screen.clip("waiting for: a bank", 12), "waiting…");
        assert_eq!(screen.clip("waiting", 12), "waiting");
        assert_eq!(
            Screen::utc(None).clip("waiting for: a bank", 12),
            "waiting for: a bank"
        );
    }

    #[test]
    fn colours_take_no_columns_and_wide_characters_two() {
        assert_eq!(columns("\u{1b}[31mfailed\u{1b}[0m"), 6);
        assert_eq!(columns("銀行"), 4);
        let painted = format!("{} \u{1b}[31m{}\u{1b}[0m", "a".repeat(20), "b".repeat(19));
        assert_eq!(Screen::utc(Some(40)).fit(&painted, 2), painted);
        let wider = format!("{painted}c");
        let wrapped = Screen::utc(Some(40)).fit(&wider, 2);
        assert_eq!(wrapped.lines().count(), 2, "{wrapped:?}");
    }

    #[test]
    fn times_are_those_of_the_zone() {
        let at: Timestamp = "2026-11-23T09:14:28.5Z".parse().unwrap();
        let sydney = Screen {
            width: None,
            zone: TimeZone::posix("AEST-10AEDT,M10.1.0,M4.1.0/3").unwrap(),
        };
        assert_eq!(sydney.time(at), "20:14:28");
        assert_eq!(sydney.moment(at), "2026-11-23 20:14:28 +11:00");
        assert_eq!(sydney.date_time(at), "2026-11-23 20:14:28");
        assert_eq!(sydney.offset(at), "+11:00");
    }
}
