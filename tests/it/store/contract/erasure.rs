//! Erasure: all of a person goes, nothing of others does, and what was in flight does not come back.

use jiff::Timestamp;
use relay_domain::{
    DeliveryState, EventSource, JobContext, NoticeKind, Status, SubscriptionId, UserNotice, WatchId,
};
use relay_store::{
    AfterAttempt, DeliveryQuery, DueJob, DurationSample, ErasureCounts, ErasureSubject, Hint,
    HintOutcome, HintSubject, ListResult, Look, NewNotice, SubscriptionResult,
};

use super::subscriptions::{claim_list, forwarded, found, listed, new_subscription};
use crate::store::support::{Fixture, add_client, at, change, look, new_watch};
use crate::support::actor;

fn person(id: &str) -> ErasureSubject {
    ErasureSubject::User(id.parse().unwrap())
}

fn connection(id: &str) -> ErasureSubject {
    ErasureSubject::Connection(id.parse().unwrap())
}

async fn erase(fixture: &Fixture, subject: &ErasureSubject, now: Timestamp) -> ErasureCounts {
    fixture.store.erase(subject, actor(), now).await.unwrap()
}

/// A look that finds whose job it is, with an event of this status for each watch.
fn telling(job: &DueJob, (user, connection): (&str, &str), status: Status, now: Timestamp) -> Look {
    let mut look = look(job, now);
    look.memory.context.user_id = Some(user.to_owned());
    look.memory.context.connection_id = Some(connection.to_owned());
    look.changes = job.watches.iter().map(|w| change(w, status, now)).collect();
    look
}

/// Registers a watch of a job and tells its client this status.
async fn told(
    fixture: &Fixture,
    job: &str,
    whose: (&str, &str),
    status: Status,
    now: Timestamp,
) -> WatchId {
    let id = fixture.watch(job, now).await;
    let claimed = fixture.claim(now).await;
    let claimed = claimed.iter().find(|due| due.job_id.as_str() == job);
    let look = telling(claimed.unwrap(), whose, status, now);
    assert!(fixture.record(look).await);
    id
}

async fn subscribe(fixture: &Fixture, user: &str, now: Timestamp) -> SubscriptionId {
    let new = new_subscription(fixture, user, now);
    match fixture.store.subscribe(new).await.unwrap() {
        SubscriptionResult::Created(details) => details.subscription.id,
        other => panic!("{other:?}"),
    }
}

/// Takes a hint that is a notice about a connection.
async fn notify(fixture: &Fixture, id: SubscriptionId, connection: &str, now: Timestamp) {
    let details = fixture.store.find_subscription(None, id).await.unwrap();
    let subscription = details.unwrap().subscription;
    let user = subscription.request.user_id.clone();
    let hint = Hint {
        forward: None,
        notices: vec![NewNotice {
            notice: UserNotice::new(NoticeKind::ConnectionInvalid, user, connection.parse().ok()),
            subscription,
            user_message: "Please look.".to_owned(),
        }],
        ..forwarded(&format!("hint {id} {connection} {now}"), now)
    };
    fixture.store.take_hint(hint).await.unwrap();
}

/// Takes a webhook of Basiq's that is passed on.
async fn pass_on(fixture: &Fixture, id: &str, body: &str, now: Timestamp) {
    let mut hint = forwarded(id, now);
    hint.forward.as_mut().unwrap().body = body.as_bytes().to_vec();
    fixture.store.take_hint(hint).await.unwrap();
}

async fn pending(fixture: &Fixture) -> u64 {
    let census = fixture.store.census(at(0)).await.unwrap();
    census.pending_deliveries
}

async fn in_state(fixture: &Fixture, state: DeliveryState) -> usize {
    let query = DeliveryQuery {
        owner: None,
        state,
        after: None,
        limit: 50,
    };
    fixture.store.list_deliveries(&query).await.unwrap().len()
}

