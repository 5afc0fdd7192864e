//! People who are gone: exactly the subscriptions that were found end with the notice, and the others end later.

use relay_domain::{NoticeKind, Subscription, SubscriptionId, SubscriptionState};
use relay_store::{Hint, HintOutcome, ListResult};

use crate::store::contract::subscriptions::{
    claim_list, find, found, hint, list, listed, new_subscription, notice, removed, subscribe,
};
use crate::store::support::{Fixture, at};

/// A subscription to the jobs of one connection of `u-1`.
async fn narrower(fixture: &Fixture, connection: &str, second: i64) -> Subscription {
    let mut new = new_subscription(fixture, "u-1", at(second));
    new.request.connection_id = connection.parse().ok();
    subscribe(fixture, new).await.subscription
}

/// A hint that the person is gone, whose notices were made for these subscriptions.
fn gone(id: &str, fact: &str, told: &[&Subscription], second: i64) -> Hint {
    let ids: Vec<SubscriptionId> = told.iter().map(|one| one.id).collect();
    let notices = told.iter().map(|one| notice(one, NoticeKind::UserRemoved));
    Hint {
        fact: Some(fact.to_owned()),
        notices: notices.collect(),
        removed_user: Some(removed(&ids)),
        ..hint(id, at(second))
    }
}

/// The result of a list of the unknown person, which ends these subscriptions.
fn unknown(told: &[&Subscription], since: i64) -> ListResult {
    let notices = told.iter().map(|one| notice(one, NoticeKind::UserRemoved));
    ListResult::Unknown {
        since: at(since),
        ended: told.iter().map(|one| one.id).collect(),
        last_notices: notices.collect(),
    }
}

async fn state(fixture: &Fixture, subscription: &Subscription) -> SubscriptionState {
    find(fixture, subscription.id).await.subscription.state
}

#[tokio::test]
async fn a_subscription_that_begins_before_a_removal_is_stored_outlives_it_and_is_listed() {
    let fixture = Fixture::new().await;
    let first = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let first = first.subscription;
    assert_eq!(list(&fixture, Vec::new(), at(1)).await, 0);
    let hint = gone("m-1", "f-1", &[&first], 2);
    let second = narrower(&fixture, "c-1", 3).await;
    let taken = fixture.store.take_hint(hint).await.unwrap();
    assert!(
        matches!(taken, HintOutcome::Taken { notices: 1, .. }),
        "{taken:?}"
    );
    assert_eq!(state(&fixture, &first).await, SubscriptionState::Ended);
    assert_eq!(state(&fixture, &second).await, SubscriptionState::Active);
    let due = claim_list(&fixture, at(3)).await;
    let last = listed(&due, unknown(&[&second], 3), at(70));
    let recorded = fixture.store.record_lists(vec![last]).await.unwrap();
    assert_eq!(recorded.notices, 1);
    assert_eq!(state(&fixture, &second).await, SubscriptionState::Ended);
    assert_eq!(fixture.store.next_list_due().await.unwrap(), None);
}

#[tokio::test]
async fn a_subscription_that_begins_during_the_last_list_outlives_it_and_is_listed() {
    let fixture = Fixture::new().await;
    let first = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let first = first.subscription;
    let due = claim_list(&fixture, at(1)).await;
    let second = narrower(&fixture, "c-1", 2).await;
    let last = listed(&due, unknown(&[&first], 0), at(1));
    let recorded = fixture.store.record_lists(vec![last]).await.unwrap();
    assert_eq!(recorded.notices, 1);
    assert_eq!(state(&fixture, &first).await, SubscriptionState::Ended);
    assert_eq!(state(&fixture, &second).await, SubscriptionState::Active);
    let next = fixture.store.next_list_due().await.unwrap();
    assert_eq!(next, Some(at(2)), "it is not put off by that list");
}

#[tokio::test]
async fn a_removal_that_was_told_ends_no_later_subscription() {
    let fixture = Fixture::new().await;
    let first = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let hint = gone("m-1", "f-1", &[&first.subscription], 1);
    fixture.store.take_hint(hint).await.unwrap();
    let second = subscribe(&fixture, new_subscription(&fixture, "u-1", at(2))).await;
    let again = gone("m-2", "f-1", &[&second.subscription], 3);
    let taken = fixture.store.take_hint(again).await.unwrap();
    assert!(
        matches!(taken, HintOutcome::Taken { notices: 0, .. }),
        "{taken:?}"
    );
    let still = state(&fixture, &second.subscription).await;
    assert_eq!(still, SubscriptionState::Active);
}

/// The clocks of relays differ a little, and a clock can be set back.
#[tokio::test]
async fn a_subscription_never_ends_before_it_began() {
    let fixture = Fixture::new().await;
    let hinted = subscribe(&fixture, new_subscription(&fixture, "u-1", at(10))).await;
    let hint = gone("m-1", "f-1", &[&hinted.subscription], 9);
    fixture.store.take_hint(hint).await.unwrap();
    let ended = find(&fixture, hinted.subscription.id).await.subscription;
    assert_eq!(ended.ended_at, Some(at(10)));

    let cancelled = subscribe(&fixture, new_subscription(&fixture, "u-1", at(20))).await;
    let jobs = || vec![found("j-1", None, None)];
    assert_eq!(list(&fixture, jobs(), at(21)).await, 1);
    let by = fixture.requester();
    let end = fixture
        .store
        .end_subscription(by, cancelled.subscription.id, at(19));
    assert!(end.await.unwrap());
    let ended = find(&fixture, cancelled.subscription.id).await.subscription;
    assert_eq!(ended.ended_at, Some(at(20)));
    // its watch was cancelled with it, so the next subscription takes the job
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(30))).await;
    assert_eq!(list(&fixture, jobs(), at(31)).await, 1);
}

#[tokio::test]
async fn of_two_results_of_one_list_in_a_batch_the_one_with_the_lease_counts() {
    let fixture = Fixture::new().await;
    let active = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let active = active.subscription;
    let late = claim_list(&fixture, at(1)).await;
    let next = claim_list(&fixture, at(61)).await;
    let late = listed(&late, unknown(&[&active], 0), at(62));
    let next = listed(&next, ListResult::Listed(Vec::new()), at(63));
    let recorded = fixture.store.record_lists(vec![late, next]).await.unwrap();
    assert_eq!(recorded.notices, 0);
    assert_eq!(state(&fixture, &active).await, SubscriptionState::Active);
}
