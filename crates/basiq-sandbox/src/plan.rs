//! The steps of a job: the result of each login at each bank. Pure.

use relay_domain::StepFailure;
use std::time::Duration;

use crate::{
    bank::{
        ACCOUNTS_TAKES, ConnectionMethod, MfaRule, SandboxBank, TRANSACTIONS_TAKES, UploadResult,
        VERIFY_TAKES,
    },
    login::{BankLogin, NOT_AUTHORISED, OPEN_BANKING_MEMBER, UNAVAILABLE, WRONG_LOGIN, failure},
    script::{Origin, ScriptStep, StepEnd},
    view::{ACCOUNTS, MFA, STATEMENTS, TRANSACTIONS, VERIFY},
};

/// Conditions at the bank that do not depend on the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BankConditions {
    /// Whether a bank that asks only sometimes asks this time.
    pub(super) asks: bool,
    /// Whether the bank is unavailable for everybody.
    pub(super) outage: bool,
    /// Whether the person's consent is over.
    pub(super) without_consent: bool,
}

/// How a job reads a bank.
#[derive(Debug, Clone, Copy)]
pub(super) struct BankVisit<'a> {
    pub(super) login: &'a BankLogin,
    pub(super) method: ConnectionMethod,
    /// The operation that started the job.
    pub(super) origin: Origin,
}

impl BankVisit<'_> {
    /// Returns the step at which this visit fails, and the failure.
    fn failure(&self, conditions: BankConditions) -> Option<(&'static str, StepFailure)> {
        if conditions.outage {
            return Some((VERIFY, failure(UNAVAILABLE)));
        }
        if conditions.without_consent {
            return Some((VERIFY, failure(NOT_AUTHORISED)));
        }
        let by_open_banking = self.method == ConnectionMethod::OpenBanking;
        let (member, password) = OPEN_BANKING_MEMBER;
        if by_open_banking && self.login.is(member, password) {
            return None;
        }
        let (step, told) = self.login.failure(self.origin)?;
        let is_refused = told.first() == WRONG_LOGIN.first();
        // The bank asks for the login itself, so a wrong one shows as a person who did not agree.
        let told = if by_open_banking && is_refused {
            NOT_AUTHORISED
        } else {
            told
        };
        Some((step, failure(told)))
    }
}

/// Returns the steps of a job that reads a bank.
pub(super) fn read_bank(
    bank: &SandboxBank,
    visit: &BankVisit<'_>,
    conditions: BankConditions,
) -> Vec<ScriptStep> {
    let mut steps = vec![ScriptStep::new(VERIFY, VERIFY_TAKES, StepEnd::Succeeds)];
    let asks = match bank.mfa {
        MfaRule::Never => None,
        MfaRule::Always | MfaRule::Twice => Some(true),
        MfaRule::Sometimes => Some(conditions.asks),
    };
    if let Some(asks) = asks {
        let end = if asks {
            StepEnd::Asks(visit.login.challenge(bank))
        } else {
            StepEnd::Skipped
        };
        steps.push(ScriptStep::new(MFA, Duration::ZERO, end));
    }
    steps.push(ScriptStep::new(ACCOUNTS, ACCOUNTS_TAKES, StepEnd::Succeeds));
    steps.push(ScriptStep::new(
        TRANSACTIONS,
        TRANSACTIONS_TAKES,
        StepEnd::Succeeds,
    ));
    if bank.kind == "Government" {
        steps.push(ScriptStep::new(
            STATEMENTS,
            TRANSACTIONS_TAKES,
            StepEnd::Succeeds,
        ));
    }
    if let Some((title, failure)) = visit.failure(conditions) {
        fail_at(&mut steps, title, failure);
    }
    steps
}

