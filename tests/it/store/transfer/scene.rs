//! A SQLite store with something of every kind in it, in the middle of work.

use std::time::Duration;

use relay_domain::{
    ActivityRow, ActivityScope, ActivityTally, Bank, BasiqAverages, Challenge, ChallengeMemory,
    ClientCertificate, EndDetection, JobContext, JobEnd, OpenChallenge, Phase, SecretHeaders,
    SigningSecret, Status, TimeFromStage, TraceContext, WatchId,
};
use relay_store::{
    AfterAttempt, AnswerClaim, CallbackAuthChange, ConnectionFailureChange, DueDelivery, DueJob,
    DurationSample, ErasureSubject, Hint, HintSubject, ListResult, Look, NewWatch, OutageChange,
    PartChange, SubscriptionResult, ToldAlert,
};

use crate::support::{actor, operator};
use crate::{
    store::contract::subscriptions::{claim_list, forwarded, found, listed, new_subscription},
    store::support::{Fixture, add_client, at, attempt, change, claim, look, new_watch},
    support::TestDatabase,
};

const BAD: &str = "https://bad.example/hook";
const WORSE: &str = "https://worse.example/hook";

/// A store, and its open watches.
pub(super) struct Filled {
    pub(super) fixture: Fixture,
    /// Its job was never looked at.
    pub(super) new: WatchId,
    /// A look at its job is in progress.
    pub(super) under_way: WatchId,
    /// It waits for its bank.
    pub(super) waits: WatchId,
}

/// Fills a store as an interrupted relay would leave it. Jobs, banks, deliveries and a probe are leased until about a
/// minute after the start.
pub(super) async fn filled() -> Filled {
    let fixture = Fixture::on(TestDatabase::sqlite()).await;
    clients(&fixture).await;
    subscription(&fixture).await;
    deliveries(&fixture).await;
    failing_hosts(&fixture).await;
    activity(&fixture).await;
    challenge(&fixture).await;
    let waits = outage(&fixture).await;
    let under_way = fixture.watch("under-way", at(7)).await;
    fixture.claim_one(at(7)).await;
    let new = fixture.watch("new", at(8)).await;
    Filled {
        fixture,
        new,
        under_way,
        waits,
    }
}

/// Adds counts of what the relay did.
async fn activity(fixture: &Fixture) {
    let mut tally = ActivityTally::default();
    tally.counts_of("app.example").succeeded = 3;
    let row = ActivityRow {
        scope: ActivityScope::Host,
        since: at(0),
        run: [7; 16],
        tally,
    };
    fixture.store.record_activity(vec![row]).await.unwrap();
}

/// Adds a subscription that found a job and whose list is being read, and a message of Basiq's that is dead.
async fn subscription(fixture: &Fixture) {
    let store = &fixture.store;
    let new = new_subscription(fixture, "u-listed", at(0));
    assert!(matches!(
        store.subscribe(new).await.unwrap(),
        SubscriptionResult::Created(_)
    ));
    let due = claim_list(fixture, at(0)).await;
    let jobs = ListResult::Listed(vec![found("found", None, None)]);
    let recorded = store.record_lists(vec![listed(&due, jobs, at(0))]).await;
    assert_eq!(recorded.unwrap().watches, 1);
    let watch = fixture.watches_of("found").await.remove(0).watch.id;
    assert!(store.cancel_watch(operator(), watch, at(0)).await.unwrap());
    store.take_hint(forwarded("m-1", at(0))).await.unwrap();
    let nobody = ErasureSubject::User("u-nobody".parse().unwrap());
    store.erase(&nobody, actor(), at(0)).await.unwrap();
    let message = fixture.claim_delivery(at(0)).await;
    fixture.attempted(&message, AfterAttempt::Dead, at(0)).await;
}

