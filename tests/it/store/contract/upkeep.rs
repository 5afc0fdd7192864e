//! Upkeep: free leases, delete old watches, keep the counts right.

use relay_domain::{Status, WatchState};
use relay_store::{AfterAttempt, WatchQuery};

use crate::store::support::{Fixture, at};

#[tokio::test]
async fn what_ended_long_ago_is_deleted_in_batches_with_all_that_hangs_on_it() {
    let fixture = Fixture::new().await;
    let mut ended = Vec::new();
    for n in 0..3 {
        ended.push(fixture.watch(&format!("j{n}"), at(n)).await);
        fixture.tell(Status::Success, at(n)).await;
        let delivery = fixture.claim_delivery(at(n)).await;
        fixture
            .attempted(&delivery, AfterAttempt::Delivered, at(n))
            .await;
    }
    let waiting = fixture.watch("j3", at(3)).await;
    fixture.tell(Status::Success, at(3)).await;
    let open = fixture.watch("j4", at(4)).await;
    let purge = |before, limit| fixture.store.purge_ended(before, limit);
    assert_eq!(purge(at(2), 1).await.unwrap(), 1);
    assert_eq!(purge(at(2), 9).await.unwrap(), 1);
    assert_eq!(purge(at(2), 9).await.unwrap(), 0);
    assert_eq!(purge(at(99), 9).await.unwrap(), 1);
    let query = WatchQuery {
        limit: 9,
        ..WatchQuery::default()
    };
    let details = fixture.store.list_watches(&query).await.unwrap();
    let left: Vec<_> = details.iter().map(|story| story.watch.id).collect();
    assert_eq!(left, [open, waiting], "open, or not delivered yet");
}

/// A look in flight keeps the work on its job after the watch was cancelled. That does not keep the watch.
#[tokio::test]
async fn a_watch_cancelled_during_a_look_that_never_ends_is_deleted() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    let cancelled = fixture
        .store
        .cancel_watch(fixture.requester(), id, at(1))
        .await;
    assert!(cancelled.unwrap());
    assert_eq!(fixture.store.purge_ended(at(2), 9).await.unwrap(), 1);
    assert_eq!(fixture.store.next_look_due().await.unwrap(), None);
    assert!(
        !fixture
            .record(crate::store::support::look(&job, at(3)))
            .await
    );
    fixture.watch("j1", at(4)).await;
    assert_eq!(fixture.claim(at(4)).await.len(), 1);
}

#[tokio::test]
async fn the_census_counts_what_is_there() {
    let fixture = Fixture::new().await;
    fixture.store.ping().await.unwrap();
    for n in 0..4 {
        fixture.watch(&format!("j{n}"), at(0)).await;
    }
    let gone = fixture.watch("j9", at(0)).await;
    fixture
        .store
        .cancel_watch(fixture.requester(), gone, at(0))
        .await
        .unwrap();
    assert_eq!(fixture.store.census(at(0)).await.unwrap().due_jobs, 4);
    let statuses = [Status::Success, Status::Delayed, Status::ActionRequired];
    for (job, status) in fixture.claim(at(0)).await.iter().zip(statuses) {
        let mut look = crate::store::support::look(job, at(0));
        look.changes = vec![crate::store::support::change(
            &job.watches[0],
            status,
            at(0),
        )];
        assert!(fixture.record(look).await);
    }
    let due = fixture.claim_deliveries(at(0)).await;
    fixture.attempted(&due[0], AfterAttempt::Dead, at(0)).await;
    fixture
        .attempted(&due[1], AfterAttempt::RetryAt(at(50)), at(0))
        .await;
    let census = fixture.store.census(at(10)).await.unwrap();
    let expected = WatchState::ALL.iter().map(|state| (*state, 1));
    assert_eq!(census.watches, expected.collect::<Vec<_>>());
    assert_eq!((census.due_jobs, census.due_deliveries), (0, 0));
    assert_eq!((census.pending_deliveries, census.dead_deliveries), (2, 1));
    let later = fixture.store.census(at(60)).await.unwrap();
    assert_eq!((later.due_jobs, later.due_deliveries), (3, 2));
}
