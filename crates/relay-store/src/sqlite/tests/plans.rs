//! Tests that SQLite uses its indexes: the cost of a statement must not grow with rows that it does not touch.

use relay_domain::{ClientId, DeliveryId, DeliveryState, WatchId, WatchState};
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;

use crate::{
    DeliveryQuery, WatchQuery,
    sqlite::{
        SqliteStore, answers, attempts, banks, clients, console, deliveries, details, durations,
        follows, hints, hosts, jobs, looks, outbox, registration, upkeep, watches,
    },
};

async fn store() -> (SqliteStore, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&home.path().join("relay.db"))
        .await
        .unwrap();
    (store, home)
}

/// Returns the steps of a statement's plan.
async fn steps(store: &SqliteStore, statement: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
        .fetch_all(&store.0.readers)
        .await
        .unwrap();
    let steps = rows.iter().map(|row| row.get::<String, _>("detail"));
    steps.collect()
}

/// Returns the steps of a statement's plan that read a whole table or index, or sort.
async fn costly_steps(store: &SqliteStore, statement: &str) -> Vec<String> {
    // on purpose, statements read these as a whole: JSON lists, the short list of hosts, and their own subqueries
    let given = [
        "SCAN every",
        "SCAN k",
        "SCAN hosts",
        "SCAN CONSTANT ROW",
        "SCAN (subquery",
    ];
    let is_given = |step: &str| {
        step.contains("VIRTUAL TABLE") || given.iter().any(|list| step.starts_with(list))
    };
    let costly = |step: &String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
    let steps = steps(store, statement).await.into_iter();
    steps
        .filter(|step| costly(step) && !is_given(step))
        .collect()
}

/// Claims and writes, which must find their rows by an index.
const BY_INDEX: [&str; 46] = [
    clients::FIND_BY_KEY,
    registration::CLIENTS,
    registration::OPEN_WATCH,
    registration::KNOWN,
    registration::ADD_JOB,
    registration::ADD_WATCH,
    answers::FIND,
    answers::CLAIM,
    answers::DUE,
    follows::OWNER,
    follows::VERSIONS,
    follows::EARLIER,
    banks::FORGET_UNWAITED,
    banks::LEASE,
    banks::WAKE_JOBS,
    hints::REMEMBER,
    hints::FORGET,
    hints::OF_CONNECTION,
    hints::OF_USER,
    hints::OF_USER_ALONE,
    hints::DUE,
    durations::FIND,
    durations::KNOWN,
    durations::REMEMBER_BANK,
    durations::KEEP,
    details::ONE,
    details::MANY,
    jobs::DUE,
    jobs::LEASE,
    jobs::OPEN_WATCHES,
    jobs::FAILURES,
    outbox::HOSTS,
    outbox::OLDEST,
    outbox::EXPIRING,
    outbox::LEASE,
    hosts::FAILED,
    hosts::ANSWERED,
    hosts::PROBE,
    hosts::LIFT,
    hosts::WAITING,
    hosts::GIVE_UP,
    deliveries::LATEST_OF_WATCH,
    deliveries::LATEST_OF_DELIVERY,
    deliveries::REDELIVER_DEAD,
    deliveries::REDELIVER_ALL_DEAD,
    upkeep::PURGE,
    upkeep::PURGE_JOBS,
];

#[tokio::test]
async fn claims_and_writes_find_their_rows_by_an_index() {
    let (store, _home) = store().await;
    for statement in BY_INDEX {
        let costly = costly_steps(&store, statement).await;
        assert!(costly.is_empty(), "{statement}\n{costly:#?}");
    }
}

