//! Measures how many looks a job takes, and how late a look finds its end, compared with a look every two seconds:
//! `cargo bench --bench looks`. It simulates jobs with a fixed seed, without a network.

mod simulation;

use std::io::Write;

use serde_json::json;
use simulation::{BANKS, Tally, Way, simulate};

/// The number of simulated jobs for each bank and each way.
const JOBS: usize = 5000;

const SEED: u64 = 20_261_124;

/// The shares of jobs that fail. Such jobs fail at their first step.
const SCENES: [(&str, f64); 2] = [("all succeed", 0.0), ("one in ten fails", 0.1)];

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut figures = Vec::new();
    for (scene, fails) in SCENES {
        let sums = play(&mut out, scene, fails)?;
        figures.extend(Way::ALL.iter().zip(&sums).map(|(way, sum)| {
            json!({
                "scene": scene, "way": way.name(), "looks": sum.looks_a_job(),
                "mean_s": sum.mean_delay(), "p95_s": sum.delay_at(0.95), "p99_s": sum.delay_at(0.99),
            })
        }));
    }
    writeln!(out, "{}", json!({ "bench": "looks", "figures": figures }))
}

/// Prints the results of each way at each bank. Returns the totals of each way.
fn play(out: &mut impl Write, scene: &str, fails: f64) -> std::io::Result<Vec<Tally>> {
    writeln!(
        out,
        "\n{scene:<26} {:<16} {:>9} {:>7} {:>9} {:>7} {:>7} {:>7}",
        "looked at", "looks/job", "share", "mean s", "p50 s", "p95 s", "p99 s"
    )?;
    let mut sums: Vec<Tally> = Way::ALL.iter().map(|_| Tally::default()).collect();
    for bank in BANKS {
        let tallies = Way::ALL.map(|way| simulate(bank, way, (JOBS, fails), SEED));
        for (sum, tally) in sums.iter_mut().zip(&tallies) {
            sum.add(tally);
        }
        write_rows(out, bank.name, &tallies)?;
    }
    write_rows(out, "all", &sums)?;
    Ok(sums)
}

fn write_rows(out: &mut impl Write, name: &str, tallies: &[Tally]) -> std::io::Result<()> {
    let fixed = tallies.first().map_or(1.0, Tally::looks_a_job);
    for (way, tally) in Way::ALL.iter().zip(tallies) {
        writeln!(
            out,
            "{name:<26} {:<16} {:>9.2} {:>7.2} {:>9.2} {:>7.2} {:>7.2} {:>7.2}",
            way.name(),
            tally.looks_a_job(),
            tally.looks_a_job() / fixed,
            tally.mean_delay(),
            tally.delay_at(0.5),
            tally.delay_at(0.95),
            tally.delay_at(0.99),
        )?;
    }
    Ok(())
}
