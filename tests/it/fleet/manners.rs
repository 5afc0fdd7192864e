//! The limits that relays on one store share: the budget, the token, permits, the time.

use std::{collections::HashMap, time::Duration};

use basiq_sandbox::{JobScript, ScriptStep, StepEnd};
use relay_domain::{SigningSecret, clock::Clock};
use relay_store::{
    Sealer,
    postgres::{LeaseClock, PgStore, RelayId},
};
use serde_json::Value;

use super::crew::Crew;
use crate::support::{TestDatabase, job};

const SECOND: Duration = Duration::from_secs(1);
const TOKEN: &str = "POST /token";
const LOOK: &str = "GET /jobs/{jobId}";

fn succeeding(takes: Duration) -> JobScript {
    JobScript::new(vec![ScriptStep::new(
        "verify-credentials",
        takes,
        StepEnd::Succeeds,
    )])
}

#[tokio::test(flavor = "multi_thread")]
async fn three_relays_share_the_budget_and_the_token_and_look_at_each_job_one_at_a_time() {
    let mut crew = Crew::gather(|settings| settings.basiq.requests_per_second = 20).await;
    let jobs: Vec<_> = (0..60)
        .map(|n| crew.sandbox.seed_job(succeeding((2 + n % 5) * SECOND)))
        .collect();
    for _ in 0..3 {
        crew.join().await;
    }
    for (n, job) in jobs.iter().enumerate() {
        crew.watch(n % 3, job).await;
    }
    crew.until(Duration::from_mins(1), |crew| crew.told() >= 60)
        .await;
    let calls = crew.sandbox.calls();
    let busiest = calls.busiest_second(None);
    assert!(busiest <= 20, "{busiest} calls in a second");
    assert!(busiest >= 12, "the budget is used: {busiest}");
    assert_eq!(calls.count(TOKEN), 1, "one relay fetches it for all");
    let mut ended: HashMap<&str, _> = HashMap::new();
    for call in calls.recent().filter(|call| call.endpoint == LOOK) {
        if let Some(before) = ended.insert(&call.path, call.ended) {
            assert!(call.at >= before, "two look at {} at once", call.path);
        }
    }
    assert_eq!(crew.told(), 60, "each is told once");
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_one_relay_is_asked_for_holds_for_the_others() {
    let mut crew = Crew::gather(|settings| settings.basiq.requests_per_second = 50).await;
    for _ in 0..2 {
        crew.join().await;
    }
    let jobs: Vec<_> = (0..20)
        .map(|_| crew.sandbox.seed_job(succeeding(4 * SECOND)))
        .collect();
    for (n, job) in jobs.iter().enumerate() {
        crew.watch(n % 2, job).await;
    }
    crew.until(5 * SECOND, |crew| crew.sandbox.calls().count(LOOK) >= 20)
        .await;
    crew.sandbox.set_faults(vec!["429=5".parse().unwrap()]);
    let is_refused = |crew: &Crew| {
        let calls = crew.sandbox.calls();
        let refused = calls.recent().find(|call| call.status == 429);
        refused.map(|call| call.at)
    };
    crew.until(10 * SECOND, |crew| is_refused(crew).is_some())
        .await;
    crew.sandbox.set_faults(Vec::new());
    let refused_at = is_refused(&crew).unwrap();
    tokio::time::sleep(4 * SECOND).await;
    let calls = crew.sandbox.calls();
    let late = calls.recent().filter(|call| {
        let since = call.at.duration_since(refused_at);
        since.as_millis() > 700
    });
    // The other relay learns of the pause with its next reservation, within a quarter of a second.
    assert_eq!(late.count(), 0, "nobody calls during the pause");
    crew.until(Duration::from_mins(1), |crew| crew.told() >= 20)
        .await;
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_clock_is_an_hour_wrong_does_no_harm() {
    let hour: i64 = 3_600_000;
    let mut crew = Crew::gather(|settings| settings.basiq.requests_per_second = 50).await;
    crew.join_with(Clock::system_wrong_by(hour)).await;
    crew.join_with(Clock::system()).await;
    crew.join_with(Clock::system_wrong_by(-hour)).await;
    let jobs: Vec<_> = (0..30)
        .map(|_| crew.sandbox.seed_job(succeeding(3 * SECOND)))
        .collect();
    for (n, job) in jobs.iter().enumerate() {
        crew.watch(n % 3, job).await;
    }
    crew.until(40 * SECOND, |crew| crew.told() >= 30).await;
    let calls = crew.sandbox.calls();
    let looks = calls.count(LOOK);
    assert!(
        looks <= 30 * 8,
        "no job is looked at more often for it: {looks}"
    );
    let now = Clock::system().now();
    for received in crew.receiver.received() {
        let told: jiff::Timestamp = received.body["timestamp"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let off = told.duration_since(now).abs();
        assert!(off.as_secs() < 120, "an event of {told}");
    }
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_died_is_taken_over_and_not_counted_any_more() {
    let mut crew = Crew::gather(|settings| {
        settings.basiq.timeout = SECOND;
        settings.delivery.timeout = SECOND;
    })
    .await;
    crew.join().await;
    crew.join().await;
    // These looks never end, so the relay that dies holds leases.
    crew.sandbox.set_faults(vec!["hang".parse().unwrap()]);
    let done = job(
        "j-1",
        Clock::system().now(),
        &[("create-report", "success", Value::Null)],
    );
    crew.sandbox.seed_document("j-1", done);
    crew.watch(0, "j-1").await;
    crew.until(5 * SECOND, |crew| {
        crew.sandbox.calls().count(LOOK) + crew.sandbox.calls().count(TOKEN) >= 1
    })
    .await;
    crew.kill(0).await;
    crew.kill(0).await;
    crew.sandbox.set_faults(Vec::new());
    crew.join().await;
    // A lease is two time-outs, plus 10 s of waiting, 5 s for the bank and 15 s of margin.
    crew.until(Duration::from_secs(45), |crew| crew.told() >= 1)
        .await;
    crew.stop().await;
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_not_counted_after_five_seconds() {
    let database = TestDatabase::postgres().await;
    let open = async || {
        let store = PgStore::open(database.options(), Sealer::default(), LeaseClock::Database);
        store.await.unwrap()
    };
    let (store, other) = (open().await, open().await);
    let (first, second) = (RelayId::generate(), RelayId::generate());
    assert_eq!(store.beat(&first).await.unwrap().alive, 1);
    let by_other = other.beat(&second).await.unwrap();
    let seen = store.beat(&first).await.unwrap();
    assert_eq!((seen.alive, by_other.alive), (2, 2));
    assert_eq!(seen.first, by_other.first, "both know who began first");
    assert!(
        seen.first
            .is_some_and(|began| [&first, &second].contains(&&began))
    );
    other.leave(&second).await.unwrap();
    assert_eq!(store.fleet_size().await.unwrap().alive, 1);
    other.beat(&second).await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(SECOND).await;
        store.beat(&first).await.unwrap();
    }
    assert_eq!(
        store.fleet_size().await.unwrap().alive,
        1,
        "the other is presumed dead"
    );
}

#[tokio::test]
async fn turns_are_given_once_evenly_spaced_and_not_far_ahead() {
    let database = TestDatabase::postgres().await;
    let open = async || {
        let store = PgStore::open(database.options(), Sealer::default(), LeaseClock::Database);
        store.await.unwrap()
    };
    let (store, other) = (open().await, open().await);
    let (period, horizon) = (Duration::from_millis(10), Duration::from_millis(200));
    let (mine, theirs) = tokio::join!(
        store.reserve_calls(15, period, horizon),
        other.reserve_calls(15, period, horizon)
    );
    let (mine, theirs) = (mine.unwrap().at, theirs.unwrap().at);
    assert!(mine.len() + theirs.len() <= 22, "no more than lie ahead");
    assert!(mine.len().max(theirs.len()) == 15, "{mine:?} {theirs:?}");
    let mut all: Vec<_> = mine.into_iter().chain(theirs).collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        assert!(pair[1].duration_since(pair[0]).as_millis() >= 10, "{all:?}");
    }
    let pause = store.pause_upstream(429, 5 * SECOND).await.unwrap();
    let seen = other.reserve_calls(1, period, horizon).await.unwrap().pause;
    assert_eq!((seen.number, seen.status), (pause, 429));
}

#[tokio::test]
async fn one_relay_at_a_time_has_the_right_to_fetch_a_token() {
    let database = TestDatabase::postgres().await;
    let store = PgStore::open(database.options(), Sealer::default(), LeaseClock::Database);
    let store = store.await.unwrap();
    assert!(store.claim_token("k").await.unwrap());
    assert!(!store.claim_token("k").await.unwrap());
    assert!(store.claim_token("another key").await.unwrap());
    store.end_token_claim("k", None).await.unwrap();
    assert!(store.find_token("k").await.unwrap().is_none());
    assert!(store.claim_token("k").await.unwrap());
    let token = relay_store::postgres::StoredToken {
        sealed: SigningSecret::generate().expose().to_owned(),
        renew_at: Clock::system().now() + 60 * SECOND,
        expires_at: Clock::system().now() + 90 * SECOND,
    };
    store
        .end_token_claim("k", Some(token.clone()))
        .await
        .unwrap();
    let found = store.find_token("k").await.unwrap().unwrap();
    assert_eq!(
        (found.sealed, found.renew_at),
        (token.sealed.clone(), token.renew_at)
    );
    let old = relay_store::postgres::StoredToken {
        renew_at: Clock::system().now(),
        ..token
    };
    assert!(store.claim_token("k").await.unwrap());
    store.end_token_claim("k", Some(old)).await.unwrap();
    assert!(
        store.find_token("k").await.unwrap().is_none(),
        "it is to be renewed"
    );
}