/// Statements about one row each, and the step that finds the row.
const OF_ONE_ROW: [(&str, &str); 11] = [
    (
        looks::HOLD,
        "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (job_id=?)",
    ),
    (
        looks::OPEN_WATCH,
        "SEARCH watches USING INDEX sqlite_autoindex_watches_1 (watch_id=?)",
    ),
    (
        looks::CHANGE_WATCH,
        "SEARCH watches USING INDEX sqlite_autoindex_watches_1 (watch_id=?)",
    ),
    (
        looks::SUPERSEDE,
        "SEARCH deliveries USING INDEX deliveries_of_watch (watch_id=?)",
    ),
    (
        looks::HOST_BLOCKER,
        "SEARCH failing_hosts USING PRIMARY KEY (host=?)",
    ),
    (
        looks::WATCH_BLOCKER,
        "SEARCH deliveries USING INDEX deliveries_of_watch (watch_id=?)",
    ),
    (
        looks::SECRETS,
        "SEARCH clients USING INTEGER PRIMARY KEY (rowid=?)",
    ),
    (
        looks::RECORD_JOB,
        "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (job_id=?)",
    ),
    (
        attempts::DELIVERY,
        "SEARCH d USING INDEX sqlite_autoindex_deliveries_1 (delivery_id=?)",
    ),
    (
        attempts::RECORD,
        "SEARCH deliveries USING INDEX sqlite_autoindex_deliveries_1 (delivery_id=?)",
    ),
    (
        registration::OPEN_WATCH,
        "SEARCH j USING COVERING INDEX sqlite_autoindex_jobs_1 (job_id=?)",
    ),
];

#[tokio::test]
async fn what_is_recorded_finds_its_rows_by_the_index_that_names_them() {
    let (store, _home) = store().await;
    for (statement, step) in OF_ONE_ROW {
        let steps = steps(&store, statement).await;
        let costly = costly_steps(&store, statement).await;
        assert!(costly.is_empty(), "{statement}\n{costly:#?}");
        assert!(steps[0].starts_with(step), "{statement}\n{steps:#?}");
    }
}

#[tokio::test]
async fn only_what_was_chosen_already_is_sorted() {
    let (store, _home) = store().await;
    for statement in [
        outbox::CLAIMED,
        details::EVENTS,
        details::ATTEMPTS,
        console::SEARCH,
        console::HOSTS,
        console::LATEST_ATTEMPT,
    ] {
        let mut costly = costly_steps(&store, statement).await;
        // the two halves of a union each report the step
        costly.dedup();
        assert_eq!(costly, ["USE TEMP B-TREE FOR ORDER BY"], "{statement}");
    }
}

#[tokio::test]
async fn the_next_due_time_is_read_from_the_ends_of_indexes() {
    let (store, _home) = store().await;
    for statement in [jobs::NEXT_DUE, outbox::NEXT_DUE] {
        let costly = costly_steps(&store, statement).await;
        assert!(costly.is_empty(), "{statement}\n{costly:#?}");
    }
}

#[tokio::test]
async fn every_page_of_a_list_starts_in_an_index() {
    let (store, _home) = store().await;
    let now = jiff::Timestamp::UNIX_EPOCH;
    for chosen in 1..16 {
        let query = WatchQuery {
            owner: (chosen & 1 != 0).then_some(ClientId(1)),
            job_id: (chosen & 2 != 0).then(|| "j1".parse().unwrap()),
            state: (chosen & 4 != 0).then_some(WatchState::Settled),
            before: (chosen & 8 != 0).then(|| WatchId::new(now)),
            limit: 50,
        };
        let statement = watches::list(&query);
        let costly = costly_steps(&store, statement.sql().as_str()).await;
        assert!(costly.is_empty(), "{query:?}\n{costly:#?}");
    }
    let place = (now, DeliveryId::new(now));
    for chosen in 0..4 {
        let query = DeliveryQuery {
            owner: (chosen & 1 != 0).then_some(ClientId(1)),
            state: DeliveryState::Dead,
            after: (chosen & 2 != 0).then_some(place),
            limit: 50,
        };
        let statement = deliveries::list_statement(&query);
        let costly = costly_steps(&store, statement.sql().as_str()).await;
        assert!(costly.is_empty(), "{query:?}\n{costly:#?}");
    }
}
