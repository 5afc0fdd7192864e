//! Watches as their clients read them.

use relay_domain::{DeliveryState, Phase, Requester, Status, TraceContext, WatchState};
use relay_store::{AfterAttempt, NewWatch, Redelivery, Registration, WatchQuery};

use crate::store::support::{Fixture, add_client, at, change, look, new_watch};
use crate::support::actor;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_registrations_at_once_make_one_watch() {
    let fixture = Fixture::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = fixture.store.clone();
        let new = new_watch(fixture.client, "j1", "https://app.example/hook", at(0));
        tasks.spawn(async move { store.register_watch(new).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    let created: Vec<_> = answers
        .iter()
        .filter_map(|answer| match answer {
            Registration::Created(watch) => Some(watch.id),
            Registration::Existing(_) | Registration::AtCap | Registration::Revoked => None,
        })
        .collect();
    assert_eq!(created.len(), 1);
    let existing = answers.iter().filter(
        |answer| matches!(answer, Registration::Existing(story) if story.watch.id == created[0]),
    );
    assert_eq!(existing.count(), 49);
}

#[tokio::test]
async fn a_trace_is_kept_with_its_watch_and_comes_with_every_claim() {
    let fixture = Fixture::new().await;
    let trace = TraceContext::new(0xa1, 0xb2, 1);
    let new = |job, trace| NewWatch {
        trace,
        ..new_watch(fixture.client, job, "https://app.example/hook", at(0))
    };
    let (told, untold) = (new("told", trace), new("untold", None));
    let (id, registered) = (told.id, vec![told, untold]);
    let registered = fixture.store.register_watches(registered).await.unwrap();
    assert!(matches!(&registered[0], Registration::Created(watch) if watch.trace == trace));
    let again = fixture.store.register_watch(new("told", None)).await;
    assert!(matches!(again.unwrap(), Registration::Existing(story) if story.watch.trace == trace));

    let claimed = fixture.claim(at(0)).await;
    assert_eq!(claimed.len(), 2);
    for job in claimed {
        let watch = &job.watches[0];
        assert_eq!(watch.trace, trace.filter(|_| watch.id == id));
        let mut look = look(&job, at(0));
        look.changes = vec![change(watch, Status::Success, at(0))];
        assert!(fixture.record(look).await);
    }
    // An unreadable trace context loses the trace, but not the event.
    let odd = "UPDATE watches SET traceparent = 'odd' WHERE traceparent IS NULL";
    fixture.home.execute(odd).await;
    let claimed = fixture.claim_deliveries(at(0)).await;
    assert_eq!(claimed.len(), 2);
    for due in claimed {
        assert_eq!(
            due.trace,
            trace.filter(|_| due.source.watch_id() == Some(id))
        );
    }
}

#[tokio::test]
async fn a_client_revoked_while_it_asks_gets_no_watch() {
    let fixture = Fixture::new().await;
    let client = add_client(&*fixture.store, "leaving").await;
    let name = "leaving".parse().unwrap();
    assert_eq!(
        fixture
            .store
            .revoke_client(&name, actor(), at(1))
            .await
            .unwrap(),
        Some(0)
    );
    let new = new_watch(client, "j1", "https://app.example/hook", at(2));
    let answer = fixture.store.register_watch(new).await.unwrap();
    assert!(matches!(answer, Registration::Revoked));
}

#[tokio::test]
async fn a_client_at_its_cap_gets_no_new_watch_but_finds_its_old_ones() {
    let fixture = Fixture::new().await;
    let register = |job: &'static str| {
        let mut new = new_watch(fixture.client, job, "https://app.example/hook", at(0));
        new.max_open = 2;
        fixture.store.register_watch(new)
    };
    assert!(matches!(
        register("j1").await.unwrap(),
        Registration::Created(_)
    ));
    assert!(matches!(
        register("j2").await.unwrap(),
        Registration::Created(_)
    ));
    assert!(matches!(register("j3").await.unwrap(), Registration::AtCap));
    assert!(matches!(
        register("j1").await.unwrap(),
        Registration::Existing(_)
    ));
    let other = add_client(&*fixture.store, "second").await;
    let new = new_watch(other, "j1", "https://app.example/hook", at(0));
    let answer = fixture.store.register_watch(new).await.unwrap();
    assert!(matches!(answer, Registration::Created(_)));
}

#[tokio::test]
async fn a_watch_is_read_back_as_it_was_written() {
    let fixture = Fixture::new().await;
    let mut new = new_watch(
        fixture.client,
        "j1",
        "https://app.example:8443/hook?a=1",
        at(0),
    );
    let options = &mut new.request.options;
    options.until = Some("retrieve-accounts".to_owned());
    // The store must not change any number, the order of keys, or any escape.
    let written =
        r#"{"z":1E400,"a":12345678901234567890123456789,"a":1.10,"t":"\u0041\u0000 é😀"}"#;
    options.metadata = serde_json::from_str(written).unwrap();
    options.operation = relay_domain::Operation::from_word("update");
    let Registration::Created(watch) = fixture.store.register_watch(new).await.unwrap() else {
        panic!("not new");
    };
    let story = fixture.story(watch.id).await;
    assert_eq!(story.watch, *watch);
    let kept = &story.watch.request.options.metadata;
    assert_eq!(kept.as_str(), written);
    assert_eq!(story.next_look_at, Some(at(0)));
    assert!(story.events.is_empty());
}

#[tokio::test]
async fn only_its_owner_finds_a_watch() {
    let fixture = Fixture::new().await;
    let other = add_client(&*fixture.store, "second").await;
    let id = fixture.watch("j1", at(0)).await;
    let find = |owner| fixture.store.find_watch(Some(owner), id);
    assert!(find(fixture.client).await.unwrap().is_some());
    assert!(find(other).await.unwrap().is_none());
    assert!(
        !fixture
            .store
            .cancel_watch(&Requester::Client(other), id, at(1))
            .await
            .unwrap()
    );
    let answer = fixture
        .store
        .redeliver_watch(&Requester::Client(other), id, at(1))
        .await;
    assert_eq!(answer.unwrap(), Redelivery::NotFound);
}

#[tokio::test]
async fn watches_are_listed_newest_first_in_pages() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(fixture.watch(&format!("j{n}"), at(n)).await);
    }
    ids.reverse();
    let mut query = WatchQuery {
        owner: Some(fixture.client),
        limit: 3,
        ..WatchQuery::default()
    };
    let list = async |query: &WatchQuery| -> Vec<_> {
        let details = fixture.store.list_watches(query).await.unwrap();
        details.iter().map(|story| story.watch.id).collect()
    };
    assert_eq!(list(&query).await, ids[..3]);
    query.before = Some(ids[2]);
    assert_eq!(list(&query).await, ids[3..]);
    query.job_id = Some("j0".parse().unwrap());
    assert_eq!(list(&query).await, ids[4..]);
    query.state = Some(WatchState::Settled);
    assert!(list(&query).await.is_empty());
}

