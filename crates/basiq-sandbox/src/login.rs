//! The documented test users, and those of this sandbox: which logins work, and how the others fail. Pure.

use relay_domain::StepFailure;

use crate::{
    bank::{MfaRule, SandboxBank},
    script::{Origin, ScriptChallenge},
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

/// Users of this sandbox whose banks can be connected, but not refreshed: the bank changed something since. New
/// credentials help until the next refresh. The columns are those of [`FAILING`].
const FAILING_LATER: &[(&str, &str, &str, [&str; 3])] = &[
    (
        "monica",
        "raviga",
        VERIFY,
        [
            "invalid-credentials",
            "Cannot login to target institution, check credentials.",
            "The password was changed since the last login.",
        ],
    ),
    (
        "dinesh",
        "java",
        ACCOUNTS,
        [
            "account-not-accessible-requires-user-action",
            "Account not accessible, requires user action.",
            "New terms have to be accepted before account details can be returned.",
        ],
    ),
    ("russ", "tres-comas", VERIFY, UNAVAILABLE),
];

/// The member and the one-time password of Basiq's open banking sandbox.
pub(super) const OPEN_BANKING_MEMBER: (&str, &str) = ("374829", "227470");

/// The failure of a person who did not agree at the bank, or whose consent is over.
pub(super) const NOT_AUTHORISED: [&str; 3] = [
    "authorization-failed",
    "Authorisation failed",
    "access_denied",
];

pub(super) const UNAVAILABLE: [&str; 3] = [
    "service-unavailable",
    "Service unavailable",
    "Service is currently unavailable. Please try again later.",
];

pub(super) const WRONG_LOGIN: [&str; 3] = [
    "invalid-credentials",
    "Cannot login to target institution, check credentials.",
    "The institution does not know this login and password.",
];

/// A login that this sandbox knows, and what becomes of it at a bank that asks no challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxLogin {
    /// The login.
    pub id: &'static str,
    /// Its password.
    pub password: &'static str,
    /// The code with which a connection fails; `None` if it works.
    pub fails_with: Option<&'static str>,
    /// The code with which each refresh fails; `None` if it works.
    pub refresh_fails_with: Option<&'static str>,
}

impl SandboxLogin {
    /// Returns all logins. The logins that succeed come first.
    pub fn all() -> impl Iterator<Item = Self> {
        let login = |id, password| Self {
            id,
            password,
            fails_with: None,
            refresh_fails_with: None,
        };
        let welcome = WELCOME
            .iter()
            .map(move |&(id, password)| login(id, password));
        let failing = FAILING
            .iter()
            .map(move |&(id, password, _, [code, ..])| Self {
                fails_with: Some(code),
                refresh_fails_with: Some(code),
                ..login(id, password)
            });
        let later = FAILING_LATER
            .iter()
            .map(move |&(id, password, _, [code, ..])| Self {
                refresh_fails_with: Some(code),
                ..login(id, password)
            });
        welcome.chain(failing).chain(later)
    }
}

/// What a person types into the form of their bank. It decides how the job of the connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BankLogin {
    pub(super) id: String,
    pub(super) password: String,
}

impl BankLogin {
    pub(super) fn is(&self, id: &str, password: &str) -> bool {
        self.id == id && self.password == password
    }

    /// Returns the step at which a job with this login fails, and what the failure says.
    pub(super) fn failure(&self, origin: Origin) -> Option<(&'static str, [&'static str; 3])> {
        let is_known = |(id, password): &(&str, &str)| self.is(id, password);
        if WELCOME.iter().any(is_known) {
            return None;
        }
        let later = FAILING_LATER
            .iter()
            .find(|(id, password, ..)| self.is(id, password));
        if let Some((_, _, step, told)) = later {
            return (origin == Origin::Refresh).then_some((step, *told));
        }
        let known = FAILING
            .iter()
            .find(|(id, password, ..)| self.is(id, password));
        Some(match known {
            Some((_, _, step, told)) => (step, *told),
            None => (VERIFY, WRONG_LOGIN),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listed_login_ends_as_the_list_says() {
        for listed in SandboxLogin::all() {
            let login = BankLogin {
                id: listed.id.to_owned(),
                password: listed.password.to_owned(),
            };
            let code = |origin| login.failure(origin).map(|(_, [code, ..])| code);
            assert_eq!(code(Origin::Create), listed.fails_with, "{listed:?}");
            let refreshed = code(Origin::Refresh);
            assert_eq!(refreshed, listed.refresh_fails_with, "{listed:?}");
        }
        assert_eq!(SandboxLogin::all().count(), 14);
    }
}
