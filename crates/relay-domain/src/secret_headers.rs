//! Static headers that a client's callbacks get. Their values are secrets.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use thiserror::Error;

/// The maximum number of headers.
const MOST: usize = 5;
/// The maximum number of characters of a name.
const LONGEST_NAME: usize = 64;

/// Names that a client cannot set: the relay sets them, or they steer the connection.
const RESERVED: [&str; 14] = [
    "baggage",
    "connection",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
/// The beginnings of further such names.
const RESERVED_PREFIXES: [&str; 3] = ["content-", "proxy-", "webhook-"];

/// Static headers: at most five, each with another name. `Debug` does not print the values. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SecretHeaders(Arc<[(HeaderName, HeaderValue)]>);

impl Default for SecretHeaders {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

/// The text does not have the form of static headers. The error has no part of a value, and a name only if it is
/// known to be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecretHeadersError {
    /// A line has no colon.
    #[error("line {0} has no colon; allowed is a line `Name: value` for each header")]
    NoColon(usize),
    /// A name has characters that no header has, or too many.
    #[error(
        "the name in line {0} is no header's; allowed are 1 to {LONGEST_NAME} letters, digits and `-`, `_`, `.`"
    )]
    Name(usize),
    /// The relay sets the header itself, or it steers the connection.
    #[error(
        "line {line}: `{name}` cannot be set; `content-*`, `webhook-*`, `proxy-*`, and headers of the connection or of \
         traces are the relay's own"
    )]
    Reserved {
        /// The line, counted from 1.
        line: usize,
        /// The name.
        name: &'static str,
    },
    /// A value has other characters, or too many.
    #[error(
        "the value in line {0} is none that can be sent; allowed are 1 to {longest} visible ASCII characters, with \
         spaces only between them",
        longest = SecretHeaders::LONGEST_VALUE
    )]
    Value(usize),
    /// Two lines have the same name.
    #[error("line {0} has the name of a line before it; each header is set once")]
    Duplicate(usize),
    /// There are too many headers.
    #[error("line {0} is one header too many; at most {MOST} are allowed")]
    TooMany(usize),
    /// There is no header.
    #[error("there is no header; allowed is a line `Name: value` for each, 1 to {MOST} of them")]
    Empty,
}

impl SecretHeaders {
    /// The maximum number of characters of a value.
    pub const LONGEST_VALUE: usize = 2048;

