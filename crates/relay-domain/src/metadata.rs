//! The metadata that a client attaches to a watch. Each event returns it as the text that the client wrote.
//!
//! Parsing JSON into numbers and maps and writing it again changes the text. Large numbers are rounded, `1.10`
//! becomes `1.1`, keys change their order, and of two equal keys the first is lost. The relay must not make such
//! changes.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;
use thiserror::Error;

/// The maximum size in bytes, without spaces and with each character unescaped where JSON allows it.
pub const MAX_METADATA: usize = 4096;

/// The maximum nesting depth. The parsers of receivers fail at some depth; the strictest in wide use fails beyond
/// this one.
const MAX_DEPTH: usize = 120;

/// A JSON object as the client wrote it, on one line.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Metadata(Box<RawValue>);

/// Why a JSON text is not valid metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// The value is not an object.
    #[error("must be an object")]
    NotAnObject,
    /// The text is longer than [`MAX_METADATA`]. The number is its size in bytes.
    #[error("must be at most {MAX_METADATA} bytes as JSON, is {0}")]
    TooLong(usize),
    /// The nesting is deeper than receivers can be expected to read.
    #[error("must be nested at most {MAX_DEPTH} levels deep")]
    TooDeep,
    /// A string contains half of a character, such as `\ud83d` alone.
    #[error("must not have half of a character (a surrogate without the other)")]
    HalfACharacter,
}

impl Metadata {
    /// Makes metadata from a JSON text. Removes only line breaks and the spaces around them.
    pub fn of(value: &RawValue) -> Result<Self, MetadataError> {
        let text = value.get();
        if !text.starts_with('{') {
            return Err(MetadataError::NotAnObject);
        }
        let Extent { bytes, depth } = Extent::of(text)?;
        if bytes > MAX_METADATA {
            return Err(MetadataError::TooLong(bytes));
        }
        if depth > MAX_DEPTH {
            return Err(MetadataError::TooDeep);
        }
        // a JSON string cannot contain a line break, so each line break is between two tokens
        let lines = text
            .split(['\n', '\r'])
            .map(|line| line.trim_matches([' ', '\t']));
        RawValue::from_string(lines.collect())
            .map(Self)
            .map_err(|_| MetadataError::NotAnObject)
    }

    /// Returns the metadata as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Returns whether the object has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let inside = self.as_str().trim_start_matches('{').trim_end_matches('}');
        inside.trim().is_empty()
    }
}

/// Makes a JSON text safe to show to a person. Escapes invisible characters and characters that change the direction
/// of text. The JSON value stays the same, because such characters occur only in strings.
#[must_use]
pub fn visible_json(json: &str) -> String {
    let mut visible = String::with_capacity(json.len());
    for character in json.chars() {
        let is_hidden = match character {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
            '\t' | '\n' => false,
            other => other.is_control(),
        };
        if is_hidden {
            // all these characters are below U+10000
            let escape = format!("\\u{:04x}", u32::from(character));
            visible.push_str(&escape);
        } else {
            visible.push(character);
        }
    }
    visible
}

