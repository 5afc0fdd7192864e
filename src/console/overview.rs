//! The first page: the state of the relay, and problems that need attention.

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use relay_domain::{JobKind, LookTally, Upstream, UpstreamHealth, WatchState};
use relay_store::{Census, ManualPause};

use crate::console::{
    comparison,
    fault::ErrorPage,
    over_time::OverTime,
    span::SpanQuery,
    state::ConsoleState,
    view::{Badge, PageClock, ShownTime, Tone, state_word},
    visit::{PageContext, PageFrame, Section},
};

const SECONDS_A_DAY: f64 = 86_400.0;

/// The maximum number of manual pauses to count.
const MOST_PAUSES: usize = 1000;

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console", get(show))
}

/// A count, with a link to the list of the counted items.
struct Figure {
    label: &'static str,
    count: u64,
    /// What the count means.
    hint: &'static str,
    tone: Tone,
    address: &'static str,
}

/// A problem that needs attention.
struct Concern {
    tone: Tone,
    text: String,
    since: Option<ShownTime>,
    /// What follows the time.
    more: String,
    /// The address of the page that shows more, and the link's text.
    link: Option<(&'static str, &'static str)>,
}

/// The state of calls to Basiq.
struct Basiq {
    health: Badge,
    breaker: Badge,
    per_second: u32,
    in_flight: usize,
    /// The part of the budget that is in force now: in percent, and in calls a second.
    pace: (u32, String),
}

/// The calls that jobs of one type took since this relay started.
struct Looks {
    kind: &'static str,
    ended: u64,
    /// The calls to Basiq for each job.
    calls_a_job: String,
    /// The percentage of ends that Basiq announced.
    announced: String,
    /// The number of such jobs that the whole budget carries in a day.
    jobs_a_day: String,
}

#[derive(Template)]
#[template(path = "overview.html", blocks = ["live"])]
struct Page {
    shell: PageFrame,
    /// The address of this page, for the span that it shows.
    here: String,
    concerns: Vec<Concern>,
    watches: Vec<Figure>,
    deliveries: Vec<Figure>,
    over_time: OverTime,
    /// The address of the page that compares banks, hosts and clients.
    comparison: String,
    basiq: Basiq,
    looks: Vec<Looks>,
    relays: usize,
    looks_due: u64,
    version: &'static str,
}

async fn show(
    State(state): State<ConsoleState>,
    Query(asked): Query<SpanQuery>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let span = asked.span();
    let census = state.census().await?;
    let basiq = basiq(&state);
    let pauses = state.parts.store.list_manual_pauses(MOST_PAUSES).await?;
    let page = Page {
        shell: visit.shell(Section::Overview, "Overview"),
        here: span.of_page("/console"),
        concerns: concerns(&census, &pauses, &state.parts.upstream, visit.clock()),
        watches: watches(&census),
        deliveries: deliveries(&census),
        over_time: OverTime::read(&state, span, visit.now()).await?,
        comparison: comparison::address(span),
        basiq,
        looks: looks(&state.parts.looks, state.parts.budget.per_second),
        relays: state.parts.share.relays(),
        looks_due: census.due_jobs,
        version: env!("CARGO_PKG_VERSION"),
    };
    visit.answer(&page, &page.as_live())
}

fn basiq(state: &ConsoleState) -> Basiq {
    let (upstream, budget) = (&state.parts.upstream, state.parts.budget);
    let pace = upstream.pace();
    let now = f64::from(budget.per_second) * f64::from(pace) / f64::from(Upstream::WHOLE);
    let breaker = if upstream.is_breaker_open() {
        (Tone::Bad, "open: calls rest")
    } else {
        (Tone::Good, "closed")
    };
    Basiq {
        health: Badge::upstream(upstream.health()),
        breaker: Badge {
            tone: breaker.0,
            word: breaker.1.to_owned(),
        },
        per_second: budget.per_second,
        in_flight: budget.in_flight,
        pace: (pace / 10, format!("{now:.1}")),
    }
}

/// Returns the calls for each type of job of which one has ended.
fn looks(tally: &LookTally, per_second: u32) -> Vec<Looks> {
    let kinds = JobKind::ALL.iter().filter_map(|kind| {
        let counts = tally.of(*kind)?;
        let jobs_a_day = f64::from(per_second) * SECONDS_A_DAY / counts.looks_a_job();
        Some(Looks {
            kind: kind.as_str(),
            ended: counts.ends,
            calls_a_job: format!("{:.1}", counts.looks_a_job()),
            announced: format!("{:.0} %", 100.0 * counts.announced_share()),
            jobs_a_day: thousands(jobs_a_day),
        })
    });
    kinds.collect()
}