    /// Parses a line `Name: value` for each header. Empty lines and lines that begin with `#` are left out.
    pub fn parse(text: &str) -> Result<Self, SecretHeadersError> {
        let mut headers = Vec::<(HeaderName, HeaderValue)>::new();
        for (place, text) in text.lines().enumerate() {
            let (line, text) = (place + 1, text.trim());
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let header = header(line, text)?;
            if headers.iter().any(|(name, _)| *name == header.0) {
                return Err(SecretHeadersError::Duplicate(line));
            }
            if headers.len() == MOST {
                return Err(SecretHeadersError::TooMany(line));
            }
            headers.push(header);
        }
        if headers.is_empty() {
            return Err(SecretHeadersError::Empty);
        }
        Ok(Self(headers.into()))
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the headers with their values. Each value is marked as sensitive.
    pub fn expose(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// Takes headers that were stored. Their names and values only have to be well-formed, so that headers stay usable
    /// when a later version allows fewer. Returns none if one is not.
    #[must_use]
    pub fn from_stored(headers: &[(String, String)]) -> Option<Self> {
        let headers = headers.iter().map(|(name, value)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((name.parse().ok()?, value))
        });
        Some(Self(headers.collect::<Option<_>>()?))
    }

    /// Returns names and values, to store them.
    #[must_use]
    pub fn expose_to_store(&self) -> Vec<(&str, &str)> {
        // only visible ASCII was accepted
        let pairs = self.0.iter();
        pairs
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
            .collect()
    }

    /// Replaces each value in a text, such as an answer that repeats the request.
    #[must_use]
    pub fn redact(&self, text: String) -> String {
        let values = self.0.iter().filter_map(|(_, value)| value.to_str().ok());
        values.fold(text, |text, value| text.replace(value, "***"))
    }
}

fn header(line: usize, text: &str) -> Result<(HeaderName, HeaderValue), SecretHeadersError> {
    let (name, value) = text
        .split_once(':')
        .ok_or(SecretHeadersError::NoColon(line))?;
    let (name, value) = (name.trim_end().to_ascii_lowercase(), value.trim());
    if let Some(name) = reserved(&name) {
        return Err(SecretHeadersError::Reserved { line, name });
    }
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let parsed = name.parse().ok();
    let name = parsed
        .filter(|_| name.len() <= LONGEST_NAME && name.bytes().all(in_name))
        .ok_or(SecretHeadersError::Name(line))?;
    let in_value = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if !(1..=SecretHeaders::LONGEST_VALUE).contains(&value.len()) || !value.bytes().all(in_value) {
        return Err(SecretHeadersError::Value(line));
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| SecretHeadersError::Value(line))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Returns the reserved name, or the beginning of it, if the name is one.
fn reserved(name: &str) -> Option<&'static str> {
    let prefixes = RESERVED_PREFIXES.into_iter();
    let mut known = prefixes.filter(|prefix| name.starts_with(prefix));
    let exact = RESERVED.into_iter().find(|reserved| *reserved == name);
    exact.or_else(|| known.next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let headers = headers.iter();
        headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn stored_headers_are_read_though_they_are_reserved_by_now() {
        let stored = owned(&[("host", "app.example"), ("sealed1", "x")]);
        assert!(SecretHeaders::from_stored(&stored).is_some());
        for bad in [("a b", "x"), ("a", "x\ny")] {
            assert!(
                SecretHeaders::from_stored(&owned(&[bad])).is_none(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn values_are_replaced_in_a_text() {
        let headers = SecretHeaders::parse("A: one secret\nB: two").unwrap();
        let text = "got one secret, two and one secret".to_owned();
        assert_eq!(headers.redact(text), "got ***, *** and ***");
    }

    fn fault(text: &str) -> SecretHeadersError {
        SecretHeaders::parse(text).unwrap_err()
    }

    #[test]
    fn each_line_is_a_header_and_comments_are_left_out() {
        let text = "\n# for the gateway\nX-Api-Key: a secret:word\r\n\n authorization :Bearer x\n";
        let headers = SecretHeaders::parse(text).unwrap();
        let names: Vec<_> = headers.names().collect();
        assert_eq!(names, ["x-api-key", "authorization"]);
        let stored = headers.expose_to_store();
        let expected = [
            ("x-api-key", "a secret:word"),
            ("authorization", "Bearer x"),
        ];
        assert_eq!(stored, expected);
        assert!(headers.expose().all(|(_, value)| value.is_sensitive()));
        assert!(!format!("{headers:?}").contains("word"));
        let read = SecretHeaders::from_stored(&owned(&stored)).unwrap();
        assert_eq!(read.expose_to_store(), expected);
    }

    #[test]
    fn what_the_relay_or_the_connection_sets_is_refused() {
        for name in [
            "Content-Type",
            "content-length",
            "content-encoding",
            "Host",
            "connection",
            "transfer-encoding",
            "Webhook-Id",
            "webhook-signature",
            "user-agent",
            "traceparent",
            "tracestate",
            "proxy-authorization",
            "te",
            "trailer",
            "upgrade",
            "expect",
            "keep-alive",
        ] {
            let fault = fault(&format!("X-Good: 1\n{name}: word"));
            assert!(
                matches!(fault, SecretHeadersError::Reserved { line: 2, .. }),
                "{name}"
            );
            assert!(!fault.to_string().contains("word"), "{fault}");
        }
    }

    #[test]
    fn each_fault_names_its_line_and_never_the_value() {
        use SecretHeadersError as Fault;
        let many = (1..=6).map(|n| format!("x-{n}: word"));
        let many = many.collect::<Vec<_>>().join("\n");
        for (text, expected) in [
            ("", Fault::Empty),
            ("# word", Fault::Empty),
            ("word", Fault::NoColon(1)),
            (": word", Fault::Name(1)),
            ("\nx y: word", Fault::Name(2)),
            ("x\u{e9}: word", Fault::Name(1)),
            (":authority: word", Fault::Name(1)),
            (&format!("{}: word", "x".repeat(65)), Fault::Name(1)),
            ("x:", Fault::Value(1)),
            ("x: wor\u{7f}d", Fault::Value(1)),
            ("x: w\u{f6}rd", Fault::Value(1)),
            ("x: wo\trd", Fault::Value(1)),
            (&format!("x: {}", "w".repeat(2049)), Fault::Value(1)),
            ("x: word\nX: word", Fault::Duplicate(2)),
            (&many, Fault::TooMany(6)),
        ] {
            let fault = fault(text);
            assert_eq!(fault, expected, "{text}");
            assert!(!fault.to_string().contains("word"), "{fault}");
        }
        let longest = format!("{}: {}", "x".repeat(64), "w".repeat(2048));
        assert!(SecretHeaders::parse(&longest).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(.|\n){0,80}") {
            if let Ok(headers) = SecretHeaders::parse(&text) {
                prop_assert!(SecretHeaders::from_stored(&owned(&headers.expose_to_store())).is_some());
            }
        }
    }
}
