//! The demo's output: each event when it arrives, then a table of expected and actual events.

use std::collections::HashMap;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::{
    colour::Painter,
    demo::scenario::{DemoScenario, Expected},
    terminal::Screen,
};

/// An event that arrived.
#[derive(Debug)]
pub(super) struct ArrivedEvent {
    pub(super) at: Timestamp,
    pub(super) scenario: &'static DemoScenario,
    /// The HTTP status that the receiver answered.
    pub(super) answered: u16,
    pub(super) body: Value,
}

/// One row of the closing table.
#[derive(Debug)]
pub(super) struct ScenarioRow {
    pub(super) passed: bool,
    text: String,
}

/// Where the message of an event begins.
const INDENT: usize = 10;

/// Returns the heading above the events.
pub(super) fn heading(screen: &Screen) -> String {
    let line = format!(
        "{:<8}  {:<28}  {:<15}  {}",
        "time", "scenario", "status", "action"
    );
    Painter::detect().dim(screen.fit(&line, INDENT))
}

/// Returns the lines of one event: what it says to programs, and below it the failed step and the message for the
/// person. The first line fits 80 columns.
pub(super) fn lines(told: &ArrivedEvent, screen: &Screen) -> String {
    let paint = Painter::detect();
    let text = |name: &str| told.body.get(name).and_then(Value::as_str);
    let field = |name: &str| text(name).unwrap_or("-").to_owned();
    let step = text("failedStep").map(|step| format!("{step}: "));
    let status = paint.standing(&field("status"), 15);
    let refused = if (200..300).contains(&told.answered) {
        String::new()
    } else {
        paint.notable(format!(" [the receiver answered {}]", told.answered))
    };
    let lines = format!(
        "{}  {:<28}  {status}  {}\n{:INDENT$}{}{}{refused}",
        paint.dim(screen.time(told.at)),
        told.scenario.title,
        paint.bold(field("action")),
        "",
        step.unwrap_or_default(),
        field("userMessage"),
    );
    screen.fit(&lines, INDENT)
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
    let mut text = format!("{mark}  {:<28}  {expected}", scenario.title);
    if !passed {
        let seen = paint.bad(seen);
        text = format!("{text}\n      {:<28}  {seen}", "  seen:");
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
        .map(|row| screen.fit(&row.text, 6))
        .collect::<Vec<_>>()
        .join("\n");
    format!(
        "\n{lines}\n\n{passed} of {} scenarios ended as documented.",
        rows.len()
    )
}
