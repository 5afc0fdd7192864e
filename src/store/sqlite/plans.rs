//! Holds SQLite to its indexes: the cost of a statement must not grow with what it does not touch.

use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;

use crate::{
    domain::{ClientId, DeliveryId, DeliveryState, WatchId, WatchState},
    store::{
        DeliveryQuery, WatchQuery,
        sqlite::{
            SqliteStore, answers, banks, clients, deliveries, follows, hints, hosts, jobs, outbox,
            paces, stories, upkeep, watches,
        },
    },
};

async fn store() -> (SqliteStore, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&home.path().join("relay.db"))
        .await
        .unwrap();
    (store, home)
}

/// The steps of a statement's plan that read a whole table or index, or sort.
async fn costly_steps(store: &SqliteStore, statement: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
        .fetch_all(&store.0.readers)
        .await
        .unwrap();
    let steps = rows.iter().map(|row| row.get::<String, _>("detail"));
    // lists given as JSON, and the short list of hosts, are read as a whole on purpose
    let given = [
        "SCAN i ",
        "SCAN json_each ",
        "SCAN every",
        "SCAN hosts",
        "SCAN CONSTANT ROW",
    ];
    let costly = |step: &String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
    steps
        .filter(|step| costly(step) && !given.iter().any(|list| step.starts_with(list)))
        .collect()
}

#[tokio::test]
async fn claims_and_writes_find_their_rows_by_an_index() {
    let (store, _home) = store().await;
    for statement in [
        clients::FIND_BY_KEY,
        watches::OPEN_WATCH,
        answers::FIND,
        answers::CLAIM,
        answers::DUE,
        follows::OWNER,
        follows::VERSIONS,
        banks::FORGET_UNWAITED,
        banks::LEASE,
        banks::WAKE_JOBS,
        hints::REMEMBER,
        hints::FORGET,
        hints::OF_CONNECTION,
        hints::OF_USER,
        hints::OF_USER_ALONE,
        hints::DUE,
        paces::ONE,
        paces::KEEP,
        paces::REMEMBER_BANK,
        stories::ONE,
        stories::MANY,
        jobs::DUE,
        jobs::LEASE,
        jobs::OPEN_WATCHES,
        jobs::FAILURES,
        outbox::LEASE,
        hosts::FAILED,
        hosts::ANSWERED,
        hosts::PROBE,
        deliveries::LATEST_OF_WATCH,
        deliveries::LATEST_OF_DELIVERY,
        deliveries::REDELIVER_DEAD,
        deliveries::REDELIVER_ALL_DEAD,
        upkeep::PURGE,
        upkeep::PURGE_JOBS,
    ] {
        let costly = costly_steps(&store, statement).await;
        assert!(costly.is_empty(), "{statement}\n{costly:#?}");
    }
}

#[tokio::test]
async fn only_what_was_chosen_already_is_sorted() {
    let (store, _home) = store().await;
    for statement in [
        outbox::DUE,
        outbox::CLAIMED,
        stories::EVENTS,
        stories::ATTEMPTS,
    ] {
        let mut costly = costly_steps(&store, statement).await;
        // each half of a union by itself
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
