//! Describes values of the API in words for people.

use jiff::Timestamp;
use relay_domain::{Action, AttemptError, CallbackUrl, Operation, Status, WatchOptions};
use relay_store::HostPause;

/// Describes why an attempt failed.
pub(super) fn attempt_error(error: AttemptError) -> &'static str {
    match error {
        AttemptError::Refused => "the callback refused it",
        AttemptError::Redirected => "the callback redirected, which is never followed",
        AttemptError::TimedOut => "no complete answer within the time limit",
        AttemptError::Dns => "the host's name did not resolve",
        AttemptError::AddressRefused => "the host's address is private and not allowed",
        AttemptError::Connect => "no connection",
        AttemptError::Tls => "the TLS handshake failed",
        AttemptError::Proxy => "the egress proxy could not be used",
        AttemptError::Broken => "the connection broke, or the answer was no HTTP",
        AttemptError::NoResources => "the relay had no file handle, thread or memory left",
        AttemptError::Internal => "the relay could not send it; its log says why",
    }
}

/// Describes how an attempt ended, in a few words.
pub(super) fn ending(status: Option<u16>, error: Option<AttemptError>) -> String {
    match (status, error) {
        (Some(status), None | Some(AttemptError::Refused)) => format!("HTTP {status}"),
        (Some(status), Some(error)) => format!("HTTP {status}, {}", attempt_error(error)),
        (None, Some(error)) => attempt_error(error).to_owned(),
        (None, None) => "no answer".to_owned(),
    }
}

/// Describes what the receiver of an event should do.
pub(super) fn action(action: Action) -> &'static str {
    match action {
        Action::None => "nothing to do",
        Action::AnswerMfa => "answer the challenge",
        Action::ResubmitCredentials => "ask for the bank login again",
        Action::ResolveAtBank => "have the person clear it at the bank",
        Action::Reauthorise => "send the person through consent again",
        Action::ProvideStatement => "ask for another statement",
        Action::Wait => "wait: Basiq tries again",
        Action::WaitForBank => "wait: the bank is down for everybody",
        Action::Retry => "refresh the connection",
        Action::ContactSupport => "report it to Basiq support",
        Action::FixRequest => "a developer must look",
    }
}

/// Returns a callback without its query, because backends put tokens there.
pub(super) fn without_query(url: &CallbackUrl) -> String {
    match url.as_str().split_once('?') {
        Some((place, _)) => format!("{place}?…"),
        None => url.as_str().to_owned(),
    }
}

/// Describes the options of a watch. Most options are left out if they have their default.
pub(super) fn options(options: &WatchOptions) -> Vec<(&'static str, String)> {
    let told = Status::ALL
        .iter()
        .filter(|status| options.events.includes(**status));
    let told: Vec<_> = told.map(|status| status.as_str()).collect();
    let everything = told.len() == Status::ALL.len();
    let all = [
        (
            "Operation",
            options
                .operation
                .map(Operation::as_str)
                .map(ToOwned::to_owned),
        ),
        ("Until step", options.until.clone()),
        ("Events only for", (!everything).then(|| told.join(", "))),
        ("Locale", Some(options.locale.as_str().to_owned())),
    ];
    let given = all
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    given.collect()
}

/// Says why a host is paused, and until when.
pub(super) fn pause(pause: &HostPause) -> String {
    match (&pause.by, pause.until) {
        (Some((operator, since)), _) => {
            format!(
                "host paused by {operator} since {}, until somebody resumes it",
                moment(*since)
            )
        }
        (None, Some(until)) => format!(
            "host paused until {}, because it keeps failing",
            moment(until)
        ),
        (None, None) => "host paused".to_owned(),
    }
}

fn moment(at: Timestamp) -> String {
    at.strftime("%-d %b %H:%M:%S UTC").to_string()
}
