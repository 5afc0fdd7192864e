//! Parses the settings of the log.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, value::Allowed};

/// The levels of log lines.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Words that other programs have for levels.
const NO_LEVELS: [&str; 10] = [
    "all", "critical", "err", "fatal", "false", "none", "notice", "true", "verbose", "warning",
];

/// Parses a filter of log lines.
pub(crate) fn log_filter(text: &str) -> Result<String, Allowed> {
    let allowed = "a tracing filter is allowed, such as info or info,basiq_relay=debug";
    if text.trim().is_empty() {
        return Err(allowed.to_owned());
    }
    // a filter takes such a word for the name of a module, and then nothing is logged
    let words = text.split(',').map(|word| word.trim().to_ascii_lowercase());
    if words.into_iter().any(|word| is_no_level(&word)) {
        return Err(format!(
            "it is no level; {allowed}; levels are {}",
            LEVELS.join(", ")
        ));
    }
    EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_owned())
        .map_err(|_| allowed.to_owned())
}

/// Returns whether a word is a level of other programs, or a level with one letter too many, too few or in the wrong
/// place.
fn is_no_level(word: &str) -> bool {
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let distance = |level: &str| strsim::damerau_levenshtein(level, word);
    is_word && (NO_LEVELS.contains(&word) || LEVELS.iter().any(|level| distance(level) == 1))
}

/// Parses `text` or `json`.
pub(super) fn log_format(text: &str) -> Result<LogFormat, Allowed> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json is allowed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_levels_and_not_the_words_of_other_programs() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,",
            "info,basiq_relay=debug",
            "warn,sqlx",
            "h2",
        ] {
            assert_eq!(log_filter(good).as_deref(), Ok(good));
        }
        for bad in ["", "warning", " Verbose ", "infos", "warn,debgu", "info,=,"] {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }
}
