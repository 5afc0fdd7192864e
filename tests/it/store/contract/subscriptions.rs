//! Subscriptions: lists whose new jobs become watches once, and notices in order.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{
    BasiqId, CallbackRules, CallbackUrl, DeliveryId, DeliveryState, EventFilter, EventSource,
    Locale, Metadata, NoticeFilter, NoticeKind, Requester, Status, Subscription, SubscriptionId,
    SubscriptionRequest, SubscriptionState, UserNotice, signing::SignatureHeaders,
};
use relay_store::{
    AfterAttempt, DeliveryQuery, DeliverySigner, DueDelivery, DueList, ForwardedMessage, FoundJob,
    Hint, HintOutcome, HintSubject, JobListResult, ListResult, NewNotice, NewSubscription,
    RecordedLists, Redelivery, RemovedUser, SubscriptionDetails, SubscriptionQuery,
    SubscriptionResult,
};

use crate::store::support::{Fixture, add_client, at, claim, new_watch};
use crate::support::{actor, operator};

pub(super) const HOOK: &str = "https://app.example/hook";

fn user(id: &str) -> BasiqId {
    id.parse().unwrap()
}

pub(crate) fn new_subscription(
    fixture: &Fixture,
    user_id: &str,
    now: Timestamp,
) -> NewSubscription {
    NewSubscription {
        id: SubscriptionId::new(now),
        client_id: fixture.client,
        request: SubscriptionRequest {
            user_id: user(user_id),
            connection_id: None,
            callback_url: CallbackUrl::parse(HOOK, &CallbackRules::default()).unwrap(),
            events: EventFilter::ALL,
            notices: NoticeFilter::ALL,
            locale: Locale::default(),
            metadata: serde_json::from_str::<Metadata>(r#"{"n":1.10}"#).unwrap(),
        },
        max_active: 100,
        now,
    }
}

pub(super) async fn subscribe(fixture: &Fixture, new: NewSubscription) -> SubscriptionDetails {
    match fixture.store.subscribe(new).await.unwrap() {
        SubscriptionResult::Created(details) => *details,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn find(fixture: &Fixture, id: SubscriptionId) -> SubscriptionDetails {
    let found = fixture.store.find_subscription(Some(fixture.client), id);
    found.await.unwrap().unwrap()
}

pub(super) async fn claim_lists(fixture: &Fixture, now: Timestamp) -> Vec<DueList> {
    fixture.store.claim_due_lists(claim(now)).await.unwrap()
}

pub(crate) async fn claim_list(fixture: &Fixture, now: Timestamp) -> DueList {
    let mut due = claim_lists(fixture, now).await;
    assert_eq!(due.len(), 1, "one list is due");
    due.remove(0)
}

pub(crate) fn found(
    job_id: &str,
    connection: Option<&str>,
    ended_at: Option<Timestamp>,
) -> FoundJob {
    FoundJob {
        job_id: job_id.parse().unwrap(),
        connection_id: connection.map(ToOwned::to_owned),
        ended_at,
    }
}

/// The result of a list that is read at this time. The next list is an hour later.
pub(crate) fn listed(due: &DueList, result: ListResult, now: Timestamp) -> JobListResult {
    JobListResult {
        user_id: due.user_id.clone(),
        lease: due.lease,
        at: now,
        next_list_at: now + Duration::from_hours(1),
        result,
        max_open: 1_000,
    }
}

async fn record(fixture: &Fixture, list: JobListResult) -> RecordedLists {
    fixture.store.record_lists(vec![list]).await.unwrap()
}

/// Lists these jobs of the only person whose list is due. Returns the number of new watches.
pub(super) async fn list(fixture: &Fixture, jobs: Vec<FoundJob>, now: Timestamp) -> u64 {
    let due = claim_list(fixture, now).await;
    let recorded = record(fixture, listed(&due, ListResult::Listed(jobs), now)).await;
    recorded.watches
}

pub(super) fn hint(id: &str, now: Timestamp) -> Hint {
    Hint {
        id: id.to_owned(),
        subject: Some(HintSubject::User("u-1".to_owned())),
        at: now,
        interval: Duration::from_secs(1),
        fact: None,
        notices: Vec::new(),
        removed_user: None,
        forward: None,
    }
}

/// A hint that is only passed on.
pub(crate) fn forwarded(id: &str, now: Timestamp) -> Hint {
    Hint {
        subject: None,
        forward: Some(ForwardedMessage {
            callback_url: CallbackUrl::parse(HOOK, &CallbackRules::default()).unwrap(),
            headers: SignatureHeaders {
                id: id.to_owned(),
                timestamp: "1800000000".to_owned(),
                signature: "v1,abc= v1,def=".to_owned(),
            },
            body: b"{\"odd\":\"\xff\0\"}".to_vec(),
            event_type: "consent.created".to_owned(),
        }),
        ..hint(id, now)
    }
}

pub(super) fn notice(subscription: &Subscription, kind: NoticeKind) -> NewNotice {
    NewNotice {
        subscription: subscription.clone(),
        notice: UserNotice::new(kind, user("u-1"), "c-1".parse().ok()),
        user_message: "Please look.".to_owned(),
    }
}

/// Takes a hint that is this notice of a subscription.
pub(super) async fn notify(
    fixture: &Fixture,
    id: &str,
    subscription: &Subscription,
    kind: NoticeKind,
    now: Timestamp,
) -> HintOutcome {
    let hint = Hint {
        fact: Some(format!("fact-{id}")),
        notices: vec![notice(subscription, kind)],
        removed_user: kind.is_final().then(|| removed(&[subscription.id])),
        ..hint(id, now)
    };
    fixture.store.take_hint(hint).await.unwrap()
}

/// The person `u-1` is gone, and these subscriptions end.
pub(super) fn removed(subscriptions: &[SubscriptionId]) -> RemovedUser {
    RemovedUser {
        user_id: user("u-1"),
        subscriptions: subscriptions.to_vec(),
    }
}

fn kind_of(due: &DueDelivery) -> String {
    let body: serde_json::Value = serde_json::from_slice(&due.body).unwrap();
    body["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_subscription_is_stored_once_and_its_list_is_due_at_once() {
    let fixture = Fixture::new().await;
    let new = new_subscription(&fixture, "u-1", at(0));
    let created = subscribe(&fixture, new.clone()).await;
    assert_eq!(created.subscription.request, new.request);
    assert_eq!(created.next_list_at, Some(at(0)));
    assert_eq!((created.last_listed_at, created.open_watches), (None, 0));
    let again = NewSubscription {
        id: SubscriptionId::new(at(5)),
        ..new.clone()
    };
    let again = fixture.store.subscribe(again).await.unwrap();
    assert!(
        matches!(&again, SubscriptionResult::Existing(same) if **same == created),
        "{again:?}"
    );
    let mut other = new_subscription(&fixture, "u-1", at(6));
    other.request.connection_id = "c-1".parse().ok();
    let other = subscribe(&fixture, other).await;
    let query = SubscriptionQuery {
        owner: Some(fixture.client),
        user_id: Some(user("u-1")),
        before: None,
        limit: 10,
    };
    let found = fixture.store.list_subscriptions(&query).await.unwrap();
    let ids: Vec<_> = found.iter().map(|one| one.subscription.id).collect();
    assert_eq!(ids, [other.subscription.id, new.id], "newest first");
    let older = SubscriptionQuery {
        before: Some(other.subscription.id),
        ..query
    };
    assert_eq!(
        fixture
            .store
            .list_subscriptions(&older)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(claim_list(&fixture, at(10)).await.user_id, user("u-1"));
    assert!(claim_lists(&fixture, at(10)).await.is_empty(), "one list");
}

#[tokio::test]
async fn a_client_at_its_cap_or_revoked_gets_no_subscription() {
    let fixture = Fixture::new().await;
    let mut new = new_subscription(&fixture, "u-1", at(0));
    new.max_active = 1;
    subscribe(&fixture, new).await;
    let mut more = new_subscription(&fixture, "u-2", at(0));
    more.max_active = 1;
    let more = fixture.store.subscribe(more).await.unwrap();
    assert!(matches!(more, SubscriptionResult::AtCap), "{more:?}");
    let name = "first".parse().unwrap();
    fixture
        .store
        .revoke_client(&name, actor(), at(1))
        .await
        .unwrap();
    let late = fixture
        .store
        .subscribe(new_subscription(&fixture, "u-3", at(2)));
    assert!(matches!(late.await.unwrap(), SubscriptionResult::Revoked));
    assert!(
        claim_lists(&fixture, at(9)).await.is_empty(),
        "all have ended"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_at_once_do_not_pass_the_cap() {
    let fixture = Fixture::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for person in 0..40 {
        let store = fixture.store.clone();
        let mut new = new_subscription(&fixture, &format!("u-{person}"), at(0));
        new.max_active = 5;
        tasks.spawn(async move { store.subscribe(new).await.unwrap() });
    }
    let results = tasks.join_all().await;
    let created = results
        .iter()
        .filter(|result| matches!(result, SubscriptionResult::Created(_)));
    assert_eq!(created.count(), 5);
    let refused = results
        .iter()
        .filter(|result| matches!(result, SubscriptionResult::AtCap));
    assert_eq!(refused.count(), 35);
}

#[tokio::test]
async fn each_new_job_becomes_a_watch_once() {
    let fixture = Fixture::new().await;
    let created = subscribe(&fixture, new_subscription(&fixture, "u-1", at(100))).await;
    let jobs = || {
        vec![
            found("old", None, Some(at(50))),
            found("ended", None, Some(at(150))),
            found("runs", Some("c-1"), None),
        ]
    };
    assert_eq!(list(&fixture, jobs(), at(200)).await, 2);
    let details = find(&fixture, created.subscription.id).await;
    assert_eq!(details.open_watches, 2);
    assert_eq!(details.last_listed_at, Some(at(200)));
    assert_eq!(details.next_list_at, Some(at(200 + 3600)));
    for job in ["ended", "runs"] {
        let watch = fixture.watches_of(job).await.remove(0).watch;
        assert_eq!(watch.subscription_id, Some(created.subscription.id));
        assert_eq!(watch.request.options.metadata.as_str(), r#"{"n":1.10}"#);
    }
    assert!(fixture.watches_of("old").await.is_empty());
    // the watches end, and the list still has their jobs
    for job in fixture.claim(at(210)).await {
        fixture.tell_job(&job, Status::Success, at(210)).await;
    }
    for due in fixture.claim_deliveries(at(210)).await {
        fixture
            .attempted(&due, AfterAttempt::Delivered, at(210))
            .await;
    }
    let hinted = fixture.store.take_hint(hint("m-1", at(300))).await.unwrap();
    let expected = HintOutcome::Taken {
        jobs: 0,
        notices: 0,
        lists: true,
    };
    assert_eq!(hinted, expected);
    assert_eq!(list(&fixture, jobs(), at(300)).await, 0, "seen");
    assert_eq!(
        find(&fixture, created.subscription.id).await.open_watches,
        0
    );
}

#[tokio::test]
async fn a_job_that_the_client_watches_itself_is_not_told_twice() {
    let fixture = Fixture::new().await;
    let own = new_watch(fixture.client, "own", HOOK, at(0));
    fixture.store.register_watch(own).await.unwrap();
    let settled = new_watch(fixture.client, "settled", HOOK, at(0));
    fixture.store.register_watch(settled).await.unwrap();
    for job in fixture.claim(at(1)).await {
        if job.job_id.as_str() == "settled" {
            fixture.tell_job(&job, Status::Success, at(1)).await;
        }
    }
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let jobs = vec![
        found("own", None, None),
        found("settled", None, Some(at(1))),
    ];
    assert_eq!(list(&fixture, jobs, at(2)).await, 0);
    assert_eq!(fixture.watches_of("own").await.len(), 1);
    assert_eq!(fixture.watches_of("settled").await.len(), 1);
}

#[tokio::test]
async fn a_subscription_to_one_connection_finds_only_its_jobs() {
    let fixture = Fixture::new().await;
    let mut new = new_subscription(&fixture, "u-1", at(0));
    new.request.connection_id = "c-1".parse().ok();
    subscribe(&fixture, new).await;
    let jobs = |third: Option<&str>| {
        vec![
            found("one", Some("c-1"), None),
            found("two", Some("c-2"), None),
            found("later", third, None),
        ]
    };
    assert_eq!(list(&fixture, jobs(None), at(1)).await, 1);
    fixture.store.take_hint(hint("m-1", at(20))).await.unwrap();
    let found = list(&fixture, jobs(Some("c-1")), at(20)).await;
    assert_eq!(found, 1, "known now");
}

#[tokio::test]
async fn jobs_over_the_cap_are_taken_at_a_later_list() {
    let fixture = Fixture::new().await;
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let due = claim_list(&fixture, at(1)).await;
    let jobs = || vec![found("one", None, None), found("two", None, None)];
    let mut all = listed(&due, ListResult::Listed(jobs()), at(1));
    all.max_open = 1;
    let recorded = record(&fixture, all).await;
    assert_eq!((recorded.watches, recorded.waiting_for_room), (1, 1));
    fixture.store.take_hint(hint("m-1", at(20))).await.unwrap();
    assert_eq!(list(&fixture, jobs(), at(20)).await, 1);
}

#[tokio::test]
async fn a_list_whose_lease_was_lost_changes_nothing() {
    let fixture = Fixture::new().await;
    let created = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let late = claim_list(&fixture, at(1)).await;
    let again = claim_list(&fixture, at(1000)).await;
    let jobs = || ListResult::Listed(vec![found("one", None, None)]);
    let recorded = record(&fixture, listed(&late, jobs(), at(1000))).await;
    assert_eq!(recorded, RecordedLists::default());
    assert_eq!(
        record(&fixture, listed(&again, jobs(), at(1001)))
            .await
            .watches,
        1
    );
    assert_eq!(
        find(&fixture, created.subscription.id).await.open_watches,
        1
    );
}

#[tokio::test]
async fn a_hint_during_a_list_makes_another_one_due() {
    let fixture = Fixture::new().await;
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let nothing = || ListResult::Listed(Vec::new());
    let due = claim_list(&fixture, at(20)).await;
    fixture.store.take_hint(hint("m-1", at(21))).await.unwrap();
    record(&fixture, listed(&due, nothing(), at(20))).await;
    let due = claim_list(&fixture, at(21)).await;
    record(&fixture, listed(&due, nothing(), at(21))).await;
    // further hints soon after make one more list due, ten seconds later
    for n in 0..5 {
        fixture
            .store
            .take_hint(hint(&format!("n-{n}"), at(22)))
            .await
            .unwrap();
    }
    assert!(claim_lists(&fixture, at(30)).await.is_empty());
    assert_eq!(claim_lists(&fixture, at(31)).await.len(), 1);
}

#[tokio::test]
async fn an_ended_subscription_cancels_its_watches_and_stays_readable() {
    let fixture = Fixture::new().await;
    let created = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let (id, subscription) = (created.subscription.id, created.subscription);
    assert_eq!(
        list(&fixture, vec![found("one", None, None)], at(1)).await,
        1
    );
    notify(
        &fixture,
        "m-1",
        &subscription,
        NoticeKind::ConsentExpired,
        at(2),
    )
    .await;
    let store = &fixture.store;
    let other = add_client(&**store, "second").await;
    assert!(
        !store
            .end_subscription(&Requester::Client(other), id, at(3))
            .await
            .unwrap()
    );
    assert!(
        store
            .end_subscription(fixture.requester(), id, at(3))
            .await
            .unwrap()
    );
    let ended = find(&fixture, id).await;
    assert_eq!(ended.subscription.state, SubscriptionState::Ended);
    assert_eq!(ended.subscription.ended_at, Some(at(3)));
    assert_eq!((ended.open_watches, ended.next_list_at), (0, None));
    assert!(fixture.claim_deliveries(at(9)).await.is_empty());
    assert!(fixture.claim(at(9)).await.is_empty(), "nothing to look at");
    assert!(claim_lists(&fixture, at(9)).await.is_empty());
    assert!(
        store
            .end_subscription(fixture.requester(), id, at(4))
            .await
            .unwrap()
    );
    assert_eq!(find(&fixture, id).await.subscription.ended_at, Some(at(3)));
    let told = notify(
        &fixture,
        "m-2",
        &subscription,
        NoticeKind::ConsentExpired,
        at(5),
    )
    .await;
    assert!(
        matches!(told, HintOutcome::Taken { notices: 0, .. }),
        "{told:?}"
    );
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(6))).await;
}

#[tokio::test]
async fn notices_go_out_once_and_in_order() {
    let fixture = Fixture::new().await;
    let subscription = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let subscription = subscription.subscription;
    let kinds = [NoticeKind::ConsentExpiring, NoticeKind::ConsentExpired];
    for (id, kind) in ["m-1", "m-2"].into_iter().zip(kinds) {
        let taken = notify(&fixture, id, &subscription, kind, at(1)).await;
        assert!(
            matches!(taken, HintOutcome::Taken { notices: 1, .. }),
            "{taken:?}"
        );
    }
    let again = notify(&fixture, "m-1", &subscription, kinds[0], at(1)).await;
    assert_eq!(again, HintOutcome::Again);
    // the same fact in another message
    let same = Hint {
        fact: Some("fact-m-1".to_owned()),
        notices: vec![notice(&subscription, kinds[0])],
        ..hint("m-3", at(1))
    };
    let same = fixture.store.take_hint(same).await.unwrap();
    assert!(
        matches!(same, HintOutcome::Taken { notices: 0, .. }),
        "{same:?}"
    );
    let first = fixture.claim_delivery(at(2)).await;
    assert_eq!(kind_of(&first), "notice.consent-expiring");
    assert_eq!(first.source, EventSource::Subscription(subscription.id));
    assert!(matches!(first.signer, DeliverySigner::Relay { .. }));
    fixture
        .attempted(&first, AfterAttempt::RetryAt(at(10)), at(2))
        .await;
    assert!(
        fixture.claim_deliveries(at(9)).await.is_empty(),
        "the second waits"
    );
    let first = fixture.claim_delivery(at(10)).await;
    assert_eq!(first.attempts, 1);
    fixture
        .attempted(&first, AfterAttempt::Delivered, at(10))
        .await;
    let second = fixture.claim_delivery(at(11)).await;
    assert_eq!(kind_of(&second), "notice.consent-expired");
    let body: serde_json::Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(body["sequence"], 2);
    fixture.attempted(&second, AfterAttempt::Dead, at(11)).await;
    assert!(fixture.claim_deliveries(at(20)).await.is_empty());
}

/// Lists the deliveries of the client in a state, as the types of their events.
async fn in_state(fixture: &Fixture, state: DeliveryState) -> Vec<String> {
    let query = DeliveryQuery {
        owner: Some(fixture.client),
        state,
        after: None,
        limit: 10,
    };
    let found = fixture.store.list_deliveries(&query).await.unwrap();
    let types = found
        .iter()
        .map(|one| one.body().unwrap().event_type.clone());
    types.collect()
}

#[tokio::test]
async fn a_dead_notice_is_listed_and_sent_again() {
    let fixture = Fixture::new().await;
    let subscription = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let subscription = subscription.subscription;
    notify(
        &fixture,
        "m-1",
        &subscription,
        NoticeKind::ConsentExpired,
        at(1),
    )
    .await;
    assert_eq!(in_state(&fixture, DeliveryState::Pending).await.len(), 1);
    let due = fixture.claim_delivery(at(1)).await;
    fixture.attempted(&due, AfterAttempt::Dead, at(1)).await;
    let dead = in_state(&fixture, DeliveryState::Dead).await;
    assert_eq!(dead, ["notice.consent-expired"]);
    // another notice is pending, and the dead one waits behind it
    notify(
        &fixture,
        "m-2",
        &subscription,
        NoticeKind::ConsentRevoked,
        at(2),
    )
    .await;
    let by = fixture.requester();
    let store = &fixture.store;
    assert_eq!(store.redeliver_dead(by, at(0), at(3)).await.unwrap(), 1);
    let due = fixture.claim_delivery(at(3)).await;
    assert_eq!(kind_of(&due), "notice.consent-revoked");
    fixture
        .attempted(&due, AfterAttempt::Delivered, at(3))
        .await;
    let again = fixture.claim_delivery(at(4)).await;
    assert_eq!(kind_of(&again), "notice.consent-expired");
    fixture
        .attempted(&again, AfterAttempt::Delivered, at(4))
        .await;
    assert_eq!(in_state(&fixture, DeliveryState::Delivered).await.len(), 2);
    let one = store.redeliver_one(by, again.id, at(5)).await.unwrap();
    assert_eq!(one, Redelivery::Queued(again.event_id));
    let twice = fixture.claim_delivery(at(5)).await;
    assert_eq!(twice.attempts, 2, "earlier attempts are counted");
    let end = AfterAttempt::Gone;
    fixture.attempted(&twice, end, at(5)).await;
    let ended = find(&fixture, subscription.id).await.subscription;
    assert_eq!(ended.state, SubscriptionState::Ended, "410 ends it");
}

/// Checks that these deliveries are claimed one after the other, each after the end of the one before it.
async fn in_order(fixture: &Fixture, ids: &[DeliveryId], next: AfterAttempt, now: Timestamp) {
    for id in ids {
        let due = fixture.claim_delivery(now).await;
        assert_eq!(due.id, *id);
        fixture.attempted(&due, next, now).await;
    }
}

#[tokio::test]
async fn dead_notices_are_sent_again_in_their_order() {
    let fixture = Fixture::new().await;
    let subscription = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let subscription = subscription.subscription;
    let kinds = [
        NoticeKind::ConsentExpiring,
        NoticeKind::ConsentExpired,
        NoticeKind::ConsentRevoked,
    ];
    let mut ids = Vec::new();
    for (id, kind) in ["m-1", "m-2", "m-3"].into_iter().zip(kinds) {
        notify(&fixture, id, &subscription, kind, at(1)).await;
        let due = fixture.claim_delivery(at(1)).await;
        fixture.attempted(&due, AfterAttempt::Dead, at(1)).await;
        ids.push(due.id);
    }
    let (by, store) = (fixture.requester(), &fixture.store);
    // the newest one fails last, and the oldest one before it
    let fail = async |id, second| {
        store.redeliver_one(by, id, at(second)).await.unwrap();
        let due = fixture.claim_delivery(at(second)).await;
        fixture
            .attempted(&due, AfterAttempt::Dead, at(second))
            .await;
    };
    fail(ids[0], 3).await;
    fail(ids[2], 4).await;
    let chosen = [ids[2], ids[1], ids[0]];
    let all = store.redeliver_dead(by, at(0), at(10)).await;
    assert_eq!(all.unwrap(), 3);
    in_order(&fixture, &ids, AfterAttempt::Dead, at(10)).await;
    let chosen = store.redeliver_chosen(actor(), &chosen, "client=first", at(20));
    assert_eq!(chosen.await.unwrap(), 3);
    in_order(&fixture, &ids, AfterAttempt::Delivered, at(20)).await;
}

#[tokio::test]
async fn a_removed_user_ends_all_subscriptions_with_a_last_notice() {
    let fixture = Fixture::new().await;
    let told = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let told = told.subscription;
    let mut untold = new_subscription(&fixture, "u-1", at(0));
    untold.request.connection_id = "c-1".parse().ok();
    untold.request.notices = NoticeFilter::only(&[NoticeKind::ConsentExpired]);
    let untold = subscribe(&fixture, untold).await.subscription;
    let due = claim_list(&fixture, at(1)).await;
    let missing = |ended: &[SubscriptionId], last_notices| ListResult::Unknown {
        since: at(1),
        ended: ended.to_vec(),
        last_notices,
    };
    record(&fixture, listed(&due, missing(&[], Vec::new()), at(1))).await;
    let due = claim_list(&fixture, at(1 + 3600)).await;
    assert_eq!(due.missing_since, Some(at(1)));
    let last = vec![notice(&told, NoticeKind::UserRemoved)];
    let ended = missing(&[told.id, untold.id], last);
    let recorded = record(&fixture, listed(&due, ended, at(3602))).await;
    assert_eq!(recorded.notices, 1);
    for subscription in [told.id, untold.id] {
        let ended = find(&fixture, subscription).await.subscription;
        assert_eq!(ended.state, SubscriptionState::Ended);
    }
    let due = fixture.claim_delivery(at(3603)).await;
    assert_eq!(kind_of(&due), "notice.user-removed");
    assert!(claim_lists(&fixture, at(99_999)).await.is_empty());
    // the subscription has ended already, and its last notice ends with its callback
    fixture.attempted(&due, AfterAttempt::Gone, at(3604)).await;
    let cancelled = in_state(&fixture, DeliveryState::Cancelled).await;
    assert_eq!(cancelled.len(), 1);
    let census = fixture.store.census(at(3605)).await.unwrap();
    assert_eq!(census.pending_deliveries, 0);
}

#[tokio::test]
async fn a_job_whose_watch_ended_with_another_subscription_is_watched_again() {
    let fixture = Fixture::new().await;
    let first = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let due = claim_list(&fixture, at(1)).await;
    let running = || ListResult::Listed(vec![found("j-1", None, None)]);
    assert_eq!(
        record(&fixture, listed(&due, running(), at(1)))
            .await
            .watches,
        1
    );
    let end = fixture
        .store
        .end_subscription(operator(), first.subscription.id, at(2));
    assert!(end.await.unwrap());
    let second = subscribe(&fixture, new_subscription(&fixture, "u-1", at(3))).await;
    let due = claim_list(&fixture, at(4)).await;
    assert_eq!(
        record(&fixture, listed(&due, running(), at(4)))
            .await
            .watches,
        1
    );
    assert_eq!(find(&fixture, second.subscription.id).await.open_watches, 1);
}

#[tokio::test]
async fn a_message_is_passed_on_as_it_is() {
    let fixture = Fixture::new().await;
    let forward = forwarded("m-1", at(0));
    let ForwardedMessage { headers, body, .. } = forward.forward.clone().unwrap();
    fixture.store.take_hint(forward.clone()).await.unwrap();
    let again = fixture.store.take_hint(forward).await.unwrap();
    assert_eq!(again, HintOutcome::Again);
    let due = fixture.claim_delivery(at(0)).await;
    assert_eq!(
        (&due.source, &due.body),
        (&EventSource::BasiqMessage, &body)
    );
    assert!(matches!(&due.signer, DeliverySigner::Basiq(sent) if *sent == headers));
    fixture.attempted(&due, AfterAttempt::Gone, at(0)).await;
    let query = |owner| DeliveryQuery {
        owner,
        state: DeliveryState::Dead,
        after: None,
        limit: 10,
    };
    let store = &fixture.store;
    let dead = store.list_deliveries(&query(None)).await.unwrap();
    assert_eq!(dead.len(), 1, "410 does not end it for good");
    assert!(dead[0].body().is_none() && dead[0].client_id.is_none());
    let own = query(Some(fixture.client));
    assert!(store.list_deliveries(&own).await.unwrap().is_empty());
    assert_eq!(store.census(at(1)).await.unwrap().dead_deliveries, 1);
    assert_eq!(
        store
            .redeliver_dead(operator(), at(0), at(2))
            .await
            .unwrap(),
        1
    );
    let due = fixture.claim_delivery(at(2)).await;
    assert_eq!(due.body, body);
    fixture
        .attempted(&due, AfterAttempt::Delivered, at(2))
        .await;
    assert!(
        store
            .list_deliveries(&query(None))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.census(at(3)).await.unwrap().pending_deliveries, 0);
}

#[tokio::test]
async fn stored_messages_go_to_another_address_once_it_is_set() {
    let fixture = Fixture::new().await;
    for (id, end) in [
        ("m-1", AfterAttempt::Dead),
        ("m-2", AfterAttempt::RetryAt(at(5))),
    ] {
        fixture.store.take_hint(forwarded(id, at(0))).await.unwrap();
        let due = fixture.claim_delivery(at(0)).await;
        fixture.attempted(&due, end, at(0)).await;
    }
    let url = "https://new.example/basiq";
    let url = CallbackUrl::parse(url, &CallbackRules::default()).unwrap();
    let store = &fixture.store;
    assert_eq!(store.redirect_messages(&url).await.unwrap(), 2);
    assert_eq!(store.redirect_messages(&url).await.unwrap(), 0);
    let queued = store.redeliver_dead(operator(), at(0), at(6)).await;
    assert_eq!(queued.unwrap(), 1);
    let due = fixture.claim_deliveries(at(6)).await;
    assert_eq!(due.len(), 2);
    assert!(due.iter().all(|due| due.callback_url == url));
}

#[tokio::test]
async fn old_subscriptions_and_notices_are_deleted() {
    let fixture = Fixture::new().await;
    let ended = subscribe(&fixture, new_subscription(&fixture, "u-1", at(0))).await;
    let ended = ended.subscription;
    notify(&fixture, "m-1", &ended, NoticeKind::ConsentExpired, at(1)).await;
    let due = fixture.claim_delivery(at(1)).await;
    fixture.attempted(&due, AfterAttempt::Dead, at(1)).await;
    let store = &fixture.store;
    let end = store.end_subscription(fixture.requester(), ended.id, at(2));
    assert!(end.await.unwrap());
    let kept = subscribe(&fixture, new_subscription(&fixture, "u-1", at(3))).await;
    let kept = kept.subscription;
    notify(&fixture, "m-2", &kept, NoticeKind::ConsentExpired, at(4)).await;
    let due = fixture.claim_delivery(at(4)).await;
    fixture.attempted(&due, AfterAttempt::Dead, at(4)).await;
    store.purge_ended(at(3), 100).await.unwrap();
    let found = store.find_subscription(None, ended.id).await.unwrap();
    assert_eq!(found, None);
    assert_eq!(in_state(&fixture, DeliveryState::Cancelled).await.len(), 0);
    assert_eq!(in_state(&fixture, DeliveryState::Dead).await.len(), 1);
    store.purge_ended(at(100), 100).await.unwrap();
    assert_eq!(in_state(&fixture, DeliveryState::Dead).await.len(), 0);
    assert_eq!(find(&fixture, kept.id).await.subscription.id, kept.id);
    assert_eq!(store.census(at(100)).await.unwrap().subscriptions, 1);
}
