//! Jobs that concern several subscriptions of one client, or a subscription and the client's own watch.

use futures_util::future::join_all;
use jiff::Timestamp;
use relay_domain::WatchState;
use relay_store::{ErasureSubject, FoundJob, Registration, RemovedUser};

use crate::store::contract::subscriptions::{
    HOOK, find, found, hint, list, new_subscription, subscribe,
};
use crate::store::support::{Fixture, at, look, new_watch};
use crate::support::{actor, operator};

fn job() -> Vec<FoundJob> {
    vec![found("j-1", Some("c-1"), None)]
}

/// Makes the list of the person due again, and lists the job. Returns the number of new watches.
async fn list_again(fixture: &Fixture, id: &str, now: Timestamp) -> u64 {
    fixture.store.take_hint(hint(id, now)).await.unwrap();
    list(fixture, job(), now).await
}

async fn states(fixture: &Fixture) -> Vec<WatchState> {
    let watches = fixture.watches_of("j-1").await;
    watches.iter().map(|details| details.watch.state).collect()
}

#[tokio::test]
async fn a_job_of_two_subscriptions_goes_to_the_other_when_one_ends() {
    let fixture = Fixture::new().await;
    let first = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let mut narrower = new_subscription(&fixture, "u-1", at(0));
    narrower.request.connection_id = "c-1".parse().ok();
    let second = subscribe(&fixture, narrower).await;
    assert_eq!(list(&fixture, job(), at(1)).await, 1, "one watch for both");
    assert_eq!(list_again(&fixture, "m-1", at(20)).await, 0);
    let (owner, other) = match find(&fixture, first.subscription.id).await.open_watches {
        1 => (first, second),
        _ => (second, first),
    };
    let end = fixture
        .store
        .end_subscription(operator(), owner.subscription.id, at(21));
    assert!(end.await.unwrap());
    assert_eq!(list(&fixture, job(), at(22)).await, 1, "due at once");
    assert_eq!(find(&fixture, other.subscription.id).await.open_watches, 1);
    assert_eq!(list_again(&fixture, "m-2", at(40)).await, 0, "only once");
}

#[tokio::test]
async fn a_found_watch_that_the_client_cancelled_is_not_found_again() {
    let fixture = Fixture::new().await;
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    assert_eq!(list(&fixture, job(), at(1)).await, 1);
    let watch = fixture.watches_of("j-1").await.remove(0).watch;
    fixture
        .store
        .cancel_watch(fixture.requester(), watch.id, at(2))
        .await
        .unwrap();
    let mut narrower = new_subscription(&fixture, "u-1", at(0));
    narrower.request.connection_id = "c-1".parse().ok();
    subscribe(&fixture, narrower).await;
    assert_eq!(list(&fixture, job(), at(4)).await, 0);
    assert_eq!(states(&fixture).await, [WatchState::Cancelled]);
}

#[tokio::test]
async fn a_job_that_the_client_watched_stays_known_when_its_watch_is_gone() {
    let fixture = Fixture::new().await;
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let own = new_watch(fixture.client, "j-1", HOOK, at(0));
    fixture.store.register_watch(own).await.unwrap();
    assert_eq!(list(&fixture, job(), at(1)).await, 0);
    let due = fixture.claim(at(2)).await.remove(0);
    let mut look = look(&due, at(2));
    look.memory.context.connection_id = Some("c-1".to_owned());
    assert!(fixture.record(look).await);
    let subject = ErasureSubject::Connection("c-1".parse().unwrap());
    fixture.store.erase(&subject, actor(), at(3)).await.unwrap();
    assert!(states(&fixture).await.is_empty(), "the watch is deleted");
    assert_eq!(list_again(&fixture, "m-1", at(20)).await, 0);
}

#[tokio::test]
async fn a_found_watch_that_the_client_registers_is_its_own_and_outlives_the_subscription() {
    let fixture = Fixture::new().await;
    let found_by = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    assert_eq!(list(&fixture, job(), at(1)).await, 1);
    let own = new_watch(fixture.client, "j-1", HOOK, at(2));
    let registered = fixture.store.register_watch(own).await.unwrap();
    let Registration::Existing(details) = registered else {
        panic!("{registered:?}");
    };
    assert_eq!(details.watch.subscription_id, None);
    let end = fixture
        .store
        .end_subscription(operator(), found_by.subscription.id, at(3));
    assert!(end.await.unwrap());
    assert_eq!(states(&fixture).await, [WatchState::Watching]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_the_client_registers_while_the_subscription_ends_stays_open() {
    let fixture = Fixture::new().await;
    for round in 0..5 {
        let (user, now) = (format!("u-{round}"), at(100 * round));
        let subscription = subscribe(&fixture, new_subscription(&fixture, &user, now)).await;
        let jobs: Vec<_> = (0..20).map(|n| format!("job-{round}-{n}")).collect();
        let all = jobs.iter().map(|job| found(job, None, None)).collect();
        assert_eq!(list(&fixture, all, now).await, 20);
        let store = &fixture.store;
        let registering = jobs
            .iter()
            .map(|job| store.register_watch(new_watch(fixture.client, job, HOOK, now)));
        let end = store.end_subscription(operator(), subscription.subscription.id, now);
        let (registered, ended) = tokio::join!(join_all(registering), end);
        assert!(ended.unwrap());
        for registered in registered {
            let id = match registered.unwrap() {
                Registration::Created(watch) => watch.id,
                Registration::Existing(details) => details.watch.id,
                other => panic!("{other:?}"),
            };
            let found = store.find_watch(None, id).await.unwrap().unwrap();
            assert_eq!(found.watch.state, WatchState::Watching, "{round}");
        }
    }
}

#[tokio::test]
async fn a_job_is_taken_over_although_its_cancelled_watch_is_deleted() {
    let fixture = Fixture::new().await;
    let first = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    assert_eq!(list(&fixture, job(), at(1)).await, 1);
    let mut narrower = new_subscription(&fixture, "u-1", at(2));
    narrower.request.connection_id = "c-1".parse().ok();
    subscribe(&fixture, narrower).await;
    assert_eq!(list(&fixture, job(), at(3)).await, 0);
    let store = &fixture.store;
    let end = store.end_subscription(operator(), first.subscription.id, at(4));
    assert!(end.await.unwrap());
    store.purge_ended(at(1_000), 100).await.unwrap();
    assert!(states(&fixture).await.is_empty());
    assert_eq!(list(&fixture, job(), at(1_001)).await, 1);
}

#[tokio::test]
async fn a_watch_that_the_client_cancelled_after_its_subscription_ended_stays_known() {
    let fixture = Fixture::new().await;
    let ended = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    assert_eq!(list(&fixture, job(), at(1)).await, 1);
    let mut gone = hint("m-1", at(2));
    gone.removed_user = Some(RemovedUser {
        user_id: "u-1".parse().unwrap(),
        subscriptions: vec![ended.subscription.id],
    });
    fixture.store.take_hint(gone).await.unwrap();
    let watch = fixture.watches_of("j-1").await.remove(0).watch;
    let cancelled = fixture
        .store
        .cancel_watch(fixture.requester(), watch.id, at(3));
    assert!(cancelled.await.unwrap());
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(4))).await;
    assert_eq!(list(&fixture, job(), at(5)).await, 0);
}