#[tokio::test]
async fn all_of_a_person_goes_and_nothing_of_others() {
    let fixture = Fixture::new().await;
    let done = told(&fixture, "j1", ("u-1", "c-1"), Status::Success, at(1)).await;
    let open = told(
        &fixture,
        "j2",
        ("u-1", "c-2"),
        Status::ActionRequired,
        at(2),
    )
    .await;
    let other = told(
        &fixture,
        "j3",
        ("u-2", "c-3"),
        Status::ActionRequired,
        at(3),
    )
    .await;
    let second = add_client(&*fixture.store, "second").await;
    let shared = new_watch(second, "j2", "https://b.example/", at(4));
    let shared_id = shared.id;
    fixture.store.register_watch(shared).await.unwrap();
    let dead = fixture.claim_deliveries(at(5)).await;
    let dead = dead.iter().find(
        |due| matches!(&due.source, EventSource::Watch { watch_id, .. } if *watch_id == done),
    );
    fixture
        .attempted(dead.unwrap(), AfterAttempt::Dead, at(5))
        .await;
    let mine = subscribe(&fixture, "u-1", at(6)).await;
    let theirs = subscribe(&fixture, "u-2", at(6)).await;
    for (id, connection) in [(mine, "c-1"), (mine, "c-2"), (theirs, "c-3")] {
        notify(&fixture, id, connection, at(7)).await;
    }
    pass_on(&fixture, "m1", "{\"u\":\"/users/u-1/consents\"}", at(8)).await;
    pass_on(&fixture, "m2", "{\"c\":\"c-2\"}", at(8)).await;
    pass_on(&fixture, "m3", "{\"u\":\"u-12\",\"c\":\"c-3\"}", at(8)).await;
    assert_eq!(pending(&fixture).await, 7);

    let erased = erase(&fixture, &person("u-1"), at(9)).await;
    let expected = ErasureCounts {
        watches: 3,
        subscriptions: 1,
        events: 2,
        notices: 2,
        messages: 2,
    };
    assert_eq!(erased, expected);
    for id in [done, open, shared_id] {
        assert!(fixture.store.find_watch(None, id).await.unwrap().is_none());
    }
    let gone = fixture.store.find_subscription(None, mine).await.unwrap();
    assert!(gone.is_none());
    assert_eq!(in_state(&fixture, DeliveryState::Dead).await, 0);

    assert_eq!(pending(&fixture).await, 3, "an event, a notice, a message");
    assert_eq!(fixture.story(other).await.events.len(), 1);
    let stays = fixture.store.find_subscription(None, theirs).await.unwrap();
    assert!(stays.unwrap().next_list_at.is_some());
    let census = fixture.store.census(at(9)).await.unwrap();
    assert_eq!(census.subscriptions, 1);
    let watches: u64 = census.watches.iter().map(|(_, n)| n).sum();
    assert_eq!(watches, 1);
    let again = erase(&fixture, &person("u-1"), at(10)).await;
    assert_eq!(again, ErasureCounts::default());
}

#[tokio::test]
async fn what_was_claimed_meanwhile_does_not_come_back() {
    let fixture = Fixture::new().await;
    let id = told(
        &fixture,
        "j1",
        ("u-1", "c-1"),
        Status::ActionRequired,
        at(1),
    )
    .await;
    let subscription = subscribe(&fixture, "u-1", at(1)).await;
    let delivery = fixture.claim_delivery(at(2)).await;
    let job = fixture.claim_one(at(100)).await;
    let list = claim_list(&fixture, at(2)).await;

    erase(&fixture, &person("u-1"), at(101)).await;
    let late = telling(&job, ("u-1", "c-1"), Status::Success, at(102));
    assert!(!fixture.record(late).await);
    let jobs = ListResult::Listed(vec![found("j9", Some("c-1"), None)]);
    let recorded = fixture
        .store
        .record_lists(vec![listed(&list, jobs, at(102))]);
    assert_eq!(recorded.await.unwrap().watches, 0);
    for next in [
        AfterAttempt::Gone,
        AfterAttempt::Dead,
        AfterAttempt::Delivered,
    ] {
        fixture.attempted(&delivery, next, at(102)).await;
    }
    assert!(fixture.store.find_watch(None, id).await.unwrap().is_none());
    let gone = fixture.store.find_subscription(None, subscription).await;
    assert!(gone.unwrap().is_none());
    assert!(fixture.claim(at(10_000)).await.is_empty());
    assert!(fixture.claim_deliveries(at(10_000)).await.is_empty());
    let census = fixture.store.census(at(10_000)).await.unwrap();
    assert!(census.watches.iter().all(|(_, n)| *n == 0), "{census:?}");
    assert_eq!((census.due_lists, census.dead_deliveries), (0, 0));
}

