//! The database's clock is set back: one relay moves all times, in pages.

use std::time::Duration;

use basiq_relay::{
    app::open_store,
    config::{Settings, StoreConfig},
};
use relay_domain::clock::Clock;
use relay_store::ClockStep;
use sqlx::ConnectOptions;

use crate::{
    store::support::{Fixture, at},
    support::TestDatabase,
};

/// More rows of each table than a page has.
const ROWS: u64 = 4_500;

/// Work of the clock before the step, which showed 1800003600000. Each job is missing since then, in a memory that
/// PostgreSQL's JSON type cannot hold.
const WORK: &str = r#"
    INSERT INTO jobs (job_id, memory)
        SELECT 'j-' || n, '{"missing_since":"2027-01-15T08:59:50Z","steps":[{"title":"a\u0000b","status":"pending"}]}'
        FROM generate_series(1, 4500) n;
    INSERT INTO due_jobs (job_id, next_look_at, urgency, joined, lease_id, lease_until, hinted_at, answering_until)
        SELECT 'j-' || n, 1800003630000, 3, FALSE, '\x07', 1800003660000, 1800003601000, 1800003670000
        FROM generate_series(1, 4500) n;
    INSERT INTO due_lists (user_id, next_list_at, lease_id, lease_until, hinted_at, missing_since)
        SELECT 'u-' || n, 1800003630000, '\x07', 1800003660000, 1800003601000, 1800003540000
        FROM generate_series(1, 4500) n;
    INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, pending_since, lease_id, lease_until)
        SELECT int8send(n), '\x08', 1, 'app.example', 1800003630000, 1800003600000, '\x07', 1800003660000
        FROM generate_series(1, 4500::bigint) n;
    INSERT INTO outages (institution_id, method, next_look_at, lease_until)
        VALUES ('AU00000', 'web', 1800003630000, 1800003660000);
    INSERT INTO failing_hosts (host, failures, pauses, paused_until, probing, failed_at)
        VALUES ('app.example', 9, 1, 1800003660000, FALSE, 1800003600000);
    INSERT INTO erasures (subject, erased_at) VALUES ('\x09', 1800001800000), ('\x0a', 1800000004000);
    INSERT INTO relays (relay_id, seen_at) VALUES ('dead', 1800003590000);
    INSERT INTO upstream_tokens (key_id, token, renew_at, expires_at, fetching_until)
        VALUES ('key', 'sealed', 1800004600000, 1800005600000, 1800003615000);
    UPDATE upstream SET next_turn_at = 1800003600250000, paused_until = 1800003660000000;
    UPDATE clock SET noted_at = 1800003600000;
"#;

/// Counts the rows of [`WORK`] whose times are those of a clock that shows 1800000000000.
const MOVED: &str = "SELECT
    (SELECT count(*) FROM due_jobs WHERE next_look_at = 1800000030000 AND lease_until = 1800000060000
        AND hinted_at = 1800000001000 AND answering_until = 1800000070000)
    + (SELECT count(*) FROM due_lists WHERE next_list_at = 1800000030000 AND lease_until = 1800000060000
        AND hinted_at = 1800000001000 AND missing_since = 1800000000000)
    + (SELECT count(*) FROM outbox WHERE next_attempt_at = 1800000030000 AND lease_until = 1800000060000)
    + (SELECT count(*) FROM outages WHERE next_look_at = 1800000030000 AND lease_until = 1800000060000)
    + (SELECT count(*) FROM failing_hosts WHERE paused_until = 1800000060000)
    + (SELECT count(*) FROM erasures WHERE erased_at IN (1800000000000, 1800000004000))
    + (SELECT count(*) FROM relays WHERE seen_at = 1800000000000)
    + (SELECT count(*) FROM upstream_tokens
        WHERE renew_at = 1800001000000 AND expires_at = 1800002000000 AND fetching_until = 1800000015000)
    + (SELECT count(*) FROM upstream
        WHERE next_turn_at = 1800000000250000 AND paused_until = 1800000060000000)";

