//! The scenarios: who connects which bank, what the person does, and which events the relay must deliver.

/// One scenario: a person connects a bank.
#[derive(Debug)]
pub(super) struct DemoScenario {
    /// A short description.
    pub(super) title: &'static str,
    /// A part of the callback's path; each scenario has its own.
    pub(super) slug: &'static str,
    /// What happens, in one or two sentences.
    pub(super) story: &'static str,
    /// A documented test user of Basiq's sandbox.
    pub(super) login: DemoLogin,
    /// A documented test bank.
    pub(super) bank: &'static str,
    /// What the backend does after the first job ended.
    pub(super) flow: DemoFlow,
    /// The person's answer to a challenge, if the person answers.
    pub(super) answer: Option<&'static str>,
    /// Whether the callback fails twice before it accepts.
    pub(super) flaky: bool,
    /// The expected events, in order.
    pub(super) expected: &'static [Expected],
    /// The number of attempts that the last event must take.
    pub(super) attempts: usize,
}

/// How a test user logs in at a test bank.
#[derive(Debug)]
pub(super) struct DemoLogin {
    pub(super) id: &'static str,
    pub(super) password: &'static str,
}

impl DemoLogin {
    const fn new(id: &'static str, password: &'static str) -> Self {
        Self { id, password }
    }
}

/// What a backend does after its first job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DemoFlow {
    /// The backend does nothing more.
    Once,
    /// The event asks for new credentials, and the backend sends the right ones.
    Resubmits,
    /// The backend sends new credentials while the bank is unavailable.
    Updates,
    /// The event says to try again, and the backend refreshes after each failure.
    TriesThreeTimes,
    /// The backend waits for the bank, whose outage ends after the first event.
    WaitsForBank,
    /// The backend subscribes to the person. Basiq refreshes the connection by itself, and nobody learns the job's id.
    Subscribes,
}

/// The expected fields of one event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) status: &'static str,
    pub(super) error_code: Option<&'static str>,
    pub(super) action: &'static str,
    pub(super) is_final: bool,
}

const fn tells(
    status: &'static str,
    error_code: Option<&'static str>,
    action: &'static str,
    is_final: bool,
) -> Expected {
    Expected {
        status,
        error_code,
        action,
        is_final,
    }
}

const SUCCESS: Expected = tells("success", None, "none", true);
const CHALLENGE: Expected = tells("action-required", None, "answer-mfa", false);
const UNAVAILABLE: Option<&str> = Some("service-unavailable");
const RETRY: Expected = tells("failed", UNAVAILABLE, "retry", true);