#[tokio::test]
async fn a_webhook_that_arrived_before_the_erasure_tells_nobody() {
    let fixture = Fixture::new().await;
    let id = subscribe(&fixture, "u-1", at(1)).await;
    let details = fixture.store.find_subscription(None, id).await.unwrap();
    let subscription = details.unwrap().subscription;
    erase(&fixture, &connection("C-1"), at(2)).await;
    let user = subscription.request.user_id.clone();
    let notice = NewNotice {
        notice: UserNotice::new(NoticeKind::ConnectionInvalid, user, "c-1".parse().ok()),
        subscription,
        user_message: "Please look.".to_owned(),
    };
    let webhook = |id: &str, now| Hint {
        subject: Some(HintSubject::Connection {
            connection_id: "c-1".to_owned(),
            user_id: Some("u-1".to_owned()),
        }),
        notices: vec![notice.clone()],
        ..forwarded(id, now)
    };
    let taken = fixture.store.take_hint(webhook("m-1", at(1))).await;
    assert_eq!(taken.unwrap(), HintOutcome::Erased);
    assert_eq!(pending(&fixture).await, 0);
    // what Basiq says later is new
    let taken = fixture.store.take_hint(webhook("m-2", at(3))).await;
    assert!(matches!(
        taken.unwrap(),
        HintOutcome::Taken { notices: 1, .. }
    ));
    assert_eq!(pending(&fixture).await, 2, "the notice and the message");
}

#[tokio::test]
async fn a_watch_that_turns_out_to_be_of_an_erased_person_is_deleted_and_tells_nothing() {
    let fixture = Fixture::new().await;
    let (old, also_old) = (
        fixture.watch("j1", at(1)).await,
        fixture.watch("j2", at(1)).await,
    );
    erase(&fixture, &person("u-1"), at(2)).await;
    let new = fixture.watch_at("j2", "https://b.example/", at(3)).await;
    let jobs = fixture.claim(at(4)).await;
    for job in &jobs {
        let look = telling(job, ("u-1", "c-1"), Status::Success, at(4));
        let is_kept = fixture.record(look).await;
        assert_eq!(is_kept, job.job_id.as_str() == "j2");
    }
    for id in [old, also_old] {
        assert!(fixture.store.find_watch(None, id).await.unwrap().is_none());
    }
    assert!(fixture.watches_of("j1").await.is_empty());
    assert_eq!(fixture.story(new).await.events.len(), 1);
    assert_eq!(pending(&fixture).await, 1);
    assert!(fixture.claim(at(10_000)).await.is_empty());
    // a job of somebody else is as before
    told(&fixture, "j3", ("u-2", "c-2"), Status::Success, at(5)).await;
    assert_eq!(pending(&fixture).await, 2);
}

