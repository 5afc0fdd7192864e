//! The result of an action, shown by the page after it. The page's address carries it as one of a few words.

use std::fmt;

use askama::filters::HtmlSafe;
use url::form_urlencoded;

/// The result of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActionResult {
    /// An event was queued again.
    Queued,
    /// This number of dead deliveries was queued again.
    QueuedMany(u64),
    /// More deliveries pass the filter than were counted, so nothing was queued.
    CountAgain,
    /// The host is paused until somebody resumes it.
    HostPaused,
    /// The host was paused by hand already.
    HostWasPaused,
    /// The host is posted to again.
    HostResumed,
    /// The host was not paused by hand.
    HostWasNotPaused,
    /// The watch was cancelled.
    Cancelled,
    /// The subscription was ended.
    Ended,
    /// The watch has no event to deliver again.
    NoEvent,
    /// The event was not queued, because its watch has a newer event.
    NewerEvent,
    /// The event was not queued, because its watch is cancelled or its client is revoked.
    IsCancelled,
    /// The object of the action no longer exists.
    Gone,
    /// The previous signing secret is no longer used.
    Retired,
    /// Nothing was changed, because the client has only one secret.
    NotRotated,
    /// A client was revoked, and this number of its watches was cancelled.
    Revoked(u64),
}

impl ActionResult {
    /// Parses the notice from the query of an address.
    pub(super) fn of_query(query: &str) -> Option<Self> {
        let (mut word, mut count) = (None, 0);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "done" => word = Some(value),
                "count" => count = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        Some(match &*word? {
            "queued" => Self::Queued,
            "queued-many" => Self::QueuedMany(count),
            "count-again" => Self::CountAgain,
            "host-paused" => Self::HostPaused,
            "host-was-paused" => Self::HostWasPaused,
            "host-resumed" => Self::HostResumed,
            "host-was-not-paused" => Self::HostWasNotPaused,
            "cancelled" => Self::Cancelled,
            "ended" => Self::Ended,
            "no-event" => Self::NoEvent,
            "newer-event" => Self::NewerEvent,
            "is-cancelled" => Self::IsCancelled,
            "gone" => Self::Gone,
            "retired" => Self::Retired,
            "not-rotated" => Self::NotRotated,
            "revoked" => Self::Revoked(count),
            _ => return None,
        })
    }

    /// Writes the notice as part of a query.
    pub(super) fn to_query(self) -> String {
        match self {
            Self::Queued => "done=queued".to_owned(),
            Self::QueuedMany(count) => format!("done=queued-many&count={count}"),
            Self::CountAgain => "done=count-again".to_owned(),
            Self::HostPaused => "done=host-paused".to_owned(),
            Self::HostWasPaused => "done=host-was-paused".to_owned(),
            Self::HostResumed => "done=host-resumed".to_owned(),
            Self::HostWasNotPaused => "done=host-was-not-paused".to_owned(),
            Self::Cancelled => "done=cancelled".to_owned(),
            Self::Ended => "done=ended".to_owned(),
            Self::NoEvent => "done=no-event".to_owned(),
            Self::NewerEvent => "done=newer-event".to_owned(),
            Self::IsCancelled => "done=is-cancelled".to_owned(),
            Self::Gone => "done=gone".to_owned(),
            Self::Retired => "done=retired".to_owned(),
            Self::NotRotated => "done=not-rotated".to_owned(),
            Self::Revoked(count) => format!("done=revoked&count={count}"),
        }
    }

    /// Whether the action succeeded.
    fn is_good(self) -> bool {
        match self {
            Self::Queued
            | Self::Cancelled
            | Self::Ended
            | Self::Retired
            | Self::HostPaused
            | Self::HostResumed
            | Self::Revoked(_) => true,
            Self::QueuedMany(count) => count > 0,
            Self::CountAgain
            | Self::HostWasPaused
            | Self::HostWasNotPaused
            | Self::NoEvent
            | Self::NewerEvent
            | Self::IsCancelled
            | Self::Gone
            | Self::NotRotated => false,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Queued => "Queued: it is sent again now, with the same webhook-id. If somebody paused its host, it \
                 waits until the host is resumed."
                .to_owned(),
            Self::QueuedMany(0) => {
                "Nothing was queued: nothing of these is dead any more that may be sent again."
                    .to_owned()
            }
            Self::QueuedMany(1) => "1 delivery is queued again.".to_owned(),
            Self::QueuedMany(count) => format!("{count} deliveries are queued again."),
            Self::CountAgain => {
                "Nothing was queued yet: look at the number again, then confirm it.".to_owned()
            }
            Self::HostPaused => {
                "Paused: until you resume the host, only events with a deadline are posted to it."
                    .to_owned()
            }
            Self::HostWasPaused => "Nothing was changed: the host is paused already.".to_owned(),
            Self::HostResumed => "Resumed: what waits for the host is sent now.".to_owned(),
            Self::HostWasNotPaused => "Nothing was changed: nobody had paused the host.".to_owned(),
            Self::Cancelled => "Cancelled: nothing more is posted for this watch.".to_owned(),
            Self::Ended => "Ended: nothing more is sent for this subscription.".to_owned(),
            Self::NoEvent => {
                "Nothing was told yet, so there is nothing to deliver once more.".to_owned()
            }
            Self::NewerEvent => {
                "Not queued: its watch has a newer event, which is the one to deliver.".to_owned()
            }
            Self::IsCancelled => {
                "Not queued: nothing is posted for a cancelled watch, nor for a revoked client."
                    .to_owned()
            }
            Self::Gone => "There is no such thing any more.".to_owned(),
            Self::Retired => "The old signing secret signs no more.".to_owned(),
            Self::NotRotated => "Nothing was changed: only one secret signed.".to_owned(),
            Self::Revoked(1) => "Revoked, and its 1 open watch is cancelled.".to_owned(),
            Self::Revoked(count) => {
                format!("Revoked, and its {count} open watches are cancelled.")
            }
        }
    }
}

/// Writes HTML. No notice contains text that needs escaping.
impl fmt::Display for ActionResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tone = if self.is_good() { "good" } else { "warn" };
        write!(f, "<p class=\"notice {tone}\">{}</p>", self.text())
    }
}

impl HtmlSafe for ActionResult {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_survives_being_written_and_read() {
        for notice in [
            ActionResult::Queued,
            ActionResult::QueuedMany(3),
            ActionResult::CountAgain,
            ActionResult::HostPaused,
            ActionResult::HostWasPaused,
            ActionResult::HostResumed,
            ActionResult::HostWasNotPaused,
            ActionResult::Cancelled,
            ActionResult::Ended,
            ActionResult::NoEvent,
            ActionResult::NewerEvent,
            ActionResult::IsCancelled,
            ActionResult::Gone,
            ActionResult::Retired,
            ActionResult::NotRotated,
            ActionResult::Revoked(2),
        ] {
            let query = format!("state=dead&{}", notice.to_query());
            assert_eq!(ActionResult::of_query(&query), Some(notice));
            assert!(!notice.text().contains(['<', '>', '&', '"']));
        }
        for odd in ["", "done=", "done=%3Cscript%3E", "count=1"] {
            assert_eq!(ActionResult::of_query(odd), None, "{odd}");
        }
    }
}