/// Writes a number in whole thousands, or as it is below that.
fn thousands(number: f64) -> String {
    if number < 1000.0 {
        format!("{number:.0}")
    } else {
        format!("{:.0},000", number / 1000.0)
    }
}

fn watches(census: &Census) -> Vec<Figure> {
    let figures = census.watches.iter().map(|(state, count)| {
        let (hint, address) = match state {
            WatchState::Watching => ("Basiq is asked", "/console/watches?state=watching"),
            WatchState::AwaitingUser => (
                "a challenge is open",
                "/console/watches?state=awaiting-user",
            ),
            WatchState::Delayed => (
                "Basiq or the bank tries again",
                "/console/watches?state=delayed",
            ),
            WatchState::Settled => (
                "its last event is queued or sent",
                "/console/watches?state=settled",
            ),
            WatchState::Cancelled => (
                "ended without a last event",
                "/console/watches?state=cancelled",
            ),
        };
        Figure {
            label: state_word(*state),
            count: *count,
            hint,
            tone: if *count > 0 {
                Badge::watch(*state).tone
            } else {
                Tone::Calm
            },
            address,
        }
    });
    figures.collect()
}

fn deliveries(census: &Census) -> Vec<Figure> {
    let bad = |count: u64| if count > 0 { Tone::Bad } else { Tone::Calm };
    vec![
        Figure {
            label: "dead",
            count: census.dead_deliveries,
            hint: "given up, and kept",
            tone: bad(census.dead_deliveries),
            address: "/console/deliveries?state=dead",
        },
        Figure {
            label: "pending",
            count: census.pending_deliveries,
            hint: "wait for an attempt",
            tone: Tone::Calm,
            address: "/console/deliveries?state=pending",
        },
        Figure {
            label: "due now",
            count: census.due_deliveries,
            hint: "of those that wait",
            tone: Tone::Calm,
            address: "/console/deliveries?state=pending",
        },
        Figure {
            label: "hosts paused",
            count: census.paused_hosts,
            hint: "they keep failing",
            tone: bad(census.paused_hosts),
            address: "/console/hosts",
        },
    ]
}

/// Returns the problems that need attention: first those with Basiq, then those with deliveries.
fn concerns(
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
        let link = ("/console/deliveries?state=dead", "See why");
        concerns.push(Concern::new(Tone::Bad, text, Some(link)));
    }
    if census.paused_hosts > 0 {
        let text = counted(
            census.paused_hosts,
            "callback host is paused",
            "callback hosts are paused",
        );
        let link = ("/console/hosts", "See which");
        concerns.push(Concern::new(Tone::Warn, text, Some(link)));
    }
    concerns.extend(about_manual_pauses(pauses, clock));
    concerns
}

/// Reminds of hosts that operators paused, because a forgotten pause makes events dead. `pauses` begins with the latest.
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
        ..Concern::new(Tone::Warn, text, Some(("/console/hosts", "See which")))
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
    fn new(tone: Tone, text: String, link: Option<(&'static str, &'static str)>) -> Self {
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
    use std::time::Duration;

    use jiff::Timestamp;
    use relay_domain::EndNotice;

    use super::*;

    #[test]
    fn what_jobs_cost_is_told_for_each_type_that_has_ended() {
        let tally = LookTally::default();
        for _ in 0..9 {
            tally.count_look(JobKind::Connection);
        }
        tally.count_look(JobKind::Report);
        assert!(looks(&tally, 20).is_empty());
        let hint = EndNotice::Hint {
            after: Duration::ZERO,
        };
        tally.count_end(JobKind::Connection, hint);
        let late = EndNotice::Look {
            unannounced_for: Duration::ZERO,
        };
        tally.count_end(JobKind::Connection, late);
        let told = looks(&tally, 20);
        assert_eq!(told.len(), 1);
        let told = &told[0];
        assert_eq!((told.kind, told.ended), ("connection", 2));
        let texts = [&told.calls_a_job, &told.announced, &told.jobs_a_day];
        assert_eq!(texts, ["4.5", "50 %", "384,000"]);
        assert_eq!(thousands(12.4), "12");
    }

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