impl Default for Metadata {
    fn default() -> Self {
        Self(RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Accepts a stored object without the checks of [`Metadata::of`].
impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        if value.get().starts_with('{') {
            Ok(Self(value))
        } else {
            Err(D::Error::custom(MetadataError::NotAnObject))
        }
    }
}

/// The size of a JSON text, independent of its spaces and escapes.
struct Extent {
    bytes: usize,
    depth: usize,
}

impl Extent {
    fn of(json: &str) -> Result<Self, MetadataError> {
        let (mut bytes, mut level, mut depth) = (0, 0_usize, 0);
        let mut rest = json;
        while let Some(first) = rest.chars().next() {
            let end = if first == '"' {
                end_of_text(rest)
            } else {
                first.len_utf8()
            };
            let (token, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            rest = after;
            match first {
                ' ' | '\t' | '\n' | '\r' => continue,
                '{' | '[' => level += 1,
                '}' | ']' => level = level.saturating_sub(1),
                _ => {}
            }
            depth = depth.max(level);
            bytes += if first == '"' {
                length_of_text(token)?
            } else {
                end
            };
        }
        Ok(Self { bytes, depth })
    }
}

/// Returns where the string at the start of `json` ends, in bytes.
fn end_of_text(json: &str) -> usize {
    let mut is_escaped = false;
    let end = json.bytes().enumerate().skip(1).find(|(_, byte)| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

/// Returns the length of a string in bytes, written with as few escapes as JSON allows.
fn length_of_text(token: &str) -> Result<usize, MetadataError> {
    let text: String = serde_json::from_str(token).map_err(|_| MetadataError::HalfACharacter)?;
    let written = serde_json::to_string(&text).map_err(|_| MetadataError::HalfACharacter)?;
    Ok(written.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> Result<Metadata, MetadataError> {
        Metadata::of(&serde_json::from_str::<Box<RawValue>>(text).unwrap())
    }

    #[test]
    fn it_comes_back_as_it_was_written() {
        for text in [
            r#"{"n":12345678901234567890123456789,"m":-0,"x":1.10,"y":1E400,"z":0.1000000000000000055511151231257827}"#,
            r#"{"b":1,"a":2,"b":3}"#,
            r#"{ "a" : [ 1 , 2 ], "t":"\u0041\/\ud83d\ude00 and 😀" }"#,
            r#"{"":{"":[]}}"#,
        ] {
            let metadata = read(text).unwrap();
            assert_eq!(metadata.as_str(), text);
            assert_eq!(serde_json::to_string(&metadata).unwrap(), text);
            let stored: Metadata = serde_json::from_str(text).unwrap();
            assert_eq!(stored, metadata);
        }
    }

    #[test]
    fn it_is_one_line() {
        let written = "{\n    \"a\": [\r\n\t1,\n\t2\n  ],\r  \"b\": \"x  \\n  y\"\n}";
        let kept = read(written).unwrap();
        assert_eq!(kept.as_str(), r#"{"a": [1,2],"b": "x  \n  y"}"#);
    }

    #[test]
    fn its_size_is_that_of_its_content() {
        let spaces = " ".repeat(5000);
        for (text, expected) in [
            (format!("{{{spaces}\"a\"{spaces}:1}}"), Ok(())),
            (format!("{{\"a\":\"{}\"}}", "x".repeat(4088)), Ok(())),
            (
                format!("{{\"a\":\"{}\"}}", "x".repeat(4089)),
                Err(MetadataError::TooLong(4097)),
            ),
            // 3 bytes each when unescaped
            (format!("{{\"a\":\"{}\"}}", "\\u4e2d".repeat(1362)), Ok(())),
            (
                format!("{{\"a\":\"{}\"}}", "\\u4e2d".repeat(1363)),
                Err(MetadataError::TooLong(4097)),
            ),
        ] {
            assert_eq!(read(&text).map(|_| ()), expected);
        }
    }

    #[test]
    fn what_receivers_may_not_read_is_refused() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(119)).is_ok());
        assert_eq!(read(&nested(120)), Err(MetadataError::TooDeep));
        for text in [
            r#"{"a":"\ud83d"}"#,
            r#"{"\ude00":1}"#,
            r#"{"a":["x\ud83dx"]}"#,
        ] {
            assert_eq!(read(text), Err(MetadataError::HalfACharacter), "{text}");
        }
        for text in ["[]", "null", "\"{}\"", "7"] {
            assert_eq!(read(text), Err(MetadataError::NotAnObject), "{text}");
            assert!(serde_json::from_str::<Metadata>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_shown_as_an_escape_that_means_the_same() {
        let kept = read("{\"a\u{202e}\":\"\u{80}\u{7f}é😀\"}").unwrap();
        assert_eq!(
            visible_json(kept.as_str()),
            r#"{"a\u202e":"\u0080\u007fé😀"}"#
        );
        let value: Value = serde_json::from_str(kept.as_str()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&visible_json(kept.as_str())).unwrap(),
            value
        );
    }

    #[test]
    fn nothing_in_it_is_an_empty_object() {
        assert_eq!(Metadata::default().as_str(), "{}");
        assert!(Metadata::default().is_empty() && read("{ \n }").unwrap().is_empty());
        assert!(!read(r#"{"":{}}"#).unwrap().is_empty());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_means_the_same_and_is_as_long_as_its_shortest_text(value in values(), pretty: bool) {
            let object = json!({ "v": value });
            let text = if pretty {
                serde_json::to_string_pretty(&object).unwrap()
            } else {
                object.to_string()
            };
            prop_assert_eq!(Extent::of(&text).unwrap().bytes, object.to_string().len());
            if let Ok(kept) = read(&text) {
                prop_assert!(!kept.as_str().contains(['\n', '\r']));
                prop_assert_eq!(serde_json::from_str::<Value>(kept.as_str()).unwrap(), object);
            }
        }
    }
}
