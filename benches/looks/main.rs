//! Measures how many looks a job takes, and how late a look finds its end, compared with a look every two seconds and
//! with and without Basiq's hints: `cargo bench --bench looks`. It simulates jobs with a fixed seed, without a network.

mod scenes;
mod simulation;

use std::io::Write;

use serde_json::json;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut figures = scenes::without_hints(&mut out)?;
    figures.extend(scenes::with_hints(&mut out)?);
    figures.extend(scenes::hints_that_stop(&mut out)?);
    writeln!(out, "{}", json!({ "bench": "looks", "figures": figures }))
}
