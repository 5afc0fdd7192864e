//! Tests that SQLite uses its indexes: the cost of a statement must not grow with rows that it does not touch.

use relay_domain::{ClientId, DeliveryId, DeliveryState, WatchId, WatchState};
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;

use crate::{
    DeliveryQuery, WatchQuery,
    sqlite::{
        SqliteStore, activity, alerts, answers, attempts, audit, banks, clients, console,
        deliveries, delivery_lists, details, discovery, durations, erasure, follows, hints,
        host_pauses, hosts, jobs, looks, outbox, registration, subscription_ends, subscriptions,
        upkeep, watches,
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
    explained(store, &format!("EXPLAIN QUERY PLAN {statement}"), "detail").await
}

/// Returns one column of what SQLite explains.
async fn explained(store: &SqliteStore, explain: &str, column: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(explain.to_owned()))
        .fetch_all(&store.0.readers)
        .await
        .unwrap();
    rows.iter().map(|row| row.get(column)).collect()
}

/// Returns the steps of a statement's plan that read a whole table or index, or sort.
async fn costly_steps(store: &SqliteStore, statement: &str) -> Vec<String> {
    // Statements read these as a whole on purpose: JSON lists, the short lists of hosts and alerts, and their own
    // subqueries.
    let given = "every k hosts f manual_pauses alerts CONSTANT";
    let is_given = |step: &str| {
        let table = step.split(' ').nth(1).unwrap_or_default();
        let is_subquery = table.starts_with("(subquery");
        let is_named = given.split(' ').any(|name| name == table);
        step.contains("VIRTUAL TABLE") || is_subquery || is_named
    };
    let costly = |step: &String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
    let steps = steps(store, statement).await.into_iter();
    steps
        .filter(|step| costly(step) && !is_given(step))
        .collect()
}