#[tokio::test]
async fn a_cancelled_watch_posts_nothing_more_and_stays_cancelled() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Delayed, at(1)).await;
    for _ in 0..2 {
        let known = fixture
            .store
            .cancel_watch(fixture.requester(), id, at(2))
            .await;
        assert!(known.unwrap());
    }
    let story = fixture.story(id).await;
    assert_eq!(story.watch.state, WatchState::Cancelled);
    assert_eq!(story.watch.settled_at, Some(at(2)));
    assert_eq!(story.next_look_at, None);
    assert_eq!(story.events[0].delivery.state, DeliveryState::Cancelled);
    assert!(fixture.claim_deliveries(at(3)).await.is_empty());
    assert!(fixture.claim(at(999)).await.is_empty());
    let answer = fixture
        .store
        .redeliver_watch(fixture.requester(), id, at(3))
        .await;
    assert_eq!(answer.unwrap(), Redelivery::Cancelled);
}

#[tokio::test]
async fn cancelling_a_settled_watch_leaves_it_settled() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let known = fixture
        .store
        .cancel_watch(fixture.requester(), id, at(2))
        .await;
    assert!(known.unwrap());
    assert_eq!(fixture.story(id).await.watch.state, WatchState::Settled);
    assert!(fixture.claim_deliveries(at(3)).await.is_empty());
}

