//! Hosts that keep failing: paused, probed by one attempt at a time, and forgotten when they answer.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::{Attempt, AttemptError, Status};
use relay_store::{
    AfterAttempt, AttemptResult, Claim, DueDelivery, PausedHost, Redelivery, StoreTroubles,
    WaitLimit,
};

use crate::store::support::{Fixture, at, attempt, change, claim, job_of, look, no_limits};
use crate::support::operator;

const BAD: &str = "https://bad.example/hook";
const GOOD: &str = "https://good.example/hook";

/// Creates settled watches of one callback, each with a pending delivery.
async fn pending(fixture: &Fixture, callback: &str, count: usize) {
    for n in 0..count {
        let job = format!("{}-{n}", callback.len());
        fixture.watch_at(&job, callback, at(0)).await;
        fixture.tell(Status::Success, at(0)).await;
    }
}

fn failed(due: &DueDelivery, now: Timestamp) -> AttemptResult {
    attempt(due, AfterAttempt::RetryAt(now), now)
}

/// Records ten failed attempts at this second.
async fn pause(fixture: &Fixture, now: i64) {
    let due = fixture.claim_deliveries(at(now)).await;
    let bad = due.iter().filter(|due| due.callback_url.as_str() == BAD);
    let results = bad.map(|due| failed(due, at(now))).collect::<Vec<_>>();
    assert!(results.len() >= 10, "{}", results.len());
    fixture.store.record_attempts(results).await.unwrap();
}

async fn next_due(fixture: &Fixture) -> Timestamp {
    let due = fixture.store.next_delivery_due(&no_limits()).await;
    due.unwrap().unwrap()
}

async fn paused(fixture: &Fixture, now: i64) -> u64 {
    fixture.store.census(at(now)).await.unwrap().paused_hosts
}

#[tokio::test]
async fn a_host_that_keeps_failing_is_paused_longer_each_time_and_probed_by_one_attempt() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    pause(&fixture, 0).await;
    assert_eq!(paused(&fixture, 1).await, 1);
    pending(&fixture, GOOD, 2).await;
    let due = fixture.claim_deliveries(at(4)).await;
    assert_eq!(due.len(), 2, "the other host goes on");
    for due in &due {
        fixture.attempted(due, AfterAttempt::Delivered, at(4)).await;
    }
    let mut now = 0;
    for seconds in [5, 10, 20, 40, 80, 80] {
        // The attempt takes 40 ms, and the pause begins at its end.
        let due = next_due(&fixture).await;
        let waited = (due.as_millisecond() - at(now).as_millisecond()) / 1000;
        assert_eq!(waited, seconds);
        assert!(
            fixture
                .claim_deliveries(at(now + seconds - 1))
                .await
                .is_empty()
        );
        now += seconds + 1;
        let probe = fixture.claim_delivery(at(now)).await;
        assert!(
            fixture.claim_deliveries(at(now + 1)).await.is_empty(),
            "one probe"
        );
        assert!(
            next_due(&fixture).await > at(now + 1),
            "nobody spins meanwhile"
        );
        let results = vec![failed(&probe, at(now))];
        fixture.store.record_attempts(results).await.unwrap();
    }
    now += 81;
    let probe = fixture.claim_delivery(at(now)).await;
    fixture
        .attempted(&probe, AfterAttempt::Delivered, at(now))
        .await;
    assert_eq!(fixture.claim_deliveries(at(now)).await.len(), 11);
    assert_eq!(paused(&fixture, now).await, 0);
}

#[tokio::test]
async fn a_probe_that_never_comes_back_makes_room_for_another() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    pause(&fixture, 0).await;
    fixture.claim_delivery(at(10)).await;
    assert!(fixture.claim_deliveries(at(69)).await.is_empty());
    fixture.claim_delivery(at(71)).await;
    // On a store that only one relay uses, a start keeps the pause but frees the probe.
    if fixture.store.free_leases().await.unwrap() > 0 {
        fixture.claim_delivery(at(72)).await;
    } else {
        assert!(fixture.claim_deliveries(at(72)).await.is_empty());
    }
}

