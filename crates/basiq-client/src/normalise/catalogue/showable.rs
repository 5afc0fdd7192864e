//! Checks whether a text can be shown to a person unchanged.

/// The maximum length of a text that overrides a built-in one, in characters.
pub(super) const MAX_MESSAGE: usize = 500;

/// Returns whether a text is not blank, not too long and on one line, and does not change the direction of text
/// around it.
pub(super) fn is_showable(text: &str) -> bool {
    let length = text.chars().count();
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    !text.trim().is_empty()
        && length <= MAX_MESSAGE
        && !text.contains(breaks)
        && keeps_its_direction(text)
}

/// Returns whether every directional isolate is closed. The older directional controls, which reverse letters
/// or affect the text that follows, are not allowed.
fn keeps_its_direction(text: &str) -> bool {
    let mut open = 0_usize;
    for letter in text.chars() {
        match letter {
            '\u{2066}'..='\u{2068}' => open += 1,
            '\u{2069}' => match open.checked_sub(1) {
                Some(left) => open = left,
                None => return false,
            },
            '\u{202a}'..='\u{202e}' => return false,
            _ => {}
        }
    }
    open == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line_and_leaves_the_direction_around_it_alone() {
        for good in [
            "Done.",
            "تم.",
            "اتصل بـ \u{2068}Harbour Bank\u{2069} الآن.",
            "\u{200f}تم.",
            &"x".repeat(MAX_MESSAGE),
        ] {
            assert!(is_showable(good), "{good:?}");
        }
        for bad in [
            "",
            " \u{3000}",
            "two\nlines",
            "two\u{2028}lines",
            "an \u{2068}open isolate",
            "an isolate closed\u{2069} only",
            "turned \u{202e}around\u{202c}",
            "\u{202b}embedded",
            &"x".repeat(MAX_MESSAGE + 1),
        ] {
            assert!(!is_showable(bad), "{bad:?}");
        }
    }
}
