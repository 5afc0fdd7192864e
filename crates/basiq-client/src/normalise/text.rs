//! Makes text from Basiq and banks safe to store: cleans and shortens it, and gives codes one spelling.

use std::iter;

/// The maximum length of a bank's text, in characters.
pub(crate) const MAX_TEXT: usize = 1000;
/// The maximum length of a code, title, status, id or similar short text, in characters.
pub(crate) const MAX_WORD: usize = 128;

/// Returns `text` without control characters, trimmed, and at most `max` characters long.
///
/// Line ends and tabs become spaces. Bidirectional control characters are removed too, because they can make a
/// log or a page show something else.
pub(crate) fn clean(text: &str, max: usize) -> String {
    let cleaned: String = text
        .trim_start()
        .chars()
        .filter_map(|c| match c {
            '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            _ if c.is_control() => None,
            _ => Some(c),
        })
        .skip_while(|c| c.is_whitespace())
        .take(max)
        .collect();
    cleaned.trim_end().to_owned()
}

/// The error codes of OAuth and OpenID Connect, which some banks send when a person consents. They have
/// underscores, and their meaning differs from that of Basiq's codes with the same letters.
const OAUTH_WORDS: [&str; 14] = [
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "login_required",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
];

/// Returns the OAuth error code that a text consists of, or `None` for any other text.
pub(crate) fn oauth_word(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let mut words = OAUTH_WORDS.into_iter();
    words.find(|word| text.eq_ignore_ascii_case(word))
}

/// Returns a code in its canonical spelling, at most 128 characters long, or `None` for an empty code.
///
/// An OAuth error code stays as it is. Any other code becomes lower case. Hyphens replace the spaces and
/// underscores that Basiq also uses, and `unauthorised` and similar words are spelt like `unauthorized`.
pub(crate) fn canonical_code(text: &str) -> Option<String> {
    match oauth_word(text) {
        Some(word) => Some(word.to_owned()),
        None => in_one_spelling(text),
    }
}

fn in_one_spelling(text: &str) -> Option<String> {
    let words = text
        .split(|c: char| c.is_whitespace() || matches!(c, '-' | '_'))
        .map(|word| word.chars().filter(|c| !c.is_control()))
        .flat_map(|word| iter::once('-').chain(word))
        .map(|c| c.to_ascii_lowercase());
    let mut code = String::new();
    for c in words.filter(|c| !c.is_whitespace()) {
        if c != '-' || !(code.is_empty() || code.ends_with('-')) {
            code.push(c);
        }
        if code.len() > 4 * MAX_WORD {
            break;
        }
    }
    let code: String = code
        .replace("authoris", "authoriz")
        .chars()
        .take(MAX_WORD)
        .collect();
    let code = code.trim_end_matches('-');
    (!code.is_empty()).then(|| code.to_owned())
}

/// Returns a step title or a status in one spelling, for comparisons. Returns an empty text if nothing is left.
pub(crate) fn canonical_word(text: &str) -> String {
    in_one_spelling(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_loses_its_controls_and_its_excess() {
        assert_eq!(
            clean(" \u{0}Access\u{1b}[2J\r\ndenied\u{202e} ", 100),
            "Access[2J  denied"
        );
        assert_eq!(clean(&"ü".repeat(2000), MAX_TEXT).chars().count(), 1000);
    }

    #[test]
    fn a_code_has_one_spelling() {
        for (written, canonical) in [
            ("service-unavailable", Some("service-unavailable")),
            ("Service unavailable", Some("service-unavailable")),
            ("service_unavailable", Some("service-unavailable")),
            (" SERVICE  UNAVAILABLE\n", Some("service-unavailable")),
            ("unauthorised_access", Some("unauthorized-access")),
            ("Unauthorised access", Some("unauthorized-access")),
            ("access_denied", Some("access_denied")),
            (" Access_Denied ", Some("access_denied")),
            ("access-denied", Some("access-denied")),
            ("Access denied", Some("access-denied")),
            ("access_denied_twice", Some("access-denied-twice")),
            ("server_error", Some("server_error")),
            ("", None),
            (" - ", None),
        ] {
            assert_eq!(canonical_code(written).as_deref(), canonical, "{written:?}");
        }
        let long = canonical_code(&"long code ".repeat(1000)).unwrap();
        assert!(long.len() <= 128 && !long.ends_with('-'), "{long}");
    }

    proptest! {
        #[test]
        fn canonicalising_a_code_twice_changes_nothing(
            text in "([a-zA-Z _\\-]{0,40}(un)?authori[sz]ed){0,12}|\\PC{0,300}|(?s).{0,300}"
        ) {
            if let Some(once) = canonical_code(&text) {
                prop_assert!(once.chars().count() <= MAX_WORD);
                prop_assert_eq!(canonical_code(&once), Some(once.clone()));
            }
        }

        #[test]
        fn cleaned_text_is_clean_short_and_stays_so(text in "(?s).{0,300}", max in 1_usize..200) {
            let once = clean(&text, max);
            prop_assert!(once.chars().count() <= max);
            prop_assert!(!once.chars().any(char::is_control));
            prop_assert_eq!(clean(&once, max), once.clone());
        }
    }
}