#[tokio::test]
async fn what_expires_is_tried_at_a_paused_host_too() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    pause(&fixture, 0).await;
    fixture.watch_at("asks", BAD, at(1)).await;
    let job = fixture.claim_one(at(1)).await;
    let mut asks = look(&job, at(1));
    let mut told = change(&job.watches[0], Status::ActionRequired, at(1));
    told.event = told.event.map(|event| relay_domain::Event {
        deadline: Some(at(121)),
        ..event
    });
    asks.changes = vec![told];
    assert!(fixture.record(asks).await);
    assert_eq!(next_due(&fixture).await, at(1));
    let due = fixture.claim_delivery(at(1)).await;
    assert_eq!(job_of(&due), "asks");
    let results = vec![attempt(&due, AfterAttempt::RetryAt(at(2)), at(1))];
    fixture.store.record_attempts(results).await.unwrap();
    assert_eq!(job_of(&fixture.claim_delivery(at(2)).await), "asks");
}

#[tokio::test]
async fn refusals_and_errors_of_the_relay_pause_nobody_and_an_answer_begins_the_count_anew() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    let attempts = [
        (Some(404), AttemptError::Refused),
        (Some(302), AttemptError::Redirected),
        (None, AttemptError::Internal),
        (None, AttemptError::AddressRefused),
    ];
    for (status, error) in attempts {
        let due = fixture.claim_deliveries(at(0)).await;
        let results = due.iter().map(|due| {
            let result = failed(due, at(0));
            let attempt = result.attempt.map(|attempt| Attempt {
                status,
                error: Some(error),
                ..attempt
            });
            AttemptResult { attempt, ..result }
        });
        let results = results.collect();
        fixture.store.record_attempts(results).await.unwrap();
        assert_eq!(paused(&fixture, 0).await, 0, "{error:?}");
    }
    // Attempts that are not recorded are due again at once.
    let at_once = Claim {
        lease: Duration::ZERO,
        ..claim(at(0))
    };
    for _ in 0..3 {
        let limits = no_limits();
        let due = fixture.store.claim_due_deliveries(at_once, &limits);
        let due = due.await.unwrap();
        let mut results: Vec<_> = due.iter().map(|due| failed(due, at(0))).collect();
        results.truncate(9);
        let last = due.last().unwrap();
        results.push(attempt(last, AfterAttempt::Gone, at(0)));
        if let Some(attempt) = results.last_mut().and_then(|last| last.attempt.as_mut()) {
            attempt.status = Some(410);
        }
        fixture.store.record_attempts(results).await.unwrap();
        assert_eq!(paused(&fixture, 0).await, 0);
    }
}

/// Gives up deliveries that wait for a paused host, are due by `now` and were first due by `since`. Returns their
/// number.
async fn give_up(fixture: &Fixture, now: i64, since: i64) -> usize {
    let waiting = WaitLimit {
        now: at(now),
        since: at(since),
        limit: 100,
    };
    let given_up = fixture.store.give_up_waiting(waiting).await.unwrap();
    assert!(
        given_up.iter().all(|one| one.host == "bad.example"),
        "{given_up:?}"
    );
    given_up.len()
}

