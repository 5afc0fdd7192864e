//! Creates verdicts. Each verdict that needs no code of Basiq's has a function of its own.

use relay_domain::{Action, Status, Verdict};

use crate::normalise::catalogue::code;

/// The code of a failure for which Basiq gives no code.
pub(crate) const UNKNOWN_ERROR: &str = "unknown-error";
const MFA_FAILED: &str = "mfa-failed";
const JOB_NOT_FOUND: &str = "job-not-found";
const JOB_NOT_ACCESSIBLE: &str = "job-not-accessible";
const WATCH_EXPIRED: &str = "watch-expired";

/// Creates a final failure with only an action and the name of a message.
pub(crate) fn failed(action: Action, message: &str) -> Verdict {
    last(Status::Failed, action, message)
}

/// Creates a final verdict with only a status, an action and the name of a message.
pub(crate) fn last(status: Status, action: Action, message: &str) -> Verdict {
    Verdict {
        status,
        action,
        is_final: true,
        failed_step: None,
        error_code: None,
        message: message.to_owned(),
        retry_at: None,
        detail: None,
        challenge: None,
    }
}

/// Creates a verdict with one of the relay's own codes.
fn own(own_code: &str, action: Action) -> Verdict {
    let message = code(own_code).map_or(UNKNOWN_ERROR, |code| code.message.as_str());
    Verdict {
        error_code: Some(own_code.to_owned()),
        ..failed(action, message)
    }
}

/// The person did not answer the challenge, or answered wrongly. Basiq gives no code for this.
pub(crate) fn mfa_failed() -> Verdict {
    own(MFA_FAILED, Action::Retry)
}

/// The verdict when Basiq reported the job as unknown for longer than the grace period.
#[must_use]
pub fn job_not_found() -> Verdict {
    own(JOB_NOT_FOUND, Action::FixRequest)
}

/// The verdict when Basiq refused the job for longer than the grace period, while it served other calls.
#[must_use]
pub fn job_not_accessible() -> Verdict {
    own(JOB_NOT_ACCESSIBLE, Action::FixRequest)
}

/// The verdict when nothing settled before the job reached its maximum age.
#[must_use]
pub fn watch_expired() -> Verdict {
    own(WATCH_EXPIRED, Action::ContactSupport)
}

/// The verdict when a bank's outage is over. The code and step are those with which the watch was told of the
/// outage.
#[must_use]
pub fn bank_is_back(error_code: Option<String>, failed_step: Option<String>) -> Verdict {
    Verdict {
        failed_step,
        error_code,
        ..failed(Action::Retry, "bank-is-back")
    }
}

/// The verdict when a bank's outage lasted longer than the watch. The code and step are those with which the
/// watch got the event of the outage.
#[must_use]
pub fn outage_outlived(error_code: Option<String>, failed_step: Option<String>) -> Verdict {
    Verdict {
        failed_step,
        error_code,
        ..failed(Action::ContactSupport, "outage-outlived")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_relay_says_itself_is_final_and_has_its_own_code() {
        for (verdict, code, action) in [
            (mfa_failed(), "mfa-failed", Action::Retry),
            (job_not_found(), "job-not-found", Action::FixRequest),
            (
                job_not_accessible(),
                "job-not-accessible",
                Action::FixRequest,
            ),
            (watch_expired(), "watch-expired", Action::ContactSupport),
        ] {
            assert_eq!(verdict.error_code.as_deref(), Some(code));
            assert_eq!(
                (verdict.status, verdict.action),
                (Status::Failed, action),
                "{code}"
            );
            assert!(verdict.is_final && verdict.retry_at.is_none(), "{code}");
        }
    }

    #[test]
    fn the_end_of_an_outage_keeps_code_and_step() {
        let reported = || {
            (
                Some("connector-error".to_owned()),
                Some("retrieve-accounts".to_owned()),
            )
        };
        let (code, step) = reported();
        let back = bank_is_back(code, step);
        let (code, step) = reported();
        let outlived = outage_outlived(code, step);
        assert_eq!(
            (back.error_code.clone(), back.failed_step.clone()),
            reported()
        );
        assert_eq!(
            (outlived.error_code.clone(), outlived.failed_step.clone()),
            reported()
        );
        assert_eq!(
            (back.action, back.message.as_str()),
            (Action::Retry, "bank-is-back")
        );
        assert_eq!(outlived.action, Action::ContactSupport);
        assert!(back.is_final && outlived.is_final);
    }
}