const REMEMBERED: &str = r#"SELECT count(*) FROM jobs
    WHERE memory LIKE '%"missing_since":"2027-01-15T07:59:50Z"%' AND memory LIKE '%"a\\u0000b"%'"#;

/// Leases that ended early, or are longer than they were.
const WRONG_LEASES: &str = "SELECT
    (SELECT count(*) FROM due_jobs WHERE lease_until <> 1800000060000 OR answering_until <> 1800000070000)
    + (SELECT count(*) FROM due_lists WHERE lease_until <> 1800000060000)
    + (SELECT count(*) FROM outbox WHERE lease_until <> 1800000060000)
    + (SELECT count(*) FROM outages WHERE lease_until <> 1800000060000)";

async fn count(database: &TestDatabase, statement: &'static str) -> u64 {
    let mut connection = database.direct().connect().await.unwrap();
    let count: i64 = sqlx::query_scalar(statement)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    u64::try_from(count).unwrap()
}

#[tokio::test]
async fn all_times_move_in_pages_and_a_second_move_ends_no_lease_early() {
    let fixture = Fixture::on(TestDatabase::postgres().await).await;
    fixture.home.define(WORK).await;
    let step = fixture.store.note_time(at(0)).await.unwrap().unwrap();
    let all = fixture.store.move_times(step).await.unwrap();
    // of the two erasures, the new clock may have written the one 4 s ahead
    assert_eq!(all, 3 * ROWS + 5);
    assert_eq!(count(&fixture.home, MOVED).await, 3 * ROWS + 7);
    assert_eq!(count(&fixture.home, REMEMBERED).await, ROWS);

    // a relay that died before the end of its move leaves the noted time as it was
    let again = ClockStep {
        from: step.from,
        to: at(16),
    };
    fixture.store.move_times(again).await.unwrap();
    assert_eq!(count(&fixture.home, WRONG_LEASES).await, 0);
    let due = "SELECT count(*) FROM due_jobs WHERE next_look_at = 1800000016000";
    assert_eq!(count(&fixture.home, due).await, ROWS, "early");
    assert_eq!(count(&fixture.home, REMEMBERED).await, ROWS);
}

#[tokio::test]
async fn one_relay_moves_the_times_and_another_one_begins_anew_if_it_dies() {
    let fixture = Fixture::on(TestDatabase::postgres().await).await;
    let store = &fixture.store;
    let note = async |seconds| {
        let step = store.note_time(at(seconds)).await.unwrap();
        step.map(|step| (step.from, step.to))
    };
    assert_eq!(note(7200).await, None);
    assert_eq!(note(3600).await, Some((at(7200), at(3600))));
    assert_eq!(note(3614).await, None, "the first relay is at it");
    assert_eq!(note(3616).await, Some((at(7200), at(3616))));
    // a claim of the clock before the next step does not count
    assert_eq!(note(0).await, Some((at(7200), at(0))));
    let step = ClockStep {
        from: at(7200),
        to: at(0),
    };
    store.move_times(step).await.unwrap();
    assert_eq!(note(1).await, None);
}

#[tokio::test]
async fn a_move_begins_anew_if_the_clock_is_set_back_once_more() {
    let database = TestDatabase::postgres().await;
    let config = StoreConfig {
        database: database.url.clone(),
        ..Settings::default().store
    };
    let clock = Clock::system();
    let store = open_store(&config, &clock).await.unwrap().store;
    assert_eq!(store.note_time(clock.now()).await.unwrap(), None);
    let hour = Duration::from_hours(1);
    let ended = ClockStep {
        from: clock.now() + 2 * hour,
        to: clock.now() + hour,
    };
    let error = store.move_times(ended).await.unwrap_err().to_string();
    assert!(error.contains("store"), "{error}");
    database
        .execute("UPDATE clock SET noted_at = noted_at + 3600000")
        .await;
    let step = store.note_time(clock.now()).await.unwrap().unwrap();
    store.move_times(step).await.unwrap();
    assert_eq!(store.note_time(clock.now()).await.unwrap(), None);
}
