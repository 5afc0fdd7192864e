//! In any order of steps, an ended watch stays ended and the counts stay right.

use std::time::Duration;

use proptest::prelude::{ProptestConfig, Strategy, prop_oneof, proptest};
use relay_domain::{Requester, Status, WatchId, WatchState};
use relay_store::{AfterAttempt, Claim, Registration};

use crate::store::support::{Fixture, at, change, claim, look, new_watch};

#[derive(Debug, Clone, Copy)]
enum Step {
    Register(u8),
    Look(Status),
    LateLook,
    Attempt(AfterAttempt),
    Cancel(usize),
    Redeliver(usize),
    Purge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = (0..4_usize).prop_map(|n| Status::ALL[n]);
    let after = (0..5_usize).prop_map(|n| {
        [
            AfterAttempt::Delivered,
            AfterAttempt::RetryAt(at(0)),
            AfterAttempt::Dead,
            AfterAttempt::Expired,
            AfterAttempt::Gone,
        ][n]
    });
    let step = prop_oneof![
        3 => (0..4_u8).prop_map(Step::Register),
        3 => status.prop_map(Step::Look),
        1 => proptest::prelude::Just(Step::LateLook),
        3 => after.prop_map(Step::Attempt),
        1 => (0..9_usize).prop_map(Step::Cancel),
        1 => (0..9_usize).prop_map(Step::Redeliver),
        1 => proptest::prelude::Just(Step::Purge),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn take(fixture: &Fixture, step: Step, now: i64, watches: &mut Vec<WatchId>) {
    let (store, owner) = (&fixture.store, fixture.client);
    match step {
        Step::Register(n) => {
            let new = new_watch(owner, &format!("j{n}"), "https://app.example/hook", at(now));
            if let Registration::Created(watch) = store.register_watch(new).await.unwrap() {
                watches.push(watch.id);
            }
        }
        Step::Look(status) => {
            for job in fixture.claim(at(now)).await {
                let mut seen = look(&job, at(now));
                seen.changes = vec![change(&job.watches[0], status, at(now))];
                assert!(fixture.record(seen).await);
            }
        }
        Step::LateLook => {
            // This lease expires at once, and another claim takes the job.
            let at_once = Claim {
                lease: Duration::ZERO,
                ..claim(at(now))
            };
            let lost = store.claim_due_jobs(at_once).await.unwrap();
            store.claim_due_jobs(at_once).await.unwrap();
            for job in lost {
                assert!(!fixture.record(look(&job, at(now))).await);
            }
        }
        Step::Attempt(next) => {
            for delivery in fixture.claim_deliveries(at(now)).await {
                fixture.attempted(&delivery, next, at(now)).await;
            }
        }
        Step::Cancel(n) => {
            if let Some(id) = watches.get(n) {
                store
                    .cancel_watch(&Requester::Client(owner), *id, at(now))
                    .await
                    .unwrap();
            }
        }
        Step::Redeliver(n) => {
            if let Some(id) = watches.get(n) {
                store
                    .redeliver_watch(&Requester::Client(owner), *id, at(now))
                    .await
                    .unwrap();
            }
        }
        Step::Purge => {
            store.purge_ended(at(now - 900), 2).await.unwrap();
        }
    }
}

/// Checks the rules that hold after every step. `ended` contains the watches that have ended so far.
async fn check(fixture: &Fixture, watches: &[WatchId], ended: &mut Vec<WatchId>, now: i64) {
    let mut counts = vec![0_u64; WatchState::ALL.len()];
    for id in watches {
        let Some(story) = fixture.store.find_watch(None, *id).await.unwrap() else {
            assert!(ended.contains(id), "only what ended is deleted");
            continue;
        };
        let state = story.watch.state;
        assert!(!(state.is_open() && ended.contains(id)), "it opened again");
        assert_eq!(story.watch.settled_at.is_none(), state.is_open());
        assert_eq!(story.next_look_at.is_some(), state.is_open());
        if !state.is_open() && !ended.contains(id) {
            ended.push(*id);
        }
        let place = WatchState::ALL.iter().position(|known| *known == state);
        counts[place.unwrap()] += 1;
    }
    let census = fixture.store.census(at(now)).await.unwrap();
    let counted: Vec<_> = census.watches.iter().map(|(_, n)| *n).collect();
    assert_eq!(counted, counts);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_watch_that_ended_never_opens_again(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let (mut watches, mut ended) = (Vec::new(), Vec::new());
            for (now, step) in (0..).step_by(100).zip(steps) {
                take(&fixture, step, now, &mut watches).await;
                check(&fixture, &watches, &mut ended, now).await;
            }
        });
    }
}
