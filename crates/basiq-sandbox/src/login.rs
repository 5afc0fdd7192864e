//! The documented test users: which logins work, and how the others fail. Pure.

use relay_domain::StepFailure;

use crate::{
    bank::{MfaRule, SandboxBank},
    script::ScriptChallenge,
    view::{ACCOUNTS, VERIFY},
};

/// The documented users whose logins succeed, with their passwords.
pub(super) const WELCOME: &[(&str, &str)] = &[
    ("Wentworth-Smith", "whislter"),
    ("gavinBelson", "hooli2016"),
    ("jared", "django"),
    ("richard", "tabsnotspaces"),
    ("Whistler", "ShowBox"),
    ("Gilfoyle", "PiedPiper"),
    ("ashMann", "hooli2024"),
    ("laurieBream", "business2024"),
];

/// The documented users whose jobs fail: login, password, step, code, title, detail. Basiq does not document the
/// steps. Here, a locked login or an unavailable bank fails at the login step, and a required action fails after it.
const FAILING: &[(&str, &str, &str, [&str; 3])] = &[
    (
        "bighead",
        "password",
        VERIFY,
        [
            "invalid-credentials",
            "Cannot login to target institution, check credentials.",
            "Account is locked",
        ],
    ),
    (
        "erlich",
        "aviato",
        ACCOUNTS,
        [
            "account-not-accessible-requires-user-action",
            "Account not accessible, requires user action.",
            "An action is required from end-user before account details can be returned.",
        ],
    ),
    ("jianYang", "nothotdog", VERIFY, UNAVAILABLE),
];

pub(super) const UNAVAILABLE: [&str; 3] = [
    "service-unavailable",
    "Service unavailable",
    "Service is currently unavailable. Please try again later.",
];

const WRONG_LOGIN: [&str; 3] = [
    "invalid-credentials",
    "Cannot login to target institution, check credentials.",
    "The institution does not know this login and password.",
];

/// A bank login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BankLogin {
    pub(super) id: String,
    pub(super) password: String,
}

impl BankLogin {
    fn is(&self, id: &str, password: &str) -> bool {
        self.id == id && self.password == password
    }

    /// Returns the step at which this login fails, and the failure.
    pub(super) fn failure(&self) -> Option<(&'static str, StepFailure)> {
        if WELCOME.iter().any(|(id, password)| self.is(id, password)) {
            return None;
        }
        let known = FAILING
            .iter()
            .find(|(id, password, ..)| self.is(id, password));
        Some(match known {
            Some((_, _, step, told)) => (step, failure(*told)),
            None => (VERIFY, failure(WRONG_LOGIN)),
        })
    }

    /// Returns the challenge that an MFA bank asks this user.
    pub(super) fn challenge(&self, bank: &SandboxBank) -> ScriptChallenge {
        if bank.mfa == MfaRule::Twice {
            let question = ("What is your favourite company?", ["Hooli"].as_slice());
            return ScriptChallenge::token().then(ScriptChallenge::questions(&[question]));
        }
        let company = ("What is your favourite company?", ["Hooli"].as_slice());
        match self.id.as_str() {
            "gavinBelson" | "Gilfoyle" => ScriptChallenge::questions(&[company]),
            "Whistler" | "Wentworth-Smith" => ScriptChallenge::questions(&[
                (company.0, &["Basiq"]),
                ("What is the id of this institution?", &["AU00000", bank.id]),
            ]),
            _ => ScriptChallenge::token(),
        }
    }
}

pub(super) fn failure([code, title, detail]: [&str; 3]) -> StepFailure {
    StepFailure {
        code: Some(code.to_owned()),
        title: Some(title.to_owned()),
        detail: Some(detail.to_owned()),
    }
}