/// Adds a client whose secret was rotated, and a client that was revoked.
async fn clients(fixture: &Fixture) {
    let store = &fixture.store;
    add_client(&**store, "rotated").await;
    let (name, secret) = ("rotated".parse().unwrap(), SigningSecret::generate());
    assert!(
        store
            .rotate_secret(&name, &secret, at(86_400), actor(), at(0))
            .await
            .unwrap()
    );
    let change = CallbackAuthChange {
        certificate: PartChange::Replace(ClientCertificate::new(
            vec![b"own".to_vec()],
            b"key".to_vec(),
            at(900),
        )),
        headers: PartChange::Replace(SecretHeaders::parse("X-Key: word").unwrap()),
    };
    let changed = store.change_callback_auth(&name, &change, actor(), at(0));
    assert!(changed.await.unwrap());
    let revoked = add_client(&**store, "revoked").await;
    let new = NewWatch {
        trace: TraceContext::new(0xa1, 0xb2, 1),
        ..new_watch(revoked, "of-revoked", "https://app.example/hook", at(0))
    };
    store.register_watch(new).await.unwrap();
    let name = "revoked".parse().unwrap();
    assert_eq!(
        store.revoke_client(&name, actor(), at(0)).await.unwrap(),
        Some(1)
    );
    assert!(fixture.claim(at(0)).await.is_empty());
}

