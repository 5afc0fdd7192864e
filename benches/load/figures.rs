//! The figures of a run: printed as a table, and as one line of JSON.

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::database::Kind;

/// All figures, in the order of their measurement.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<(Kind, &'static str, f64)>,
}

/// Records the figures of one kind of store.
pub(crate) struct Figures<'r> {
    kind: Kind,
    report: &'r mut Report,
}

impl Report {
    pub(crate) fn of(&mut self, kind: Kind) -> Figures<'_> {
        Figures { kind, report: self }
    }

    /// Prints all figures as one line of JSON.
    pub(crate) fn print(&self) -> Result<()> {
        let mut all = Map::new();
        for (kind, name, value) in &self.rows {
            let of_store = all.entry(kind.word()).or_insert_with(|| json!({}));
            if let Some(of_store) = of_store.as_object_mut() {
                of_store.insert((*name).to_owned(), json!((value * 1e4).round() / 1e4));
            }
        }
        say(&Value::Object(all).to_string())
    }
}

impl Figures<'_> {
    /// Records a figure and prints it.
    pub(crate) fn note(&mut self, name: &'static str, value: f64, unit: &str) -> Result<()> {
        let (store, value_shown) = (self.kind.word(), shown(value));
        say(&format!("{store:<9} {name:<28} {value_shown:>12} {unit}"))?;
        self.report.rows.push((self.kind, name, value));
        Ok(())
    }
}

fn shown(value: f64) -> String {
    if value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

pub(crate) fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("nobody listens")
}

/// Converts a count to a figure.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run stay far below 2^52"
)]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// Returns this percentile of the values, with `hundredths` from 0 to 100.
pub(crate) fn percentile(values: &mut [f64], hundredths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = values.len().saturating_sub(1) * hundredths / 100;
    values.get(place).copied().unwrap_or(f64::NAN)
}