#[tokio::test]
async fn a_connection_goes_and_its_person_stays() {
    let fixture = Fixture::new().await;
    let mine = told(&fixture, "j1", ("u-1", "c-1"), Status::Success, at(1)).await;
    let other = told(&fixture, "j2", ("u-1", "c-2"), Status::Success, at(2)).await;
    let whole = subscribe(&fixture, "u-1", at(3)).await;
    let mut one = new_subscription(&fixture, "u-1", at(3));
    one.request.connection_id = "c-1".parse().ok();
    fixture.store.subscribe(one.clone()).await.unwrap();
    for (connection, now) in [("c-1", at(4)), ("c-2", at(5)), ("c-1", at(6))] {
        notify(&fixture, whole, connection, now).await;
    }
    let erased = erase(&fixture, &connection("c-1"), at(7)).await;
    let expected = ErasureCounts {
        watches: 1,
        subscriptions: 1,
        events: 1,
        notices: 2,
        messages: 0,
    };
    assert_eq!(erased, expected);
    assert!(
        fixture
            .store
            .find_watch(None, mine)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(fixture.story(other).await.events.len(), 1);
    let stays = fixture.store.find_subscription(None, whole).await.unwrap();
    assert!(stays.unwrap().next_list_at.is_some());
    let due = fixture.claim_deliveries(at(8)).await;
    let notice = due
        .iter()
        .find(|due| matches!(due.source, EventSource::Subscription(_)));
    let body = String::from_utf8(notice.unwrap().body.clone()).unwrap();
    assert!(body.contains("\"connectionId\":\"c-2\""), "{body}");
    assert_eq!(due.len(), 2);
}

#[tokio::test]
async fn ids_are_compared_without_their_case_and_only_basiq_says_whose_a_connection_is() {
    let fixture = Fixture::new().await;
    let mine = told(&fixture, "j1", ("U-AB", "C-AB"), Status::Success, at(1)).await;
    let other = told(&fixture, "j2", ("u-2", "c-2"), Status::Success, at(2)).await;
    // a client may type anything
    let mut wrong = new_subscription(&fixture, "u-ab", at(3));
    wrong.request.connection_id = "c-2".parse().ok();
    fixture.store.subscribe(wrong).await.unwrap();
    let late = fixture.watch("j3", at(3)).await;
    let erased = erase(&fixture, &person("u-aB"), at(4)).await;
    assert_eq!((erased.watches, erased.subscriptions), (1, 1));
    assert!(
        fixture
            .store
            .find_watch(None, mine)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(fixture.story(other).await.events.len(), 1);
    let job = fixture.claim_one(at(5)).await;
    let look = telling(&job, ("u-Ab", "c-9"), Status::Success, at(5));
    assert!(!fixture.record(look).await);
    assert!(
        fixture
            .store
            .find_watch(None, late)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn the_bank_of_an_erased_connection_is_forgotten() {
    let fixture = Fixture::new().await;
    let connection_id = "connection-of-the-erased";
    fixture.watch("j1", at(1)).await;
    let job = fixture.claim_one(at(1)).await;
    let mut look = telling(&job, ("u-1", connection_id), Status::Success, at(1));
    look.sample = Some(DurationSample {
        institution_id: Some("AU1".to_owned()),
        connection_id: Some(connection_id.to_owned()),
        job_type: "connection".to_owned(),
        end: None,
        averages: None,
    });
    assert!(fixture.record(look).await);
    let bank = JobContext {
        connection_id: Some(connection_id.to_owned()),
        ..JobContext::default()
    };
    let known = async || {
        let found = fixture.store.durations_of(&bank).await.unwrap();
        found.institution_id
    };
    // PostgreSQL stores what was learned a moment later
    while known().await.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    erase(&fixture, &person("u-1"), at(2)).await;
    assert_eq!(known().await, None);
}

#[tokio::test]
async fn an_erasure_is_forgotten_once_no_older_watch_can_be_open() {
    const DAY: i64 = 86_400;
    let fixture = Fixture::new().await;
    erase(&fixture, &person("u-1"), at(2)).await;
    for (days, is_kept) in [(7, false), (9, true)] {
        let before = at(days * DAY);
        fixture.store.purge_ended(before, 10).await.unwrap();
        fixture.watch("j1", at(1)).await;
        let job = fixture.claim_one(at(days * DAY)).await;
        let look = telling(&job, ("u-1", "c-1"), Status::Success, at(days * DAY));
        assert_eq!(fixture.record(look).await, is_kept, "after {days} days");
    }
}

#[tokio::test]
async fn a_watch_of_a_job_that_only_a_list_of_the_person_named_goes_too() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    subscribe(&fixture, "u-1", at(1)).await;
    let list = claim_list(&fixture, at(2)).await;
    let jobs = ListResult::Listed(vec![found("j1", Some("c-1"), None)]);
    let recorded = fixture.store.record_lists(vec![listed(&list, jobs, at(3))]);
    assert_eq!(recorded.await.unwrap().watches, 0, "it is watched already");
    assert_eq!(erase(&fixture, &person("u-1"), at(4)).await.watches, 1);
    assert!(fixture.store.find_watch(None, id).await.unwrap().is_none());
}
