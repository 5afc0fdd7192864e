//! Deliberate faults: how they are written, and which of them a call meets.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

/// What goes wrong on purpose, and for how many of the calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// The share of calls that meet the fault, from 0 to 1.
    pub rate: f64,
}

/// The kinds of deliberate faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// The call is answered with 429, and with `Retry-After` if a number of seconds is given. Basiq does not document
    /// whether it sends that header.
    TooManyRequests {
        /// The value of `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// The call is answered with 403, and a text that mentions a limit.
    Limit,
    /// The call is answered with this status: 500, 502, 503 or 504.
    Status(u16),
    /// The answer is delayed by this time.
    Slow(Duration),
    /// The answer never comes.
    Hang,
    /// The answer comes in small pieces, with this time between two pieces.
    Drip(Duration),
    /// The answer's JSON ends in the middle.
    Broken,
    /// The answer's JSON is larger than any normal answer.
    Oversize,
    /// Every token is answered as expired, even a new one.
    Expired,
    /// Every token is answered as unknown.
    Revoked,
    /// No API key is accepted for a new token.
    WrongKey,
    /// The bank is unavailable for everybody: its connector says `major-outage`, and its new jobs fail.
    Outage(String),
}

/// The default delay of a slow answer.
const SLOW: Duration = Duration::from_secs(3);
/// The default time between two pieces of a dripping answer.
const DRIP: Duration = Duration::from_millis(500);

/// Why a text is no valid fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultError {
    /// The text has no known name of a fault.
    #[error("`{0}` is no fault; {ALLOWED}")]
    Unknown(String),
    /// The value does not fit the fault.
    #[error("`{0}`: the value does not fit; {ALLOWED}")]
    Value(String),
    /// The rate is not a share above 0 and at most 1.
    #[error("`{0}`: the rate after `:` is a number above 0, at most 1")]
    Rate(String),
    /// An outage has a rate, although it does not depend on calls.
    #[error("`{0}`: an outage has no rate, the bank is down or it is not")]
    OutageRate(String),
}

/// The allowed faults, for messages and help.
pub const ALLOWED: &str = "allowed are `429`, `429=SECONDS` (with Retry-After), `403-limit`, \
     `500`, `502`, `503`, `504`, `slow`, `slow=MS`, `hang`, `drip`, `drip=MS`, `broken`, \
     `oversize`, `expired`, `revoked`, `wrong-key`, each with a rate such as `429:0.2` if not every \
     call should meet it, and `outage=BANK` such as `outage=AU00000`";

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (rest, rate) = match text.split_once(':') {
            Some((rest, rate)) => (rest, Some(parse_rate(text, rate)?)),
            None => (text, None),
        };
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (rest, None),
        };
        let kind = match value {
            None => without_value(name),
            Some(value) => with_value(name, value),
        };
        let kind = kind.ok_or_else(|| {
            if NAMES.contains(&name) {
                FaultError::Value(text.to_owned())
            } else {
                FaultError::Unknown(text.to_owned())
            }
        })?;
        if rate.is_some() && matches!(kind, FaultKind::Outage(_)) {
            return Err(FaultError::OutageRate(text.to_owned()));
        }
        Ok(Self {
            kind,
            rate: rate.unwrap_or(1.0),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::TooManyRequests { retry_after: None } => f.write_str("429")?,
            FaultKind::TooManyRequests {
                retry_after: Some(seconds),
            } => write!(f, "429={seconds}")?,
            FaultKind::Limit => f.write_str("403-limit")?,
            FaultKind::Status(status) => write!(f, "{status}")?,
            FaultKind::Slow(by) => write!(f, "slow={}", by.as_millis())?,
            FaultKind::Hang => f.write_str("hang")?,
            FaultKind::Drip(by) => write!(f, "drip={}", by.as_millis())?,
            FaultKind::Broken => f.write_str("broken")?,
            FaultKind::Oversize => f.write_str("oversize")?,
            FaultKind::Expired => f.write_str("expired")?,
            FaultKind::Revoked => f.write_str("revoked")?,
            FaultKind::WrongKey => f.write_str("wrong-key")?,
            FaultKind::Outage(bank) => write!(f, "outage={bank}")?,
        }
        if self.rate < 1.0 {
            write!(f, ":{}", self.rate)?;
        }
        Ok(())
    }
}

