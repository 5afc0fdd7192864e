//! The problems of the relay that an operator should look at. Pure.

use relay_domain::{Upstream, UpstreamHealth};
use relay_store::{Census, ManualPause};

use crate::console::view::{PageClock, ShownTime, Tone};

/// A problem that needs attention.
pub(super) struct Concern {
    pub(super) tone: Tone,
    pub(super) text: String,
    pub(super) since: Option<ShownTime>,
    /// What follows the time.
    pub(super) more: String,
    pub(super) link: Option<ConcernLink>,
}

/// A link to the page that shows more of a problem.
pub(super) struct ConcernLink {
    pub(super) address: &'static str,
    pub(super) text: &'static str,
}

const DEAD_DELIVERIES: ConcernLink = ConcernLink {
    address: "/console/deliveries?state=dead",
    text: "See why",
};

const PAUSED_HOSTS: ConcernLink = ConcernLink {
    address: "/console/hosts",
    text: "See which",
};

/// Returns the problems that need attention: first those with Basiq, then those with deliveries.
pub(super) fn concerns(
    census: &Census,
    pauses: &[ManualPause],
    upstream: &Upstream,
    clock: PageClock,
) -> Vec<Concern> {
    let mut concerns = Vec::new();
    concerns.extend(about_basiq(upstream, clock));
    if upstream.is_breaker_open() {
        let text = "The breaker is open: one call at a time finds out whether Basiq works again.";
        concerns.push(Concern::new(Tone::Bad, text.to_owned(), None));
    }
    if census.dead_deliveries > 0 {
        let text = counted(
            census.dead_deliveries,
            "delivery is dead",
            "deliveries are dead",
        );
        concerns.push(Concern::new(Tone::Bad, text, Some(DEAD_DELIVERIES)));
    }
    if census.paused_hosts > 0 {
        let text = counted(
            census.paused_hosts,
            "callback host is paused",
            "callback hosts are paused",
        );
        concerns.push(Concern::new(Tone::Warn, text, Some(PAUSED_HOSTS)));
    }
    concerns.extend(about_manual_pauses(pauses, clock));
    concerns
}

/// Reminds of hosts that operators paused, because a forgotten pause makes events dead. `pauses` begins with the
/// latest.
fn about_manual_pauses(pauses: &[ManualPause], clock: PageClock) -> Option<Concern> {
    let oldest = pauses.last()?;
    let text = counted(
        u64::try_from(pauses.len()).unwrap_or(u64::MAX),
        "callback host is paused by an operator",
        "callback hosts are paused by operators, the first",
    );
    Some(Concern {
        since: Some(clock.when(oldest.paused_at)),
        more: ". Events that wait longer than their schedule die.".to_owned(),
        ..Concern::new(Tone::Warn, text, Some(PAUSED_HOSTS))
    })
}

/// Says what is wrong with Basiq, since when and why. Returns none while it answers as usual.
fn about_basiq(upstream: &Upstream, clock: PageClock) -> Option<Concern> {
    let (since, why) = match upstream.trouble() {
        Some(trouble) => (
            Some(clock.when(trouble.since)),
            format!(": {}", trouble.why),
        ),
        None => (None, String::new()),
    };
    let (tone, text, more) = match upstream.health() {
        UpstreamHealth::Ok => return None,
        UpstreamHealth::KeyRefused => {
            let more = ". No job is looked at. The key is tried again every 30 seconds.";
            (Tone::Bad, "Basiq refuses the API key", more.to_owned())
        }
        UpstreamHealth::Failing => {
            let more = format!("{why}. Every look is tried again later.");
            (Tone::Bad, "Basiq is down", more)
        }
        UpstreamHealth::Throttled => {
            let text = "Basiq asks for fewer calls";
            (Tone::Warn, text, format!("{why}. Looks come later."))
        }
    };
    Some(Concern {
        since,
        more,
        ..Concern::new(tone, text.to_owned(), None)
    })
}

impl Concern {
    fn new(tone: Tone, text: String, link: Option<ConcernLink>) -> Self {
        Self {
            tone,
            text,
            since: None,
            more: String::new(),
            link,
        }
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_wants_a_look_is_said_and_nothing_else() {
        let (upstream, clock) = (Upstream::default(), PageClock(Timestamp::UNIX_EPOCH));
        assert!(concerns(&Census::default(), &[], &upstream, clock).is_empty());
        upstream.report(UpstreamHealth::KeyRefused);
        upstream.set_breaker_open(true);
        let census = Census {
            dead_deliveries: 1,
            paused_hosts: 2,
            ..Census::default()
        };
        let concerns = concerns(&census, &[], &upstream, clock);
        assert_eq!(concerns.len(), 4);
        assert_eq!(concerns[2].text, "1 delivery is dead");
        assert_eq!(concerns[3].text, "2 callback hosts are paused");
    }

    #[test]
    fn that_basiq_is_down_is_said_with_the_time_and_the_reason() {
        let (upstream, clock) = (Upstream::default(), PageClock(Timestamp::UNIX_EPOCH));
        upstream.report(UpstreamHealth::Failing);
        let why = "it answers HTTP 503".to_owned();
        upstream.set_trouble(Some(why), Timestamp::UNIX_EPOCH);
        let concern = about_basiq(&upstream, clock).unwrap();
        assert_eq!(concern.text, "Basiq is down");
        assert!(concern.since.unwrap().to_string().contains("00:00:00"));
        assert_eq!(
            concern.more,
            ": it answers HTTP 503. Every look is tried again later."
        );
    }
}
