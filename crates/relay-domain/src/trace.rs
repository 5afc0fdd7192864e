//! A position in a distributed trace, in the format of W3C Trace Context.

use std::fmt;

/// The version that the relay writes. Of later versions it reads only the parts that version 0 has too.
const VERSION: u64 = 0;

/// The version that the specification forbids.
const FORBIDDEN_VERSION: u64 = 0xff;

/// The flags that have a meaning: the trace is recorded, and its id is random.
const SAMPLED: u8 = 0b01;
const KNOWN_FLAGS: u8 = 0b11;

/// The value of a `traceparent` header: a trace, and the span in it that asked for this work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceContext {
    /// Makes a position in a trace. Returns none if an id is zero, which the specification forbids.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        let flags = flags & KNOWN_FLAGS;
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            flags,
        })
    }

    /// Parses a `traceparent` value. Returns none if the value is not valid; the caller then treats it as absent.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let mut next = |digits| hex(parts.next()?, digits);
        let (version, trace_id) = (next(2)?, next(32)?);
        let (span_id, flags) = (next(16)?, next(2)?);
        let has_more = parts.next().is_some();
        if version == u128::from(FORBIDDEN_VERSION) || (version == u128::from(VERSION) && has_more)
        {
            return None;
        }
        Self::new(trace_id, span_id.try_into().ok()?, flags.try_into().ok()?)
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// Returns the id of the span that asked for the work.
    #[must_use]
    pub fn span_id(self) -> u64 {
        self.span_id
    }

    /// Returns the flags of the trace.
    #[must_use]
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// Returns whether the caller may have recorded the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Writes the value of a `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
        } = self;
        write!(
            to,
            "{VERSION:02x}-{trace_id:032x}-{span_id:016x}-{flags:02x}"
        )
    }
}

/// Parses a number of exactly this many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let well_formed = text.len() == digits && text.bytes().all(is_digit);
    well_formed
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_valid_one_is_read_and_written() {
        let text = format!("00-{TRACE}-{SPAN}-01");
        let context = TraceContext::parse(&text).unwrap();
        assert_eq!(
            context.trace_id(),
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736
        );
        assert_eq!(context.span_id(), 0x00f0_67aa_0ba9_02b7);
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), text);
        let unsampled = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-02")).unwrap();
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn a_later_version_is_read_by_what_is_known_of_it() {
        for later in ["cc-{}-01", "01-{}-09-more", "fe-{}-01-"] {
            let text = later.replace("{}", &format!("{TRACE}-{SPAN}"));
            let context = TraceContext::parse(&text).unwrap();
            assert_eq!(context.to_string(), format!("00-{TRACE}-{SPAN}-01"));
        }
    }

    #[test]
    fn what_is_not_valid_is_none() {
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(TraceContext::parse(&bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(trace: u128, span: u64, flags: u8) {
            if let Some(context) = TraceContext::new(trace, span, flags) {
                prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let read = TraceContext::parse(&text);
            prop_assert!(read.is_none_or(|context| context.to_string().len() == 55));
        }
    }
}
