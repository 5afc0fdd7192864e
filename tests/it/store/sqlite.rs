//! Tests that only concern SQLite: batches in one commit, restarts, a closed store.

use std::{collections::HashSet, path::Path};

use relay_domain::{DeliveryState, Status, WatchState};
use relay_store::{
    AfterAttempt, ClientStore, Registration, StoreError, UpkeepStore, WatchQuery, WatchStore,
    sqlite::SqliteStore,
};
use tokio::task::JoinSet;

use crate::{
    store::support::{Fixture, add_client, at, attempt, new_watch},
    support::TestDatabase,
};

async fn open(home: &Path) -> SqliteStore {
    SqliteStore::open(&home.join("relay.db")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_for_each_other_share_commits() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).await;
    let client = add_client(&store, "first").await;
    let before = store.commits();
    let mut tasks = JoinSet::new();
    for n in 0..400 {
        let store = store.clone();
        let new = new_watch(client, &format!("j{n}"), "https://app.example/hook", at(0));
        tasks.spawn(async move { store.register_watch(new).await.unwrap() });
    }
    for answer in tasks.join_all().await {
        assert!(matches!(answer, Registration::Created(_)));
    }
    let commits = store.commits() - before;
    assert!(commits < 200, "400 writes took {commits} commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_leaves_its_neighbours_alone() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).await;
    let client = add_client(&store, "first").await;
    let nobody = relay_domain::ClientId(99);
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let store = store.clone();
        let owner = if n % 4 == 0 { nobody } else { client };
        let new = new_watch(owner, &format!("j{n}"), "https://app.example/hook", at(0));
        tasks.spawn(async move { store.register_watch(new).await });
    }
    let (created, failed): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), failed.len()), (75, 25));
    assert!(matches!(failed[0], Err(StoreError::Refused(_))));
    let census = store.census(at(1)).await.unwrap();
    assert_eq!((census.watches[0].1, census.due_jobs), (75, 75));
}

#[tokio::test]
async fn a_store_dropped_without_a_close_has_lost_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut written = HashSet::new();
    for round in 0..3 {
        let store = open(home.path()).await;
        let client = add_client(&store, &format!("client{round}")).await;
        for n in 0..5 {
            let new = new_watch(client, &format!("j{n}"), "https://app.example/hook", at(n));
            written.insert(new.id);
            store.register_watch(new).await.unwrap();
        }
    }
    let store = open(home.path()).await;
    let query = WatchQuery {
        limit: 99,
        ..WatchQuery::default()
    };
    let details = store.list_watches(&query).await.unwrap();
    let found: HashSet<_> = details.iter().map(|story| story.watch.id).collect();
    assert_eq!(found, written);
}

#[tokio::test]
async fn a_closed_store_is_one_file_and_says_that_it_is_closed() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).await;
    add_client(&store, "first").await;
    store.close().await;
    store.close().await;
    let files = std::fs::read_dir(home.path()).unwrap().count();
    assert_eq!(files, 1, "no write-ahead log is left");
    assert!(matches!(
        store.free_leases().await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(
        store.list_clients().await,
        Err(StoreError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_directory_that_is_not_there_cannot_be_opened() {
    let opened = SqliteStore::open(Path::new("/nowhere/at/all/relay.db")).await;
    assert!(matches!(opened, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_restart_frees_all_leases() {
    let fixture = Fixture::on(TestDatabase::sqlite()).await;
    fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(0)).await;
    assert_eq!(fixture.claim(at(60)).await.len(), 1);
    assert_eq!(fixture.claim_deliveries(at(60)).await.len(), 1);
    assert_eq!(fixture.store.free_leases().await.unwrap(), 2);
    assert_eq!(fixture.claim(at(61)).await.len(), 1);
    assert_eq!(fixture.claim_deliveries(at(61)).await.len(), 1);
}

/// The store finds the job of a deleted callback by its number. So a damaged id does not affect other attempts.
#[tokio::test]
async fn a_damaged_id_of_a_job_does_not_hold_up_attempts() {
    let fixture = Fixture::on(TestDatabase::sqlite()).await;
    let gone = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(0)).await;
    let other = fixture.watch("j2", at(1)).await;
    fixture.tell(Status::Success, at(1)).await;
    let due = fixture.claim_deliveries(at(2)).await;
    assert_eq!(due.len(), 2);
    let damage = "UPDATE jobs SET job_id = CAST(x'ff' AS TEXT) WHERE job_id = 'j1'";
    fixture.home.execute(damage).await;
    let ended = due.iter().map(|due| {
        let is_gone = due.source.watch_id() == Some(gone);
        let next = if is_gone {
            AfterAttempt::Gone
        } else {
            AfterAttempt::Delivered
        };
        attempt(due, next, at(3))
    });
    let ended = ended.collect();
    fixture.store.record_attempts(ended).await.unwrap();
    let delivered = &fixture.story(other).await.events[0].delivery;
    assert_eq!(delivered.state, DeliveryState::Delivered);
    fixture
        .home
        .execute("UPDATE jobs SET job_id = 'j1' WHERE job_id <> 'j2'")
        .await;
    assert_eq!(fixture.story(gone).await.watch.state, WatchState::Cancelled);
}
