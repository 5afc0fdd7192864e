//! The scenes that the benchmark plays, and their tables.

use std::io::Write;

use serde_json::{Value, json};

use crate::simulation::{BANKS, Bank, HintScene, JobScene, Simulation, Tally, Way, simulate};

/// The number of simulated jobs for each bank and each way.
const JOBS: usize = 5000;

const SEED: u64 = 20_261_124;

/// The number of jobs for each figure after hints stopped, and the number of such figures.
const WINDOW: (usize, usize) = (20, 5);

/// A row of a table: its name and its totals.
type Row = (&'static str, Tally);

/// Plays each way without hints, with and without failures. Returns the figures.
pub(crate) fn without_hints(out: &mut impl Write) -> std::io::Result<Vec<Value>> {
    let mut figures = Vec::new();
    for (name, fails) in [("all succeed", 0.0), ("one in ten fails", 0.1)] {
        heading(out, name, "looked at")?;
        let scene = JobScene {
            jobs: JOBS,
            fails,
            hints: HintScene::NONE,
        };
        let rows = |bank| Way::ALL.map(|way| (way.name(), simulate(bank, way, scene, SEED)));
        figures.extend(play(out, name, rows)?);
    }
    Ok(figures)
}

/// A scene with hints: its name, the share of jobs that fail, and the hints.
type Hinted = (&'static str, f64, HintScene);

/// The scenes with hints. Failures are announced never, or as often as `connection.invalidated` is sent.
fn hinted() -> [Hinted; 9] {
    let invalidated = |share| HintScene {
        failures: 0.5,
        ..HintScene::successes(share)
    };
    let lies = |a_second| HintScene {
        false_a_second: a_second,
        ..HintScene::NONE
    };
    [
        ("0 % announced", 0.0, HintScene::NONE),
        ("50 %", 0.0, HintScene::successes(0.5)),
        ("90 %", 0.0, HintScene::successes(0.9)),
        ("95 %", 0.0, HintScene::successes(0.95)),
        ("100 %", 0.0, HintScene::successes(1.0)),
        ("0 %, 10 % fail", 0.1, HintScene::NONE),
        ("90 %, 10 % fail", 0.1, HintScene::successes(0.9)),
        ("same, half told", 0.1, invalidated(0.9)),
        ("a lie each 10 s", 0.0, lies(0.1)),
    ]
}

/// Plays each scene with hints, for banks that are learned and for banks that are not. Returns the figures.
pub(crate) fn with_hints(out: &mut impl Write) -> std::io::Result<Vec<Value>> {
    let mut figures = Vec::new();
    for (name, way) in [("learned", Way::Learned), ("not learned", Way::Unknown)] {
        heading(out, name, "hints")?;
        let rows = |bank| {
            hinted().map(|(name, fails, hints)| {
                let scene = JobScene {
                    jobs: JOBS,
                    fails,
                    hints,
                };
                (name, simulate(bank, way, scene, SEED))
            })
        };
        figures.extend(play(out, name, rows)?);
    }
    Ok(figures)
}

/// Lets hints about 95 % of all jobs stop at a learned bank. Returns the looks that follow, compared with those without
/// hints.
pub(crate) fn hints_that_stop(out: &mut impl Write) -> std::io::Result<Vec<Value>> {
    heading(out, "hints stop after 100 jobs", "jobs since")?;
    let names = ["1 to 20", "21 to 40", "41 to 60", "61 to 80", "81 to 100"];
    let rows = |bank| {
        let mut rows = vec![("without hints", silence(bank, HintScene::NONE, 1))];
        let windows = names.iter().zip(1..=WINDOW.1);
        let stopped = HintScene::successes(0.95);
        rows.extend(windows.map(|(name, window)| (*name, silence(bank, stopped, window))));
        rows
    };
    play(out, "hints stop", rows)
}

/// Learns a bank with these hints, lets them stop, and looks at more jobs. Returns the totals of one window of these,
/// over many repetitions.
fn silence(bank: &'static Bank, before: HintScene, window: usize) -> Tally {
    let mut tally = Tally::default();
    let scene = |hints| JobScene {
        jobs: WINDOW.0,
        fails: 0.0,
        hints,
    };
    for seed in (SEED..).take(JOBS / WINDOW.0) {
        let mut simulation = Simulation::new(bank, Way::Learned, 10 * seed);
        simulation.learn(scene(before), 10 * seed);
        for _ in 1..window {
            simulation.run(scene(HintScene::NONE));
        }
        tally.add(&simulation.run(scene(HintScene::NONE)));
    }
    tally
}

/// Prints the rows of each bank and of all together. Returns the figures of all together.
fn play<R: IntoIterator<Item = Row>>(
    out: &mut impl Write,
    scene: &str,
    rows: impl Fn(&'static Bank) -> R,
) -> std::io::Result<Vec<Value>> {
    let mut sums: Vec<Row> = Vec::new();
    for bank in BANKS {
        let rows: Vec<Row> = rows(bank).into_iter().collect();
        write_rows(out, bank.name, &rows)?;
        if sums.is_empty() {
            sums.extend(rows.iter().map(|(name, _)| (*name, Tally::default())));
        }
        for ((_, sum), (_, tally)) in sums.iter_mut().zip(&rows) {
            sum.add(tally);
        }
    }
    write_rows(out, "all", &sums)?;
    let figures = sums.iter().map(|(name, sum)| {
        json!({
            "scene": scene, "way": name, "looks": sum.looks_a_job(),
            "mean_s": sum.mean_delay(), "p95_s": sum.delay_at(0.95), "p99_s": sum.delay_at(0.99),
        })
    });
    Ok(figures.collect())
}

fn heading(out: &mut impl Write, scene: &str, rows: &str) -> std::io::Result<()> {
    writeln!(
        out,
        "\n{scene:<26} {rows:<16} {:>9} {:>7} {:>9} {:>7} {:>7} {:>7}",
        "looks/job", "share", "mean s", "p50 s", "p95 s", "p99 s"
    )
}

/// Prints rows. The share is that of the first row's looks.
fn write_rows(out: &mut impl Write, bank: &str, rows: &[Row]) -> std::io::Result<()> {
    let first = rows.first().map_or(1.0, |(_, tally)| tally.looks_a_job());
    for (name, tally) in rows {
        writeln!(
            out,
            "{bank:<26} {name:<16} {:>9.2} {:>7.2} {:>9.2} {:>7.2} {:>7.2} {:>7.2}",
            tally.looks_a_job(),
            tally.looks_a_job() / first,
            tally.mean_delay(),
            tally.delay_at(0.5),
            tally.delay_at(0.95),
            tally.delay_at(0.99),
        )?;
    }
    Ok(())
}
