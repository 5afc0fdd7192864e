//! Tests of the charts, from rows to what is drawn.

use std::time::Duration;

use relay_domain::{ActivityScope, ActivityTally};

use super::*;

fn row(since: &str, succeeded: u64, run: u8) -> ActivityRow {
    let mut tally = ActivityTally::default();
    let counts = tally.counts_of(ActivityTally::ALL);
    counts.succeeded = succeeded;
    counts.took.add(Duration::from_secs(1));
    ActivityRow {
        scope: ActivityScope::Minute,
        since: since.parse().unwrap(),
        run: [run; 16],
        tally,
    }
}

fn looked(mut row: ActivityRow, looks: u64) -> ActivityRow {
    row.tally.counts_of(ActivityTally::ALL).looks = looks;
    row
}

#[test]
fn rows_of_all_relays_are_added_and_those_outside_are_left_out() {
    let now: Timestamp = "2026-11-29T21:47:12Z".parse().unwrap();
    let first = TimeSpan::Hour.first_bar(now);
    let rows = [
        looked(row("2026-11-29T20:48:00Z", 3, 1), 41),
        row("2026-11-29T21:47:00Z", 4, 1),
        row("2026-11-29T21:47:00Z", 5, 2),
        row("2026-11-29T21:48:00Z", 100, 1),
        row("2026-11-29T20:47:00Z", 100, 1),
    ];
    let bars = Bars::of(&rows, TimeSpan::Hour, first);
    assert_eq!(
        (bars.counts[0].succeeded, bars.counts[59].succeeded),
        (3, 9)
    );
    assert_eq!(bars.total().succeeded, 12);
    let shown = ActivityCharts::of(&bars);
    assert_eq!(shown.labels, ["20:48", "21:02", "21:17", "21:32", "21:47"]);
    assert_eq!(shown.rows.len(), 2);
    assert_eq!(
        (shown.rows[0].from.as_str(), &*shown.rows[0].numbers[0]),
        ("21:47", "9")
    );
    let chart = &shown.charts[0];
    assert_eq!(chart.lines, ["10", "5", "0"]);
    let looks = &shown.charts[2];
    assert_eq!(looks.lines, ["50", "25", "0"]);
    // the bar is as high as its share: 41 of 50
    assert_eq!(looks.shapes[0].path, "M1 100.00v-82.00h8v82.00z");
    assert!(
        chart
            .description
            .starts_with("12 accepted, 0 failed, 0 given up")
    );
    assert_eq!(chart.hints[1].text, "21:47 UTC: 9 accepted, 0 failed");
    assert_eq!(shown.charts[1].lines, ["1 s", "100 ms"]);
}

#[test]
fn without_counts_there_is_no_chart() {
    let first = TimeSpan::Week.first_bar(Timestamp::UNIX_EPOCH);
    let shown = ActivityCharts::of(&Bars::of(&[], TimeSpan::Week, first));
    assert!(shown.charts.is_empty() && shown.rows.is_empty());
}