/// Registers a watch and records a look at its job. The next look is much later.
async fn looked_at(
    fixture: &Fixture,
    (job, callback): (&str, &str),
    seen: impl FnOnce(&DueJob, &mut Look),
) -> WatchId {
    let id = fixture.watch_at(job, callback, at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    let mut look = look(&job, at(0));
    look.next_look_at = at(1000);
    seen(&job, &mut look);
    assert!(fixture.record(look).await);
    id
}

/// Registers a watch, gives it an event of `status`, and claims the delivery.
async fn told(fixture: &Fixture, job: &str, status: Status) -> (WatchId, DueDelivery) {
    let callback = "https://app.example/hook";
    let id = looked_at(fixture, (job, callback), |job, look| {
        look.changes = vec![change(&job.watches[0], status, at(0))];
    });
    (id.await, fixture.claim_delivery(at(0)).await)
}

/// Creates a delivery in every state.
async fn deliveries(fixture: &Fixture) {
    let (_, due) = told(fixture, "delivered", Status::Success).await;
    fixture
        .attempted(&due, AfterAttempt::Delivered, at(0))
        .await;
    let (_, due) = told(fixture, "dead", Status::Failed).await;
    fixture.attempted(&due, AfterAttempt::Dead, at(0)).await;
    let (_, due) = told(fixture, "expired", Status::ActionRequired).await;
    fixture.attempted(&due, AfterAttempt::Expired, at(0)).await;
    let (_, due) = told(fixture, "gone", Status::Delayed).await;
    fixture.attempted(&due, AfterAttempt::Gone, at(0)).await;
    let (id, due) = told(fixture, "cancelled", Status::Delayed).await;
    let retry = AfterAttempt::RetryAt(at(900));
    fixture.attempted(&due, retry, at(0)).await;
    let cancelled = fixture
        .store
        .cancel_watch(fixture.requester(), id, at(1))
        .await;
    assert!(cancelled.unwrap());

    // This event was tried three times, and some databases cannot store the callback's response.
    let (_, mut due) = told(fixture, "pending", Status::Success).await;
    for _ in 0..2 {
        fixture
            .attempted(&due, AfterAttempt::RetryAt(at(0)), at(0))
            .await;
        due = fixture.claim_delivery(at(0)).await;
    }
    let mut result = attempt(&due, AfterAttempt::RetryAt(at(900)), at(0));
    let odd = result.attempt.as_mut().unwrap();
    odd.response = Some("out of \0 order, c\u{327}a".to_owned());
    fixture.store.record_attempts(vec![result]).await.unwrap();

    let callback = "https://app.example/hook";
    looked_at(fixture, ("superseded", callback), |job, look| {
        look.changes = vec![change(&job.watches[0], Status::Delayed, at(0))];
        look.next_look_at = at(0);
    })
    .await;
    let job = fixture.claim_one(at(0)).await;
    let mut settles = look(&job, at(0));
    settles.changes = vec![change(&job.watches[0], Status::Success, at(0))];
    assert!(fixture.record(settles).await);
    let due = fixture.claim_delivery(at(0)).await;
    fixture
        .attempted(&due, AfterAttempt::Delivered, at(0))
        .await;
}

/// Creates one host that is paused, one that is being probed, and one that an operator paused.
async fn failing_hosts(fixture: &Fixture) {
    for (job, callback) in [("bad", BAD), ("worse", WORSE)] {
        looked_at(fixture, (job, callback), |job, look| {
            look.changes = vec![change(&job.watches[0], Status::Success, at(0))];
        })
        .await;
        for n in 1..=10 {
            let due = fixture.claim_delivery(at(0)).await;
            let is_last = n == 10 && callback == WORSE;
            let again = if is_last { at(900) } else { at(0) };
            fixture
                .attempted(&due, AfterAttempt::RetryAt(again), at(0))
                .await;
        }
        assert!(fixture.claim_deliveries(at(0)).await.is_empty(), "paused");
    }
    let probe = fixture.claim_delivery(at(7)).await;
    assert_eq!(probe.callback_url.as_str(), BAD);
    let told = ToldAlert {
        kind: "host-paused".to_owned(),
        subject: "quiet.example".to_owned(),
        since: at(7),
    };
    fixture.store.remember_alert(&told).await.unwrap();
    let paused = fixture.store.pause_host(actor(), "quiet.example", at(7));
    assert!(paused.await.unwrap());
}

/// Creates a job with a challenge, an answer in flight, and data from hints and earlier jobs.
async fn challenge(fixture: &Fixture) {
    let id = looked_at(fixture, ("asks", "https://app.example/hook"), |_, look| {
        look.memory.context = JobContext {
            user_id: Some("u-1".to_owned()),
            connection_id: Some("c-1".to_owned()),
            ..JobContext::default()
        };
        look.memory.challenges = ChallengeMemory {
            count: 1,
            open: Some(OpenChallenge {
                challenge: Challenge {
                    method: "token".to_owned(),
                    description: "the code, \u{1f511}".to_owned(),
                    inputs: vec!["Code\0".to_owned()],
                    expiry_ms: Some(120_000),
                    respond_to: None,
                },
                first_seen_at: at(0),
            }),
        };
        look.sample = Some(DurationSample {
            institution_id: Some("AU1".to_owned()),
            connection_id: Some("c-1".to_owned()),
            job_type: "connection".to_owned(),
            end: Some(JobEnd {
                stages: vec![TimeFromStage {
                    title: "verify-credentials".to_owned(),
                    to_end: Duration::from_secs(10),
                }],
                detection: EndDetection::Hint {
                    after: Duration::from_secs(1),
                },
            }),
            averages: Some(BasiqAverages::default()),
        });
        look.connection = Some(ConnectionFailureChange {
            connection_id: "c-1".to_owned(),
            unavailable: true,
        });
    })
    .await;
    let answer = fixture
        .store
        .claim_answer(fixture.client, id, at(1), at(100));
    assert!(matches!(answer.await.unwrap(), AnswerClaim::Claimed { .. }));
    let hint = Hint {
        id: "message-1".to_owned(),
        subject: Some(HintSubject::User("u-1".to_owned())),
        at: at(2),
        interval: Duration::from_mins(5),
        fact: None,
        notices: Vec::new(),
        removed_user: None,
        forward: None,
    };
    fixture.store.take_hint(hint).await.unwrap();
    let job = fixture.claim_one(at(2)).await;
    let mut seen = look(&job, at(2));
    seen.next_look_at = at(1000);
    assert!(fixture.record(seen).await);
}

/// Creates a job that waits for its bank, while a look at the bank is in progress.
async fn outage(fixture: &Fixture) -> WatchId {
    let bank = Bank {
        institution_id: "AU2".to_owned(),
        method: "web".to_owned(),
    };
    let id = looked_at(fixture, ("waits", "https://app.example/hook"), |_, look| {
        look.memory.phase = Phase::Outage {
            bank: bank.clone(),
            error_code: "service-unavailable".to_owned(),
        };
        look.outage = OutageChange::Began(bank.clone(), at(3));
    })
    .await;
    let due = fixture.store.claim_due_banks(claim(at(3))).await.unwrap();
    assert_eq!(due.len(), 1);
    id
}
