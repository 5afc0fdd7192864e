//! What to do about each outcome of a test: one plain sentence for each error and status.

use relay_domain::AttemptError;

/// The advice if nothing was sent, because the limits of the host left no room.
pub(super) const BUSY: &str = "Nothing was sent, because too many tests, or attempts to this host, are in flight: \
    test again when they have ended.";

/// The advice if the receiver refused the client certificate, or the lack of one.
pub(super) const CERTIFICATE_REFUSED: &str = "Ask the operator to set a client certificate that the receiver trusts, with \
    `basiq-relay client set-callback-auth`: the receiver demands one, and got none or another.";

/// The advice if the client's stored certificate or headers cannot be read.
pub(super) const UNREADABLE_AUTH: &str = "Ask the operator to set or clear the client's certificate and headers with \
    `basiq-relay client set-callback-auth`: the stored ones cannot be read.";

const ACCEPTED: &str = "Nothing: the callback accepted the event.";

/// Returns what to do after an attempt. The status decides if there is one.
pub(super) fn advice(status: Option<u16>, error: Option<AttemptError>) -> &'static str {
    match (status, error) {
        (_, None) => ACCEPTED,
        (Some(status), Some(_)) => of_status(status),
        (None, Some(error)) => of_error(error),
    }
}

/// The advice by status, for responses other than 2xx.
fn of_status(status: u16) -> &'static str {
    match status {
        200..=299 => ACCEPTED,
        300..=399 => {
            "Register the address that the redirect leads to: redirects are never followed."
        }
        401 | 403 => {
            "Check that the receiver verifies the signature with this client's signing secret over the exact body, \
             and that no gateway before it asks for a login, a header or a certificate that the operator has not set with \
             `basiq-relay client set-callback-auth`."
        }
        404 => "Check the path of the URL, and that the receiver is deployed at this host.",
        405 => "Let the receiver accept POST at this path.",
        408 | 504 => {
            "Let the receiver answer before it works on the event: what is before it gave up waiting."
        }
        410 => {
            "Remove the 410 before you register the URL: it ends the watch or subscription at its first event."
        }
        413 => "Let the receiver and every gateway before it accept bodies of at least 64 KiB.",
        415 => "Let the receiver accept the content type `application/json`.",
        429 => "Let the receiver or its gateway accept more requests from the relay.",
        400 | 422 => {
            "Let the receiver accept every event type with a valid signature, ignore types that it does not know, and ask \
             for no client certificate that it does not get: nginx answers 400 then."
        }
        400..=499 => "Let the receiver answer 2xx to each event with a valid signature.",
        500..=599 => "Look into the receiver's log: it, or a gateway before it, failed.",
        _ => "Let the receiver answer 2xx: this status is none that HTTP has for a final answer.",
    }
}

/// The advice by error, for attempts without a response.
fn of_error(error: AttemptError) -> &'static str {
    match error {
        AttemptError::TimedOut => {
            "Let the receiver answer within the delivery time-out and work on the event afterwards, and check that \
             a firewall does not drop the connection."
        }
        AttemptError::Dns => "Check the host name, and that the relay's network can resolve it.",
        AttemptError::AddressRefused => {
            "Use a public address, or ask the operator to allow the network with RELAY_CALLBACK_ALLOW_NETWORKS or \
             plain HTTP with RELAY_CALLBACK_ALLOW_HTTP."
        }
        AttemptError::Connect => {
            "Check that the receiver listens at this host and port, and that a firewall or the egress proxy lets the \
             relay through."
        }
        AttemptError::Tls => {
            "Check that the certificate is valid for this host, not expired, sent with its whole chain, and from an \
             authority that the relay trusts, and whether the receiver demands a client certificate."
        }
        AttemptError::Proxy => {
            "Ask the operator to check RELAY_EGRESS_PROXY and whether the proxy allows this host."
        }
        AttemptError::Broken => {
            "Check that the receiver speaks HTTP at this port and does not close the connection before it answers."
        }
        AttemptError::NoResources => {
            "Test again later: the relay had no file handle, thread or memory left."
        }
        AttemptError::Internal => "Report it to the relay's operator: the relay made an error.",
        AttemptError::Refused | AttemptError::Redirected => {
            "Let the receiver answer 2xx to each event with a valid signature."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error of a response with this status.
    fn error(status: u16) -> Option<AttemptError> {
        match status {
            200..=299 => None,
            300..=399 => Some(AttemptError::Redirected),
            _ => Some(AttemptError::Refused),
        }
    }

    #[test]
    fn every_status_and_every_error_has_one_plain_sentence() {
        let of_statuses = (100..=999).map(|status| advice(Some(status), error(status)));
        let of_errors = AttemptError::ALL
            .iter()
            .map(|error| advice(None, Some(*error)));
        for told in of_statuses
            .chain(of_errors)
            .chain([BUSY, CERTIFICATE_REFUSED, UNREADABLE_AUTH])
        {
            assert!(told.ends_with('.') && !told.contains(". "), "{told}");
            assert!(
                told.chars().next().is_some_and(char::is_uppercase),
                "{told}"
            );
        }
    }

    #[test]
    fn the_advice_names_what_is_to_be_changed() {
        for (status, word) in [
            (204, "accepted"),
            (302, "redirect"),
            (401, "signing secret"),
            (403, "signing secret"),
            (404, "path"),
            (405, "POST"),
            (410, "410"),
            (413, "64 KiB"),
            (415, "application/json"),
            (429, "more requests"),
            (500, "log"),
            (503, "log"),
        ] {
            let told = advice(Some(status), error(status));
            assert!(told.contains(word), "{status}: {told}");
        }
        for (error, word) in [
            (AttemptError::TimedOut, "time-out"),
            (AttemptError::Dns, "host name"),
            (
                AttemptError::AddressRefused,
                "RELAY_CALLBACK_ALLOW_NETWORKS",
            ),
            (AttemptError::Connect, "listens"),
            (AttemptError::Tls, "certificate"),
            (AttemptError::Proxy, "RELAY_EGRESS_PROXY"),
            (AttemptError::Broken, "HTTP"),
        ] {
            let told = advice(None, Some(error));
            assert!(told.contains(word), "{error}: {told}");
        }
    }
}