/// Returns the steps of a job that reads an uploaded statement. They have the same titles.
pub(super) fn read_statement(upload: UploadResult) -> Vec<ScriptStep> {
    let mut steps = vec![
        ScriptStep::new(VERIFY, VERIFY_TAKES, StepEnd::Succeeds),
        ScriptStep::new(ACCOUNTS, ACCOUNTS_TAKES, StepEnd::Succeeds),
        ScriptStep::new(TRANSACTIONS, TRANSACTIONS_TAKES, StepEnd::Succeeds),
    ];
    if let UploadResult::Fails(code, detail) = upload {
        fail_at(
            &mut steps,
            VERIFY,
            failure([code, "Statement cannot be used.", detail]),
        );
    }
    steps
}

/// Returns whether these steps fail because the bank is unavailable.
pub(super) fn meets_unavailable_bank(steps: &[ScriptStep]) -> bool {
    let [unavailable, ..] = UNAVAILABLE;
    steps.iter().any(|step| match &step.end {
        StepEnd::Fails(Some(failure)) => failure.code.as_deref() == Some(unavailable),
        _ => false,
    })
}

fn fail_at(steps: &mut [ScriptStep], title: &str, failure: StepFailure) {
    if let Some(step) = steps.iter_mut().find(|step| step.title == title) {
        step.end = StepEnd::Fails(Some(failure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bank::find_bank, login::WELCOME, script::ScriptChallenge};

    const FAIR: BankConditions = BankConditions {
        asks: true,
        outage: false,
        without_consent: false,
    };

    fn steps(bank: &str, id: &str, password: &str, conditions: BankConditions) -> Vec<ScriptStep> {
        let visit = BankVisit {
            login: &login(id, password),
            method: ConnectionMethod::Web,
            origin: Origin::Create,
        };
        read_bank(find_bank(bank).unwrap(), &visit, conditions)
    }

    fn login(id: &str, password: &str) -> BankLogin {
        BankLogin {
            id: id.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Returns the step and the code of the failure at Hooli Bank, `-` for none.
    fn at_hooli(
        (id, password): (&str, &str),
        method: ConnectionMethod,
        origin: Origin,
        conditions: BankConditions,
    ) -> (String, String) {
        let visit = BankVisit {
            login: &login(id, password),
            method,
            origin,
        };
        let steps = read_bank(find_bank("AU00000").unwrap(), &visit, conditions);
        first_failure(&steps).map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |(step, code, _)| (step.to_owned(), code),
        )
    }

    fn first_failure(steps: &[ScriptStep]) -> Option<(&str, String, String)> {
        steps.iter().find_map(|step| match &step.end {
            StepEnd::Fails(Some(why)) => Some((
                step.title.as_str(),
                why.code.clone().unwrap(),
                why.detail.clone().unwrap(),
            )),
            _ => None,
        })
    }

    #[test]
    fn the_documented_users_do_what_is_documented() {
        for (id, password) in WELCOME {
            assert_eq!(first_failure(&steps("AU00000", id, password, FAIR)), None);
        }
        let table = [
            (
                "bighead",
                "password",
                VERIFY,
                "invalid-credentials",
                "locked",
            ),
            (
                "erlich",
                "aviato",
                ACCOUNTS,
                "account-not-accessible-requires-user-action",
                "action is required",
            ),
            (
                "jianYang",
                "nothotdog",
                VERIFY,
                "service-unavailable",
                "unavailable",
            ),
            (
                "bighead",
                "wrong",
                VERIFY,
                "invalid-credentials",
                "does not know",
            ),
            (
                "nobody",
                "x",
                VERIFY,
                "invalid-credentials",
                "does not know",
            ),
        ];
        for (id, password, step, code, text) in table {
            let steps = steps("AU00000", id, password, FAIR);
            let (at, why, detail) = first_failure(&steps).unwrap();
            assert_eq!((at, why.as_str()), (step, code), "{id}");
            assert!(detail.contains(text), "{id}: {detail}");
        }
    }

    #[test]
    fn each_bank_asks_as_documented() {
        let mfa_of = |bank, conditions| {
            let steps = steps(bank, "jared", "django", conditions);
            let step = steps.iter().find(|step| step.title == MFA);
            step.map(|step| step.end.clone())
        };
        let quiet = BankConditions {
            asks: false,
            ..FAIR
        };
        let token = StepEnd::Asks(ScriptChallenge::token());
        assert_eq!(mfa_of("AU00000", FAIR), None);
        assert_eq!(mfa_of("AU00002", quiet), Some(token.clone()));
        assert_eq!(mfa_of("AU00003", FAIR), Some(token));
        assert_eq!(mfa_of("AU00003", quiet), Some(StepEnd::Skipped));
    }

    #[test]
    fn the_documented_answers_are_accepted() {
        let table: &[(&str, &[&str], bool)] = &[
            ("jared", &["1234"], true),
            ("richard", &["1234"], true),
            ("richard", &["12345"], false),
            ("gavinBelson", &["Hooli"], true),
            ("Gilfoyle", &["Hooli"], true),
            ("Whistler", &["Basiq", "AU00000"], true),
            ("Wentworth-Smith", &["Basiq", "AU00002"], true),
            ("Whistler", &["AU00000", "Basiq"], false),
        ];
        for (id, answers, right) in table {
            let login = BankLogin {
                id: (*id).to_owned(),
                password: String::new(),
            };
            let asked = login.challenge(find_bank("AU00002").unwrap());
            let given: Vec<_> = answers.iter().map(|&a| a.to_owned()).collect();
            assert_eq!(asked.is_answered_by(&given), *right, "{id}");
        }
    }

    #[test]
    fn some_logins_work_until_the_bank_is_refreshed() {
        for (id, password, step, code) in [
            ("monica", "raviga", VERIFY, "invalid-credentials"),
            (
                "dinesh",
                "java",
                ACCOUNTS,
                "account-not-accessible-requires-user-action",
            ),
            ("russ", "tres-comas", VERIFY, "service-unavailable"),
        ] {
            let (web, login) = (ConnectionMethod::Web, (id, password));
            for origin in [Origin::Create, Origin::Update] {
                assert_eq!(at_hooli(login, web, origin, FAIR).1, "-", "{id}");
            }
            let failed = at_hooli(login, web, Origin::Refresh, FAIR);
            assert_eq!((failed.0.as_str(), failed.1.as_str()), (step, code), "{id}");
        }
    }

    #[test]
    fn a_login_that_is_refused_by_open_banking_is_a_person_who_did_not_agree() {
        let bank = ConnectionMethod::OpenBanking;
        let code = |login, origin| at_hooli(login, bank, origin, FAIR).1;
        assert_eq!(code(OPEN_BANKING_MEMBER, Origin::Create), "-");
        assert_eq!(code(("gavinBelson", "hooli2016"), Origin::Create), "-");
        assert_eq!(
            code(("374829", "0"), Origin::Create),
            "authorization-failed"
        );
        assert_eq!(
            code(("monica", "raviga"), Origin::Refresh),
            "authorization-failed"
        );
        assert_eq!(
            code(("russ", "tres-comas"), Origin::Refresh),
            "service-unavailable"
        );
    }

    #[test]
    fn no_bank_is_read_without_consent() {
        let without = BankConditions {
            without_consent: true,
            ..FAIR
        };
        for method in [ConnectionMethod::Web, ConnectionMethod::OpenBanking] {
            let login = ("gavinBelson", "hooli2016");
            let failed = at_hooli(login, method, Origin::Refresh, without);
            assert_eq!(
                failed,
                (VERIFY.to_owned(), "authorization-failed".to_owned())
            );
        }
    }

    #[test]
    fn an_outage_fails_whoever_comes() {
        let storm = BankConditions {
            outage: true,
            ..FAIR
        };
        let steps = steps("AU00000", "gavinBelson", "hooli2016", storm);
        assert_eq!(first_failure(&steps).unwrap().1, "service-unavailable");
    }
}