/// Claims and writes, which must find their rows by an index.
const BY_INDEX: [&str; 121] = [
    clients::FIND_BY_KEY,
    audit::LIST,
    audit::OF_OPERATOR,
    audit::OF_ACT,
    audit::OF_BOTH,
    audit::ANY_BEFORE,
    audit::PURGE,
    alerts::REMEMBER,
    alerts::FORGET,
    alerts::LIST,
    activity::RECORD,
    activity::LIST,
    activity::PURGE,
    registration::CLIENTS,
    registration::OPEN_WATCH,
    registration::KNOWN,
    registration::RESUME_JOB,
    registration::MAKE_DUE,
    registration::ADD_WATCH,
    registration::OWN,
    answers::FIND,
    answers::CLAIM,
    answers::DUE,
    follows::OWNER,
    follows::VERSIONS,
    follows::EARLIER,
    banks::FORGET_UNWAITED,
    banks::DUE,
    banks::LATEST_DUE,
    banks::CLAIMED,
    banks::LEASE,
    banks::PUT_OFF,
    banks::WAKE_JOBS,
    hints::REMEMBER,
    hints::FORGET,
    hints::OF_CONNECTION,
    hints::OF_USER,
    hints::OF_USER_ALONE,
    hints::DUE,
    hints::DUE_LIST,
    hints::USER_OF_CONNECTION,
    console::NOTICES,
    console::BY_PREFIX,
    host_pauses::PAUSE,
    host_pauses::RESUME,
    host_pauses::LIFT,
    host_pauses::OF_HOSTS,
    deliveries::SENDABLE,
    looks::HOST_BLOCKER,
    subscriptions::ONE,
    subscriptions::ACTIVE,
    subscriptions::ACTIVE_ROWS,
    subscriptions::LATEST_ACTIVE_ROWS,
    subscriptions::ACTIVE_ROW,
    subscriptions::SAME,
    subscriptions::COUNT,
    subscription_ends::REST_LIST,
    subscription_ends::LIST_SOON,
    subscription_ends::FORGET_JOB,
    subscription_ends::OPEN_WATCHES,
    watches::CANCEL_EVENTS,
    subscription_ends::ACTIVE_OF_CLIENT,
    subscription_ends::END,
    discovery::DUE,
    discovery::LATEST_DUE,
    discovery::CLAIMED,
    discovery::LEASE,
    discovery::PUT_OFF,
    discovery::NEXT_DUE,
    discovery::HISTORY,
    attempts::QUEUE_NEXT,
    durations::FIND,
    durations::KNOWN,
    durations::REMEMBER_BANK,
    durations::KEEP,
    details::ONE,
    details::MANY,
    jobs::DUE,
    jobs::LEASE,
    jobs::CLAIMED,
    jobs::OPEN_WATCHES,
    jobs::FAILURES,
    outbox::HOSTS,
    outbox::OLDEST,
    outbox::EXPIRING,
    outbox::LEASE,
    outbox::CLAIMED,
    hosts::FAILED,
    hosts::ANSWERED,
    hosts::PROBE,
    hosts::LIFT,
    hosts::WAITING,
    hosts::TO_GIVE_UP,
    deliveries::LATEST_OF_WATCH,
    deliveries::LATEST_OF_DELIVERY,
    deliveries::FROM_BASIQ,
    deliveries::TRY_SOONER,
    deliveries::REQUEUE,
    deliveries::REOPEN,
    deliveries::OF_CLIENT[1],
    deliveries::OF_ALL[1],
    upkeep::PURGE,
    upkeep::PURGE_DUE,
    upkeep::PURGE_JOBS,
    upkeep::PURGE_SUBSCRIPTIONS,
    upkeep::PURGE_MESSAGES,
    upkeep::PURGE_FROM_BASIQ,
    upkeep::PURGE_SEEN,
    upkeep::PURGE_ERASURES,
    erasure::REMEMBER,
    erasure::ERASED_AT,
    erasure::CONNECTIONS,
    erasure::SUBSCRIPTIONS_TO_USER,
    erasure::SUBSCRIPTIONS_TO_CONNECTION,
    erasure::JOBS_OF_USER,
    erasure::JOBS_OF_CONNECTION,
    erasure::JOBS_FOUND,
    erasure::WATCHES,
    erasure::EVENTS,
    erasure::FORGET_BANK,
    upkeep::PAUSED_HOSTS,
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
const OF_ONE_ROW: [(&str, &str); 15] = [
    (looks::HOLD, JOB_BY_ID),
    (
        looks::OPEN_WATCH,
        "SEARCH w USING INDEX sqlite_autoindex_watches_1 (watch_id=?)",
    ),
    (
        looks::CHANGE_WATCH,
        "SEARCH watches USING INDEX sqlite_autoindex_watches_1 (watch_id=?)",
    ),
    (looks::SUPERSEDE, EVENT_BY_ID),
    (looks::WATCH_BLOCKER, OUTBOX_BY_SOURCE),
    (
        looks::SECRETS,
        "SEARCH clients USING INTEGER PRIMARY KEY (rowid=?)",
    ),
    (
        looks::RECORD_JOB,
        "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)",
    ),
    (looks::END_JOB_WITHOUT_WATCH, DUE_JOB_BY_NUMBER),
    (looks::LOOK_AGAIN, DUE_JOB_BY_NUMBER),
    (
        attempts::TRIED,
        "SEARCH e USING INDEX sqlite_autoindex_events_1 (event_id=?)",
    ),
    (attempts::RECORD, EVENT_BY_ID),
    (attempts::UNQUEUE, OUTBOX_BY_SOURCE),
    (attempts::REQUEUE, OUTBOX_BY_SOURCE),
    (outbox::LEASE, OUTBOX_BY_SOURCE),
    (registration::OPEN_WATCH, JOB_BY_ID),
];

const JOB_BY_ID: &str = "SEARCH j USING COVERING INDEX sqlite_autoindex_jobs_1 (job_id=?)";
const DUE_JOB_BY_NUMBER: &str = "SEARCH due_jobs USING INTEGER PRIMARY KEY (rowid=?)";
const EVENT_BY_ID: &str = "SEARCH events USING INDEX sqlite_autoindex_events_1 (event_id=?)";
const OUTBOX_BY_SOURCE: &str = "SEARCH outbox USING PRIMARY KEY (source_id=?)";

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

/// Statements that run for each watch on its way.
const OF_EACH_WATCH: [&str; 22] = [
    registration::OPEN_WATCH,
    registration::KNOWN,
    registration::RESUME_JOB,
    registration::MAKE_DUE,
    registration::ADD_WATCH,
    looks::HOLD,
    looks::OPEN_WATCH,
    looks::CHANGE_WATCH,
    looks::ADD_EVENT,
    looks::SUPERSEDE,
    looks::QUEUE,
    looks::WATCH_BLOCKER,
    looks::RECORD_JOB,
    looks::END_JOB_WITHOUT_WATCH,
    looks::LOOK_AGAIN,
    outbox::OLDEST,
    outbox::LEASE,
    outbox::CLAIMED,
    attempts::TRIED,
    attempts::RECORD,
    attempts::UNQUEUE,
    attempts::REQUEUE,
];

#[tokio::test]
async fn a_statement_of_each_watch_builds_no_temporary_table() {
    let (store, _home) = store().await;
    for statement in OF_EACH_WATCH {
        let opcodes = explained(&store, &format!("EXPLAIN {statement}"), "opcode").await;
        assert!(opcodes.contains(&"Transaction".to_owned()), "{statement}");
        assert!(
            !opcodes.contains(&"OpenEphemeral".to_owned()),
            "{statement}"
        );
    }
}

#[tokio::test]
async fn only_what_was_chosen_already_is_sorted() {
    let (store, _home) = store().await;
    for statement in [
        details::EVENTS,
        deliveries::OF_CLIENT[0],
        deliveries::OF_ALL[0],
        console::SEARCH,
        console::HOSTS,
        host_pauses::LIST,
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
async fn every_page_of_watches_starts_in_an_index() {
    let (store, _home) = store().await;
    let now = jiff::Timestamp::UNIX_EPOCH;
    for chosen in 0..48 {
        let query = WatchQuery {
            owner: (chosen & 1 != 0).then_some(ClientId(1)),
            job_id: (chosen & 2 != 0).then(|| "j1".parse().unwrap()),
            before: (chosen & 4 != 0).then(|| WatchId::new(now)),
            state: STATES[chosen / 8],
            limit: 50,
        };
        let statement = watches::list(&query);
        let mut costly = costly_steps(&store, statement.sql().as_str()).await;
        // all clients' watches in a rare state: what the index has of them is sorted, and one page of them is read
        costly
            .retain(|step| !step.starts_with("SCAN c ") && step != "USE TEMP B-TREE FOR ORDER BY");
        if query.owner.is_some() || query.job_id.is_some() {
            let sorted = costly_steps(&store, statement.sql().as_str()).await;
            assert!(sorted.is_empty(), "{query:?}\n{sorted:#?}");
        }
        let rare = query
            .state
            .is_some_and(|state| state != WatchState::Settled);
        if rare && query.job_id.is_none() {
            let steps = steps(&store, statement.sql().as_str()).await;
            let index = "SEARCH w USING COVERING INDEX watches_unsettled (client_id=? AND state=?";
            let own = "SEARCH w USING INDEX watches_unsettled (client_id=? AND state=?";
            let found = steps
                .iter()
                .any(|step| step.starts_with(index) || step.starts_with(own));
            assert!(found, "{query:?}\n{steps:#?}");
        }
        // the first page of all watches begins at the end of an index
        costly.retain(|step| !step.starts_with("SCAN w USING INDEX sqlite_autoindex_watches_1"));
        assert!(costly.is_empty(), "{query:?}\n{costly:#?}");
    }
}

#[tokio::test]
async fn every_page_of_deliveries_starts_in_an_index() {
    let (store, _home) = store().await;
    let now = jiff::Timestamp::UNIX_EPOCH;
    let place = (now, DeliveryId::new(now));
    for chosen in 0..24 {
        let query = DeliveryQuery {
            owner: (chosen & 1 != 0).then_some(ClientId(1)),
            after: (chosen & 2 != 0).then_some(place),
            state: DeliveryState::ALL[chosen / 4],
            limit: 50,
        };
        for statement in delivery_lists::list_statements(&query) {
            let mut costly = costly_steps(&store, statement.sql().as_str()).await;
            // the first page begins at the end of the outbox, or of the index of watches or subscriptions, of which
            // each has few events
            let ends = [
                "SCAN o",
                "SCAN watches USING INDEX sqlite_autoindex_watches_1",
                "SCAN subscriptions USING INDEX sqlite_autoindex_subscriptions_1",
                "USE TEMP B-TREE FOR LAST TERM OF ORDER BY",
            ];
            costly.retain(|step| !ends.contains(&step.as_str()));
            assert!(costly.is_empty(), "{query:?}\n{costly:#?}");
        }
    }
}

const STATES: [Option<WatchState>; 6] = [
    None,
    Some(WatchState::Watching),
    Some(WatchState::AwaitingUser),
    Some(WatchState::Delayed),
    Some(WatchState::Settled),
    Some(WatchState::Cancelled),
];

#[tokio::test]
async fn dead_deliveries_are_counted_client_by_client_in_an_index() {
    let (store, _home) = store().await;
    let costly = costly_steps(&store, upkeep::DEAD).await;
    let only_clients = costly.iter().all(|step| step.starts_with("SCAN c "));
    assert!(only_clients, "{costly:#?}");
    let steps = steps(&store, upkeep::DEAD).await;
    let of_events = steps.iter().filter(|step| step.contains(" e "));
    assert!(
        of_events.clone().count() == 2
            && of_events.clone().all(|step| step.starts_with("SEARCH e ")),
        "{steps:#?}"
    );
}