/// Every documented scenario.
pub(super) const SCENARIOS: &[DemoScenario] = &[
    DemoScenario {
        title: "a wrong password, corrected",
        slug: "invalid-credentials",
        story: "The person mistypes the password. After the event, the backend sends the right one.",
        login: DemoLogin::new("gavinBelson", "hooli2015"),
        bank: "AU00000",
        flow: DemoFlow::Resubmits,
        answer: None,
        flaky: false,
        expected: &[
            tells(
                "failed",
                Some("invalid-credentials"),
                "resubmit-credentials",
                true,
            ),
            SUCCESS,
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "all goes well",
        slug: "success",
        story: "The bank takes the login, and everything is fetched.",
        login: DemoLogin::new("gavinBelson", "hooli2016"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[SUCCESS],
        attempts: 1,
    },
    DemoScenario {
        title: "the account is locked",
        slug: "locked",
        story: "The bank has locked the online account.",
        login: DemoLogin::new("bighead", "password"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[tells(
            "failed",
            Some("invalid-credentials"),
            "resolve-at-bank",
            true,
        )],
        attempts: 1,
    },
    DemoScenario {
        title: "the bank needs the person",
        slug: "action-at-bank",
        story: "The bank wants the person to do something in internet banking first.",
        login: DemoLogin::new("erlich", "aviato"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[tells(
            "failed",
            Some("account-not-accessible-requires-user-action"),
            "resolve-at-bank",
            true,
        )],
        attempts: 1,
    },
    DemoScenario {
        title: "the bank is unavailable",
        slug: "unavailable",
        story: "The bank does not answer just now.",
        login: DemoLogin::new("jianYang", "nothotdog"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[RETRY],
        attempts: 1,
    },
    DemoScenario {
        title: "a challenge, answered",
        slug: "mfa-answered",
        story: "The bank asks for a code. The person answers 1234.",
        login: DemoLogin::new("jared", "django"),
        bank: "AU00002",
        flow: DemoFlow::Once,
        answer: Some("1234"),
        flaky: false,
        expected: &[CHALLENGE, SUCCESS],
        attempts: 1,
    },
    DemoScenario {
        title: "a challenge, left to expire",
        slug: "mfa-expired",
        story: "The bank asks for a code. Nobody answers, and the challenge expires after 6 s.",
        login: DemoLogin::new("richard", "tabsnotspaces"),
        bank: "AU00002",
        flow: DemoFlow::Once,
        answer: None,
        flaky: false,
        expected: &[
            CHALLENGE,
            tells("failed", Some("mfa-failed"), "retry", true),
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "a receiver that fails twice",
        slug: "flaky-receiver",
        story: "The receiver answers 500 twice. The relay tries again after 0.5 s and after 1 s.",
        login: DemoLogin::new("Gilfoyle", "PiedPiper"),
        bank: "AU00000",
        flow: DemoFlow::Once,
        answer: None,
        flaky: true,
        expected: &[SUCCESS],
        attempts: 3,
    },
    DemoScenario {
        title: "an update that Basiq retries",
        slug: "update",
        story: "The backend updates the login while the bank is away. Basiq tries again every 3 s, and the second time works.",
        login: DemoLogin::new("Whistler", "ShowBox"),
        bank: "AU00000",
        flow: DemoFlow::Updates,
        answer: None,
        flaky: false,
        expected: &[
            SUCCESS,
            tells("delayed", UNAVAILABLE, "wait", false),
            SUCCESS,
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "the third failure in a row",
        slug: "third-failure",
        story: "The bank does not answer for this connection three times in a row.",
        login: UNLUCKY,
        bank: "AU00000",
        flow: DemoFlow::TriesThreeTimes,
        answer: None,
        flaky: false,
        expected: &[
            RETRY,
            RETRY,
            tells("failed", UNAVAILABLE, "contact-support", true),
        ],
        attempts: 1,
    },
    DemoScenario {
        title: "a bank that is down for all",
        slug: "outage",
        story: "The bank is down for all its customers. It is back after the first event.",
        login: DemoLogin::new("gavinBelson", "hooli2016"),
        bank: BANK_THAT_IS_OUT,
        flow: DemoFlow::WaitsForBank,
        answer: None,
        flaky: false,
        expected: &[tells("failed", UNAVAILABLE, "wait-for-bank", false), RETRY],
        attempts: 1,
    },
    DemoScenario {
        title: "a nightly refresh that fails",
        slug: "night",
        story: "The backend subscribes to the person. Basiq refreshes the connection by itself after 4 s, and tells nobody the job.",
        login: DemoLogin::new("monica", "raviga"),
        bank: "AU00000",
        flow: DemoFlow::Subscribes,
        answer: None,
        flaky: false,
        expected: &[
            SUCCESS,
            tells(
                "failed",
                Some("invalid-credentials"),
                "resubmit-credentials",
                true,
            ),
        ],
        attempts: 1,
    },
];

/// A documented test user with the right password.
pub(super) const RIGHT: DemoLogin = DemoLogin::new("gavinBelson", "hooli2016");

/// The documented test user whose bank is never available.
pub(super) const UNLUCKY: DemoLogin = DemoLogin::new("jianYang", "nothotdog");

/// The bank that is in a major outage when the demo begins.
pub(super) const BANK_THAT_IS_OUT: &str = "AU00004";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::stage::{NIGHT, RETRY_INTERVAL, RETRY_SCHEDULE, SPEED};

    /// How long a challenge is open at Basiq.
    const CHALLENGE_SECONDS: f64 = 120.0;

    #[test]
    fn stories_name_the_waits_of_the_demo() {
        let seconds = |seconds: f64| format!(" {seconds} s");
        for (slug, wait) in [
            ("mfa-expired", seconds(CHALLENGE_SECONDS / SPEED)),
            ("flaky-receiver", seconds(RETRY_SCHEDULE[0].as_secs_f64())),
            ("flaky-receiver", seconds(RETRY_SCHEDULE[1].as_secs_f64())),
            ("update", seconds(RETRY_INTERVAL.as_secs_f64())),
            ("night", seconds(NIGHT.as_secs_f64())),
        ] {
            let scenario = SCENARIOS.iter().find(|one| one.slug == slug).unwrap();
            assert!(scenario.story.contains(&wait), "{slug}: {wait}");
        }
    }
}