#[tokio::test]
async fn what_is_sent_again_by_hand_lifts_the_pause_of_its_host_for_one_attempt() {
    for way in ["watch", "delivery", "all dead"] {
        let fixture = Fixture::new().await;
        let known = fixture.watch_at("known", BAD, at(0)).await;
        fixture.tell(Status::Success, at(0)).await;
        let dead = fixture.claim_delivery(at(0)).await;
        fixture.attempted(&dead, AfterAttempt::Dead, at(0)).await;
        pending(&fixture, BAD, 12).await;
        pause(&fixture, 1).await;
        assert!(fixture.claim_deliveries(at(2)).await.is_empty(), "{way}");
        let queued = match way {
            "watch" => {
                fixture
                    .store
                    .redeliver_watch(operator(), known, at(2))
                    .await
            }
            "delivery" => {
                fixture
                    .store
                    .redeliver_one(operator(), dead.id, at(2))
                    .await
            }
            _ => {
                let queued = fixture.store.redeliver_dead(operator(), at(0), at(2)).await;
                assert_eq!(queued.unwrap(), 1);
                Ok(Redelivery::Queued(dead.event_id))
            }
        };
        assert_eq!(queued.unwrap(), Redelivery::Queued(dead.event_id), "{way}");
        assert!(next_due(&fixture).await <= at(2), "{way}");
        let probe = fixture.claim_delivery(at(2)).await;
        let more = fixture.claim_deliveries(at(2)).await;
        assert!(more.is_empty(), "{way}: one attempt");
        let results = vec![failed(&probe, at(2))];
        fixture.store.record_attempts(results).await.unwrap();
        assert_eq!(paused(&fixture, 3).await, 1, "{way}: it is paused again");
        assert!(fixture.claim_deliveries(at(3)).await.is_empty(), "{way}");
    }
}

#[tokio::test]
async fn what_is_sent_again_by_hand_lifts_the_pause_of_no_other_host() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    pause(&fixture, 0).await;
    let good = fixture.watch_at("good", GOOD, at(1)).await;
    fixture.tell(Status::Success, at(1)).await;
    let due = fixture.claim_delivery(at(1)).await;
    fixture
        .attempted(&due, AfterAttempt::Delivered, at(1))
        .await;
    fixture
        .store
        .redeliver_watch(operator(), good, at(2))
        .await
        .unwrap();
    assert_eq!(fixture.claim_delivery(at(2)).await.id, due.id);
    assert_eq!(paused(&fixture, 2).await, 1);
}

#[tokio::test]
async fn what_waits_for_a_paused_host_is_given_up_once_it_has_waited_for_too_long() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    pending(&fixture, GOOD, 3).await;
    assert_eq!(give_up(&fixture, 100, 100).await, 0, "no host is paused");
    pause(&fixture, 0).await;
    let late = fixture.watch_at("late", BAD, at(50)).await;
    fixture.tell(Status::Success, at(50)).await;
    assert_eq!(give_up(&fixture, 60, -1).await, 0, "none is so old");
    assert_eq!(give_up(&fixture, 60, 0).await, 12);
    let given_up = fixture.story(late).await;
    assert_eq!(given_up.events[0].delivery.state.as_str(), "pending");
    assert_eq!(give_up(&fixture, 60, 0).await, 0, "each once");
    let dead = fixture
        .store
        .redeliver_dead(operator(), at(60), at(70))
        .await;
    assert_eq!(
        dead.unwrap(),
        12,
        "they can be sent again, and begin a new round"
    );
    assert_eq!(
        give_up(&fixture, 71, 69).await,
        1,
        "but the one that came late"
    );
    // A delivery in flight is left to its attempt.
    let probe = fixture.claim_deliveries(at(70)).await;
    let probe = probe
        .iter()
        .find(|due| due.callback_url.as_str() == BAD)
        .unwrap();
    assert_eq!(give_up(&fixture, 71, 71).await, 11);
    fixture
        .attempted(probe, AfterAttempt::Delivered, at(71))
        .await;
    assert_eq!(give_up(&fixture, 200, 200).await, 0, "it answers again");
}

#[tokio::test]
async fn what_expires_at_a_paused_host_is_left_to_its_deadline() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    pause(&fixture, 0).await;
    fixture.watch_at("asks", BAD, at(1)).await;
    let job = fixture.claim_one(at(1)).await;
    let mut asks = look(&job, at(1));
    let mut told = change(&job.watches[0], Status::ActionRequired, at(1));
    told.event = told.event.map(|event| relay_domain::Event {
        deadline: Some(at(500)),
        ..event
    });
    asks.changes = vec![told];
    assert!(fixture.record(asks).await);
    assert_eq!(give_up(&fixture, 100, 100).await, 12);
    assert_eq!(job_of(&fixture.claim_delivery(at(100)).await), "asks");
}

