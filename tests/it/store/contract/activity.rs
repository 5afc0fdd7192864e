//! Counts of what the relays did: each run of a relay writes rows of its own, and storing one twice changes nothing.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{ActivityRow, ActivityScope, ActivityTally};

use crate::store::support::{Fixture, at};

/// The counts of one run. `name` is not empty for banks, hosts and clients.
fn row(
    scope: ActivityScope,
    since: Timestamp,
    run: u8,
    (name, succeeded): (&str, u64),
) -> ActivityRow {
    let mut tally = ActivityTally::default();
    let counts = tally.counts_of(name);
    counts.succeeded = succeeded;
    counts.calls = 7;
    counts.took.add(Duration::from_secs(2));
    ActivityRow {
        scope,
        since,
        run: [run; 16],
        tally,
    }
}

async fn listed(fixture: &Fixture, scope: ActivityScope, since: Timestamp) -> Vec<ActivityRow> {
    fixture.store.list_activity(scope, since).await.unwrap()
}

#[tokio::test]
async fn a_later_row_of_the_same_run_replaces_the_earlier_one() {
    let fixture = Fixture::new().await;
    let minute = |since, run, many| row(ActivityScope::Minute, since, run, ("", many));
    for many in [3, 3, 5] {
        let rows = vec![minute(at(60), 1, many)];
        fixture.store.record_activity(rows).await.unwrap();
    }
    let rows = vec![minute(at(60), 2, 4), minute(at(0), 2, 1)];
    fixture.store.record_activity(rows).await.unwrap();
    let expected = [
        minute(at(0), 2, 1),
        minute(at(60), 1, 5),
        minute(at(60), 2, 4),
    ];
    assert_eq!(
        listed(&fixture, ActivityScope::Minute, at(0)).await,
        expected
    );
    assert_eq!(
        listed(&fixture, ActivityScope::Minute, at(1)).await,
        expected[1..]
    );
    assert_eq!(listed(&fixture, ActivityScope::Minute, at(61)).await, []);
}

#[tokio::test]
async fn rows_are_listed_by_what_they_count_with_all_names() {
    let fixture = Fixture::new().await;
    assert_eq!(listed(&fixture, ActivityScope::Host, at(0)).await, []);
    let odd = "q\"\\\u{0}\u{2028}';--.example";
    let rows: Vec<_> = ActivityScope::ALL
        .iter()
        .map(|scope| row(*scope, at(0), 1, (odd, 2)))
        .collect();
    fixture.store.record_activity(rows.clone()).await.unwrap();
    fixture.store.record_activity(Vec::new()).await.unwrap();
    for (scope, row) in ActivityScope::ALL.iter().zip(rows) {
        assert_eq!(listed(&fixture, *scope, at(0)).await, [row]);
    }
}

#[tokio::test]
async fn old_rows_are_deleted_oldest_first_whatever_they_count() {
    let fixture = Fixture::new().await;
    let rows = [
        (ActivityScope::Minute, 0),
        (ActivityScope::Hour, 10),
        (ActivityScope::Minute, 60),
        (ActivityScope::Bank, 70),
        (ActivityScope::Minute, 120),
    ];
    let rows = rows.map(|(scope, second)| row(scope, at(second), 1, ("", 1)));
    fixture.store.record_activity(rows.into()).await.unwrap();
    let purge = |before, limit| fixture.store.purge_activity(before, limit);
    assert_eq!(purge(at(0), 10).await.unwrap(), 0);
    assert_eq!(purge(at(120), 3).await.unwrap(), 3);
    assert_eq!(listed(&fixture, ActivityScope::Bank, at(0)).await.len(), 1);
    assert_eq!(purge(at(120), 3).await.unwrap(), 1);
    assert_eq!(purge(at(120), 3).await.unwrap(), 0);
    let left = listed(&fixture, ActivityScope::Minute, at(0)).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].since, at(120));
}
