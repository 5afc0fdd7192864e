//! The first page: the state of the relay, and problems that need attention.

use askama::Template;
use axum::{
    Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use relay_domain::{JobKind, LookTally, Upstream, WatchState};
use relay_store::Census;

use crate::console::{
    activity_charts::ActivityCharts,
    comparison,
    concerns::{Concern, concerns},
    fault::ErrorPage,
    span::SpanQuery,
    state::ConsoleState,
    view::{Badge, Tone, state_word},
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

/// The state of calls to Basiq.
struct Basiq {
    health: Badge,
    breaker: Badge,
    per_second: u32,
    in_flight: usize,
    /// The part of the budget that is in force now.
    percent_in_force: u32,
    calls_per_second_in_force: String,
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
    frame: PageFrame,
    /// The address of this page, for the span that it shows.
    here: String,
    concerns: Vec<Concern>,
    watches: Vec<Figure>,
    deliveries: Vec<Figure>,
    activity: ActivityCharts,
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
    Query(params): Query<SpanQuery>,
    visit: PageContext,
) -> Result<Response, ErrorPage> {
    let span = params.span();
    let census = state.census().await?;
    let basiq = basiq(&state);
    let pauses = state.parts.store.list_manual_pauses(MOST_PAUSES).await?;
    let page = Page {
        frame: visit.frame(Section::Overview, "Overview"),
        here: span.of_page("/console"),
        concerns: concerns(&census, &pauses, &state.parts.upstream, visit.clock()),
        watches: watches(&census),
        deliveries: deliveries(&census),
        activity: ActivityCharts::read(&state, span, visit.now()).await?,
        comparison: comparison::address(span),
        basiq,
        looks: looks(&state.parts.looks, state.parts.budget.per_second),
        relays: state.parts.fleet.relays(),
        looks_due: census.due_jobs,
        version: env!("CARGO_PKG_VERSION"),
    };
    visit.answer(&page, &page.as_live())
}

fn basiq(state: &ConsoleState) -> Basiq {
    let (upstream, budget) = (&state.parts.upstream, state.parts.budget);
    let share = upstream.budget_share();
    let now = f64::from(budget.per_second) * f64::from(share) / f64::from(Upstream::WHOLE);
    let (tone, word) = if upstream.is_breaker_open() {
        (Tone::Bad, "open: calls rest")
    } else {
        (Tone::Good, "closed")
    };
    Basiq {
        health: Badge::upstream(upstream.health()),
        breaker: Badge {
            tone,
            word: word.to_owned(),
        },
        per_second: budget.per_second,
        in_flight: budget.in_flight,
        percent_in_force: share / 10,
        calls_per_second_in_force: format!("{now:.1}"),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay_domain::EndDetection;

    use super::*;

    #[test]
    fn what_jobs_cost_is_told_for_each_type_that_has_ended() {
        let tally = LookTally::default();
        for _ in 0..9 {
            tally.count_look(JobKind::Connection);
        }
        tally.count_look(JobKind::Report);
        assert!(looks(&tally, 20).is_empty());
        let hint = EndDetection::Hint {
            after: Duration::ZERO,
        };
        tally.count_end(JobKind::Connection, hint);
        let late = EndDetection::Look {
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
}