#[tokio::test]
async fn attempts_that_the_relay_could_not_make_pause_nobody() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    for now in 0..3 {
        let due = fixture.claim_deliveries(at(now)).await;
        assert_eq!(due.len(), 12);
        let results = due.iter().map(|due| AttemptResult {
            attempt: None,
            ..failed(due, at(now + 1))
        });
        let results = results.collect();
        fixture.store.record_attempts(results).await.unwrap();
        assert_eq!(paused(&fixture, now).await, 0);
    }
    let due = fixture.claim_deliveries(at(4)).await;
    assert!(
        due.iter()
            .all(|due| (due.attempts, due.round_attempts) == (0, 0))
    );
}

#[tokio::test]
async fn what_operators_are_alerted_to_is_dead_or_waits_for_a_host_that_stays_paused() {
    let fixture = Fixture::new().await;
    let troubles = async |before: i64| fixture.store.troubles(at(before), 9).await.unwrap();
    assert_eq!(troubles(900).await, StoreTroubles::default());
    pending(&fixture, BAD, 12).await;
    pause(&fixture, 3).await;
    assert_eq!(troubles(2).await, StoreTroubles::default(), "not yet");
    // The pause begins at the end of an attempt, so a little later.
    let before = troubles(4).await;
    let [PausedHost { host, since }] = &before.paused_hosts[..] else {
        panic!("{before:?}");
    };
    assert_eq!(
        (host.as_str(), since.as_second()),
        ("bad.example", at(3).as_second())
    );

    // A probe that fails leaves the time of the first pause as it is.
    let probe = fixture.claim_delivery(at(20)).await;
    let results = vec![failed(&probe, at(20))];
    fixture.store.record_attempts(results).await.unwrap();
    assert_eq!(troubles(900).await, before);
    let none = fixture.store.troubles(at(900), 0).await.unwrap();
    assert_eq!(none, StoreTroubles::default());

    // One is dead. The host answers the next one, so it is well.
    let probe = fixture.claim_delivery(at(60)).await;
    fixture.attempted(&probe, AfterAttempt::Dead, at(60)).await;
    let after = troubles(900).await;
    assert_eq!(after.dead_deliveries, 1);
    let probe = fixture.claim_delivery(at(300)).await;
    fixture
        .attempted(&probe, AfterAttempt::Delivered, at(300))
        .await;
    let after = troubles(900).await;
    assert_eq!((after.dead_deliveries, after.paused_hosts), (1, vec![]));
}

#[tokio::test]
async fn a_paused_host_for_which_nothing_waits_is_nobodys_trouble() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 10).await;
    let due = fixture.claim_deliveries(at(0)).await;
    let results = due
        .iter()
        .map(|due| attempt(due, AfterAttempt::Dead, at(0)));
    fixture
        .store
        .record_attempts(results.collect())
        .await
        .unwrap();
    let troubles = fixture.store.troubles(at(900), 9).await.unwrap();
    assert_eq!(troubles.dead_deliveries, 10);
    assert_eq!(troubles.paused_hosts, vec![]);
    assert_eq!(fixture.store.list_failing_hosts(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_relay_that_pauses_no_host_ends_a_pause_from_before() {
    let fixture = Fixture::new().await;
    pending(&fixture, BAD, 12).await;
    let forgiving = |due: &DueDelivery, now| AttemptResult {
        counts_against_host: false,
        ..failed(due, at(now))
    };
    for now in 0..3 {
        let due = fixture.claim_deliveries(at(now)).await;
        assert_eq!(due.len(), 12, "no pause at {now}");
        let results = due.iter().map(|due| forgiving(due, now)).collect();
        fixture.store.record_attempts(results).await.unwrap();
    }
    pause(&fixture, 3).await;
    assert_eq!(paused(&fixture, 4).await, 1);
    let probe = fixture.claim_delivery(at(9)).await;
    let results = vec![forgiving(&probe, 9)];
    fixture.store.record_attempts(results).await.unwrap();
    assert_eq!(paused(&fixture, 10).await, 0);
    assert_eq!(fixture.claim_deliveries(at(10)).await.len(), 12);
}
