//! The demo's output: each scenario when it begins, each event when it arrives, then a table of expected and actual
//! events.

use std::collections::HashMap;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::{
    colour::Painter,
    demo::scenario::{DemoScenario, Expected},
    terminal::Screen,
};

/// Something that happened in a scenario.
#[derive(Debug)]
pub(super) struct ScenarioUpdate {
    pub(super) at: Timestamp,
    pub(super) scenario: &'static DemoScenario,
    pub(super) kind: ScenarioUpdateKind,
}

/// What happened in a scenario.
#[derive(Debug)]
pub(super) enum ScenarioUpdateKind {
    /// The scenario begins.
    Begins,
    /// The person, the backend or the bank does something.
    Acts(&'static str),
    /// An event arrived.
    Told {
        /// The HTTP status that the receiver answered.
        answered: u16,
        body: Value,
    },
    /// The scenario has ended.
    Ends,
}

/// One row of the closing table.
#[derive(Debug)]
pub(super) struct ScenarioRow {
    pub(super) passed: bool,
    text: String,
}

/// Where the message of an event begins.
const INDENT: usize = 10;
/// Where the events begin in the closing table.
const EVENTS: usize = 35;
/// The columns that the moving sign and the seconds take beside what is waited for.
const SPINNER: usize = 12;

/// Returns the heading above the events.
pub(super) fn heading(screen: &Screen) -> String {
    let line = format!(
        "{:<8}  {:<28}  {:<15}  {}",
        "time", "scenario", "status", "action"
    );
    Painter::detect().dim(screen.fit(&line, INDENT))
}

/// Returns the lines that tell some news. The first line fits 80 columns. A scenario that ends is not told: its last
/// event was.
pub(super) fn lines(news: &ScenarioUpdate, screen: &Screen) -> Option<String> {
    let paint = Painter::detect();
    let (what, below) = match &news.kind {
        ScenarioUpdateKind::Begins => (paint.dim("begins"), Some(news.scenario.story.to_owned())),
        ScenarioUpdateKind::Acts(what) => (paint.dim(what), None),
        ScenarioUpdateKind::Told { answered, body } => event(paint, *answered, body),
        ScenarioUpdateKind::Ends => return None,
    };
    let (time, title) = (paint.dim(screen.time(news.at)), news.scenario.title);
    let below = below.map(|text| format!("\n{:INDENT$}{text}", ""));
    let lines = format!("{time}  {title:<28}  {what}{}", below.unwrap_or_default());
    Some(screen.fit(&lines, INDENT))
}

/// Describes an event: what it says to programs, and below it the failed step and the message for the person.
fn event(paint: Painter, answered: u16, body: &Value) -> (String, Option<String>) {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let field = |name: &str| text(name).unwrap_or("-").to_owned();
    let status = paint.standing(&field("status"), 15);
    let refused = if (200..300).contains(&answered) {
        String::new()
    } else {
        paint.notable(format!(" [the receiver answered {answered}]"))
    };
    let step = text("failedStep").map(|step| format!("{step}: "));
    let message = field("userMessage");
    (
        format!("{status}  {}", paint.bold(field("action"))),
        Some(format!("{}{message}{refused}", step.unwrap_or_default())),
    )
}

/// Says which scenarios have begun and not ended, in one line of the screen.
pub(super) fn waiting_for(open: &[&DemoScenario], screen: &Screen) -> String {
    let titles = open.iter().map(|scenario| scenario.title);
    let text = format!("waiting for: {}", titles.collect::<Vec<_>>().join("; "));
    screen.clip(&text, SPINNER)
}

/// Compares the events of a scenario with the expected ones.
pub(super) fn row(scenario: &DemoScenario, result: Result<Vec<Value>>) -> ScenarioRow {
    let paint = Painter::detect();
    let expected = scenario
        .expected
        .iter()
        .map(expected_text)
        .collect::<Vec<_>>()
        .join(", ");
    let (seen, passed) = match result {
        Ok(events) => {
            let seen = events.iter().map(seen_text).collect::<Vec<_>>().join(", ");
            let passed = seen == expected && in_order(&events);
            (seen, passed)
        }
        Err(error) => (format!("{error:#}"), false),
    };
    let mark = if passed {
        paint.good("ok  ")
    } else {
        paint.bad("FAIL")
    };
    let mut text = format!("{mark} {:<28}  {expected}", scenario.title);
    if !passed {
        let seen = paint.bad(seen);
        text = format!("{text}\n     {:<28}  {seen}", "  seen:");
    }
    ScenarioRow { passed, text }
}

fn expected_text(expected: &Expected) -> String {
    let Expected {
        status,
        error_code,
        action,
        is_final,
    } = expected;
    describe(status, *error_code, action, *is_final)
}

fn seen_text(event: &Value) -> String {
    let field = |name: &str| event.get(name).and_then(Value::as_str);
    let is_final = event.get("final") == Some(&Value::Bool(true));
    let (status, action) = (
        field("status").unwrap_or("?"),
        field("action").unwrap_or("?"),
    );
    describe(status, field("errorCode"), action, is_final)
}

fn describe(status: &str, code: Option<&str>, action: &str, is_final: bool) -> String {
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    let more = if is_final { "" } else { " …" };
    format!("{status}{code} → {action}{more}")
}

/// Returns whether the events of each watch are numbered from 1 without a gap.
fn in_order(events: &[Value]) -> bool {
    let mut latest = HashMap::new();
    events.iter().all(|event| {
        let next = latest.entry(event.get("watchId")).or_insert(0_u64);
        *next += 1;
        event.get("sequence").and_then(Value::as_u64) == Some(*next)
    })
}

/// Returns the closing table.
pub(super) fn table(rows: &[ScenarioRow], screen: &Screen) -> String {
    let passed = rows.iter().filter(|row| row.passed).count();
    let lines = rows
        .iter()
        .map(|row| screen.fit(&row.text, EVENTS))
        .collect::<Vec<_>>()
        .join("\n");
    format!(
        "\n{lines}\n\n{passed} of {} scenarios ended as documented.",
        rows.len()
    )
}