#[tokio::test]
async fn a_job_watched_again_starts_afresh_but_keeps_whose_it_is() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    let mut last = look(&job, at(0));
    last.memory.errors_in_a_row = 3;
    last.memory.missing_since = Some(at(0));
    last.memory.context.user_id = Some("u1".to_owned());
    last.memory.phase = Phase::RetryQueue {
        next_retry_at: at(7200),
        looks: 1,
    };
    last.changes = vec![crate::store::support::change(
        &job.watches[0],
        Status::Failed,
        at(0),
    )];
    assert!(fixture.record(last).await);
    assert!(fixture.claim(at(999)).await.is_empty(), "nobody watches it");
    fixture.watch("j1", at(1000)).await;
    let memory = fixture.claim_one(at(1000)).await.memory;
    assert_eq!(memory.phase, Phase::Running);
    assert_eq!((memory.errors_in_a_row, memory.missing_since), (0, None));
    assert_eq!(memory.context.user_id.as_deref(), Some("u1"));
}

#[tokio::test]
async fn a_watch_without_an_event_has_nothing_to_redeliver() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let answer = fixture
        .store
        .redeliver_watch(fixture.requester(), id, at(3))
        .await;
    assert_eq!(answer.unwrap(), Redelivery::NoEvent);
}

#[tokio::test]
async fn a_redelivery_begins_a_new_round_with_the_same_event() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let first = fixture.claim_delivery(at(1)).await;
    fixture.attempted(&first, AfterAttempt::Dead, at(1)).await;
    assert!(fixture.claim_deliveries(at(999)).await.is_empty());
    let answer = fixture
        .store
        .redeliver_watch(fixture.requester(), id, at(5))
        .await;
    assert_eq!(answer.unwrap(), Redelivery::Queued(first.event_id));
    let again = fixture.claim_delivery(at(5)).await;
    assert_eq!((again.id, again.event_id), (first.id, first.event_id));
    assert_eq!((again.attempts, again.round_attempts), (1, 0));
}

#[tokio::test]
async fn a_delivery_that_waits_is_tried_now_and_one_in_flight_gets_no_second_copy() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    fixture.tell(Status::Success, at(1)).await;
    let first = fixture.claim_delivery(at(1)).await;
    let redeliver = |now| fixture.store.redeliver_watch(fixture.requester(), id, now);
    redeliver(at(2)).await.unwrap();
    assert!(
        fixture.claim_deliveries(at(2)).await.is_empty(),
        "in flight"
    );
    let later = AfterAttempt::RetryAt(at(300));
    fixture.attempted(&first, later, at(3)).await;
    assert!(fixture.claim_deliveries(at(4)).await.is_empty());
    redeliver(at(5)).await.unwrap();
    let second = fixture.claim_delivery(at(5)).await;
    assert_eq!((second.attempts, second.round_attempts), (1, 1));
}

#[tokio::test]
async fn what_is_sent_again_during_an_attempt_is_tried_at_once_if_the_attempt_fails() {
    for end in [AfterAttempt::RetryAt(at(300)), AfterAttempt::Dead] {
        let fixture = Fixture::new().await;
        let id = fixture.watch("j1", at(0)).await;
        fixture.tell(Status::Success, at(1)).await;
        let first = fixture.claim_delivery(at(1)).await;
        let redelivered = fixture
            .store
            .redeliver_watch(fixture.requester(), id, at(2));
        assert!(matches!(redelivered.await.unwrap(), Redelivery::Queued(_)));
        fixture.attempted(&first, end, at(1)).await;
        let second = fixture.claim_delivery(at(3)).await;
        assert_eq!((second.id, second.attempts), (first.id, 1));
        fixture.attempted(&second, end, at(3)).await;
        assert!(fixture.claim_deliveries(at(299)).await.is_empty(), "once");
    }
}

#[tokio::test]
async fn a_watch_that_is_registered_twice_at_once_takes_the_last_place_once() {
    let fixture = Fixture::new().await;
    let register = || {
        let mut new = new_watch(fixture.client, "j1", "https://app.example/hook", at(0));
        new.max_open = 1;
        new
    };
    let registered = fixture.store.register_watches(vec![register(), register()]);
    let registered = registered.await.unwrap();
    assert!(matches!(
        registered.as_slice(),
        [Registration::Created(_), Registration::Existing(_)]
    ));
}
