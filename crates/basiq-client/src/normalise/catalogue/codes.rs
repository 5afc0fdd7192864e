//! The meaning of each error code, parsed once from `codes.toml`.

use std::{collections::BTreeMap, sync::LazyLock};

use relay_domain::Action;
use serde::Deserialize;

use crate::normalise::text::canonical_code;

const TABLE: &str = include_str!("codes.toml");
/// The prefix of statement codes. A code with this prefix counts as a statement failure even if it is not
/// listed.
const STATEMENT_PREFIX: &str = "bank-statement-";

/// The classes of failures that are treated alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailureClass {
    /// The bank refused the login. The bank's text may lead to another class.
    Credentials,
    /// The bank locked the login.
    BankLock,
    /// The login needs a second factor that cannot be completed.
    MfaUnsupported,
    /// The bank requires an action of the person in its internet banking.
    BankAction,
    /// The person's consent is missing or has expired.
    Consent,
    /// The bank, or the connection to it, does not work: `service-unavailable` and equivalent codes.
    Unavailable,
    /// Another attempt may succeed later.
    RetryLater,
    /// Another attempt may succeed.
    Retry,
    /// The statement file cannot be used.
    Statement,
    /// The client's integration sent an invalid request.
    Request,
    /// Only Basiq's support can help.
    Support,
    /// The cause is unknown, so the step decides.
    Unknown,
}

impl FailureClass {
    /// Returns what to do about a failure of this class, if nothing else is known.
    pub(crate) fn action(self) -> Action {
        match self {
            Self::Credentials => Action::ResubmitCredentials,
            Self::BankLock | Self::MfaUnsupported | Self::BankAction => Action::ResolveAtBank,
            Self::Consent => Action::Reauthorise,
            Self::Unavailable | Self::RetryLater | Self::Retry | Self::Unknown => Action::Retry,
            Self::Statement => Action::ProvideStatement,
            Self::Request => Action::FixRequest,
            Self::Support => Action::ContactSupport,
        }
    }
}

/// How the catalogue treats one error code of Basiq's, and what it tells the person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeEntry {
    /// How the code is treated.
    pub(crate) class: FailureClass,
    /// The name of the message for the person.
    pub(crate) message: String,
}

/// The table of codes. A test checks that the embedded text parses.
static CODES: LazyLock<BTreeMap<String, CodeEntry>> =
    LazyLock::new(|| toml::from_str(TABLE).unwrap_or_default());

/// Returns all known codes in alphabetical order.
pub(super) fn codes() -> impl Iterator<Item = (&'static str, &'static CodeEntry)> {
    CODES.iter().map(|(name, code)| (name.as_str(), code))
}

/// Returns the entry of a code in its canonical spelling.
pub(crate) fn code(canonical: &str) -> Option<&'static CodeEntry> {
    let pattern = || {
        canonical
            .starts_with(STATEMENT_PREFIX)
            .then(|| CODES.get("bank-statement-parsing-error"))
            .flatten()
    };
    CODES.get(canonical).or_else(pattern)
}

/// Returns the class of a code in its canonical spelling.
pub(crate) fn class_of(canonical: &str) -> Option<FailureClass> {
    code(canonical).map(|code| code.class)
}

/// Returns whether a code, in any spelling, says what happened. `unknown-error` does not. It is counted like a
/// code that is not listed, so that codes can be added to the catalogue.
#[must_use]
pub fn is_known_code(code: &str) -> bool {
    canonical_code(code)
        .and_then(|code| class_of(&code))
        .is_some_and(|class| class != FailureClass::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_table_is_one_and_its_codes_are_canonical() {
        let table: BTreeMap<String, CodeEntry> = toml::from_str(TABLE).unwrap();
        assert!(table.len() > 50);
        for name in table.keys() {
            assert_eq!(canonical_code(name).as_ref(), Some(name));
        }
    }

    #[test]
    fn a_code_is_known_in_any_spelling() {
        for known in [
            "service-unavailable",
            "Service unavailable",
            "unauthorised_access",
            "bank-statement-of-a-new-kind",
            "watch-expired",
        ] {
            assert!(is_known_code(known), "{known}");
        }
        for unknown in ["", "unknown-error", "bank-on-fire"] {
            assert!(!is_known_code(unknown), "{unknown}");
        }
    }
}
