//! Distinguishes the kinds of refused credentials by the bank's text.

use relay_domain::Verdict;

use crate::normalise::{
    catalogue::{CodeEntry, FailureClass},
    find::JobFailure,
    verdict::failed,
};

/// Phrases for a second factor.
const SECOND_FACTOR: [&str; 9] = [
    "mfa",
    "2fa",
    "multi-factor",
    "multi factor",
    "multifactor",
    "two-factor",
    "two factor",
    "two-step",
    "second factor",
];
/// Phrases for a feature that is not supported.
const NOT_SUPPORTED: [&str; 7] = [
    "not support",
    "not currently support",
    "not yet support",
    "n't support",
    "n\u{2019}t support",
    "no support for",
    "unsupported",
];

/// Returns the verdict on refused credentials. The person must resolve two cases with the bank: a locked
/// account, and a login whose second factor cannot be completed. Another attempt makes the former worse and
/// the latter no better. Basiq uses one code for all three cases.
pub(crate) fn credentials_verdict(failure: &JobFailure, code: &CodeEntry) -> Verdict {
    let texts: Vec<String> = [&failure.title, &failure.detail]
        .into_iter()
        .flatten()
        .map(|text| text.to_lowercase())
        .collect();
    if texts.iter().any(|text| has_word(text, "locked")) {
        return failed(FailureClass::BankLock.action(), "account-locked");
    }
    let mfa = texts
        .iter()
        .any(|text| has_any(text, &SECOND_FACTOR) && has_any(text, &NOT_SUPPORTED));
    if mfa {
        return failed(FailureClass::MfaUnsupported.action(), "mfa-unsupported");
    }
    failed(code.class.action(), &code.message)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric())
        .any(|part| part == word)
}

fn has_any(text: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| text.contains(part))
}