/// All names of faults.
const NAMES: &[&str] = &[
    "429",
    "403-limit",
    "500",
    "502",
    "503",
    "504",
    "slow",
    "hang",
    "drip",
    "broken",
    "oversize",
    "expired",
    "revoked",
    "wrong-key",
    "outage",
];

fn without_value(name: &str) -> Option<FaultKind> {
    Some(match name {
        "429" => FaultKind::TooManyRequests { retry_after: None },
        "403-limit" => FaultKind::Limit,
        "500" | "502" | "503" | "504" => FaultKind::Status(name.parse().ok()?),
        "slow" => FaultKind::Slow(SLOW),
        "hang" => FaultKind::Hang,
        "drip" => FaultKind::Drip(DRIP),
        "broken" => FaultKind::Broken,
        "oversize" => FaultKind::Oversize,
        "expired" => FaultKind::Expired,
        "revoked" => FaultKind::Revoked,
        "wrong-key" => FaultKind::WrongKey,
        _ => return None,
    })
}

fn with_value(name: &str, value: &str) -> Option<FaultKind> {
    let number = || value.parse::<u32>().ok();
    let millis = || Some(Duration::from_millis(number()?.into()));
    Some(match name {
        "429" => FaultKind::TooManyRequests {
            retry_after: Some(number()?),
        },
        "slow" => FaultKind::Slow(millis()?),
        "drip" => FaultKind::Drip(millis()?),
        "outage" if is_bank_id(value) => FaultKind::Outage(value.to_owned()),
        _ => return None,
    })
}

fn parse_rate(text: &str, rate: &str) -> Result<f64, FaultError> {
    rate.parse()
        .ok()
        .filter(|rate| *rate > 0.0 && *rate <= 1.0)
        .ok_or_else(|| FaultError::Rate(text.to_owned()))
}

/// Returns whether the text has Basiq's form of a bank id: two letters and five digits.
fn is_bank_id(text: &str) -> bool {
    let (letters, digits) = text.as_bytes().split_at(text.len().min(2));
    letters.len() == 2
        && letters.iter().all(u8::is_ascii_uppercase)
        && digits.len() == 5
        && digits.iter().all(u8::is_ascii_digit)
}

/// Returns whether the bank is unavailable for everybody.
pub(super) fn is_out(faults: &[Fault], bank: &str) -> bool {
    faults
        .iter()
        .any(|fault| matches!(&fault.kind, FaultKind::Outage(id) if id == bank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_and_written_alike() {
        for text in [
            "429",
            "429:0.2",
            "429=5:0.5",
            "500",
            "503:0.01",
            "slow=250",
            "403-limit",
            "hang",
            "drip=50:0.5",
            "broken",
            "oversize",
            "expired",
            "revoked",
            "wrong-key",
            "outage=AU00000",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!("slow".parse::<Fault>().unwrap().kind, FaultKind::Slow(SLOW));
    }

    #[test]
    fn what_is_no_fault_is_told_with_what_is_allowed() {
        for (text, word) in [
            ("", "allowed are"),
            ("404", "allowed are"),
            ("flood", "allowed are"),
            ("500=1", "value does not fit"),
            ("hang=1", "value does not fit"),
            ("drip=x", "value does not fit"),
            ("slow=soon", "value does not fit"),
            ("429=-1", "value does not fit"),
            ("outage", "value does not fit"),
            ("outage=hooli", "value does not fit"),
            ("outage=é00000", "value does not fit"),
            ("429:2", "at most 1"),
            ("429:0", "above 0"),
            ("429:", "rate"),
            ("429:NaN", "rate"),
            ("outage=AU00000:0.5", "no rate"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
