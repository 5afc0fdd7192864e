//! Parses JSON from Basiq and tolerates encoding errors. Documents contain the bank's own text, and one bad
//! character in it must not hide the rest.

use serde_json::Value;

/// The character that replaces invalid text.
const REPLACEMENT: char = '\u{fffd}';
const BYTE_ORDER_MARK: char = '\u{feff}';
/// The length of an escape such as `\u00e9`, in bytes.
const ESCAPE: usize = 6;

/// Parses a document, and repairs encoding errors if the strict parser rejects it.
///
/// * A byte-order mark is skipped.
/// * Invalid UTF-8, lone surrogates and raw control characters in a string become U+FFFD.
/// * A number that no double can hold becomes null.
/// * If a key occurs twice, the last value counts.
///
/// Everything else must be valid JSON.
pub fn parse_leniently(document: &[u8]) -> Result<Value, serde_json::Error> {
    let text = String::from_utf8_lossy(document);
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    // Almost every document is valid and needs no second pass.
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&repair(text)))
}

/// Replaces the invalid parts of strings and numbers in a document.
fn repair(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_text = false;
    while let Some(first) = rest.chars().next() {
        let (taken, put) = match first {
            '\\' if in_text => escape(rest),
            _ if in_text && first.is_ascii_control() => (first.len_utf8(), Put::Replacement),
            '-' | '0'..='9' if !in_text => number(rest),
            _ => (first.len_utf8(), Put::Same),
        };
        in_text ^= first == '"';
        let (same, after) = rest.split_at(taken);
        match put {
            Put::Same => repaired.push_str(same),
            Put::Replacement => repaired.push(REPLACEMENT),
            Put::Null => repaired.push_str("null"),
        }
        rest = after;
    }
    repaired
}

/// The replacement of a part of the document.
enum Put {
    Same,
    Replacement,
    Null,
}

/// Returns the length of the escape at the start of a text, and its replacement.
fn escape(text: &str) -> (usize, Put) {
    match hex(text) {
        Some(0xd800..=0xdbff) => match text.get(ESCAPE..).and_then(hex) {
            Some(0xdc00..=0xdfff) => (2 * ESCAPE, Put::Same),
            _ => (ESCAPE, Put::Replacement),
        },
        Some(0xdc00..=0xdfff) => (ESCAPE, Put::Replacement),
        Some(_) => (ESCAPE, Put::Same),
        // For any other escape, the next character belongs to it, even a quotation mark.
        None => (text.chars().take(2).map(char::len_utf8).sum(), Put::Same),
    }
}

/// Returns the code unit of an escape such as `\u00e9` at the start of a text.
fn hex(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex
        .then(|| u16::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Returns the length of the number at the start of a text, and its replacement.
fn number(text: &str) -> (usize, Put) {
    let is_part = |c: &char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let taken = 1 + text.chars().skip(1).take_while(is_part).count();
    let is_beyond = text
        .get(..taken)
        .and_then(|number| number.parse::<f64>().ok())
        .is_some_and(f64::is_infinite);
    (taken, if is_beyond { Put::Null } else { Put::Same })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_text_can_hold_is_replaced_and_the_rest_stays() {
        let table: [(&[u8], Value); 12] = [
            (b"\xef\xbb\xbf{\"a\":1}", json!({"a": 1})),
            (br#"["\ud83d"]"#, json!(["\u{fffd}"])),
            (br#"["\ud83dx"]"#, json!(["\u{fffd}x"])),
            (br#"["\ude00\ud83d"]"#, json!(["\u{fffd}\u{fffd}"])),
            (br#"["\ud83d\ud83d\ude00"]"#, json!(["\u{fffd}\u{1f600}"])),
            (
                br#"["\\ud83d", "\"\ud83d"]"#,
                json!(["\\ud83d", "\"\u{fffd}"]),
            ),
            (b"[\"caf\xe9\"]", json!(["caf\u{fffd}"])),
            (b"[\"\xed\xa0\xbd\"]", json!(["\u{fffd}\u{fffd}\u{fffd}"])),
            (b"[\"a\nb\x00\"]", json!(["a\u{fffd}b\u{fffd}"])),
            (b"[1e999, -1e999, 1e-999, 7]", json!([null, null, 0.0, 7])),
            (br#"{"1e999":1e999}"#, json!({"1e999": null})),
            (br#"{"a":1,"a":2}"#, json!({"a": 2})),
        ];
        for (document, expected) in table {
            let parsed = parse_leniently(document);
            let shown = String::from_utf8_lossy(document);
            assert_eq!(parsed.unwrap(), expected, "{shown}");
        }
    }

    #[test]
    fn what_is_no_json_stays_so() {
        for document in [
            "",
            "<html>",
            "{",
            "[1,]",
            "{\"a\":1}x",
            "[\"\\u12g4\"]",
            "[\"\\",
            "[\"\\u",
            "-",
            "[NaN]",
        ] {
            parse_leniently(document.as_bytes()).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (lenient, strict) = (parse_leniently(&bytes), serde_json::from_slice::<Value>(&bytes));
            prop_assert!(strict.is_err() || lenient.ok() == strict.ok());
        }

        #[test]
        fn what_is_whole_is_read_as_it_stands(text in "\\PC{0,40}", number in any::<i64>()) {
            let whole = json!({ "text": text, "number": number });
            prop_assert_eq!(parse_leniently(whole.to_string().as_bytes()).unwrap(), whole.clone());
            prop_assert_eq!(serde_json::from_str::<Value>(&repair(&whole.to_string())).unwrap(), whole);
        }
    }
}
