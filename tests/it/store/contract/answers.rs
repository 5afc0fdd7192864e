//! Answers to challenges: one at a time, none stored, and a look at the job follows.

use jiff::Timestamp;
use relay_domain::{
    Challenge, ChallengeMemory, JobContext, JobMemory, OpenChallenge, Status, WatchId,
};
use relay_store::{AnswerClaim, AnswerEnd};

use crate::store::support::{Fixture, add_client, at, change, look};

/// Returns the memory of a job that has asked `count` times and waits for an answer.
fn asking(count: u32, user: Option<&str>) -> JobMemory {
    let challenge = Challenge {
        method: "token".to_owned(),
        description: String::new(),
        inputs: vec!["Code".to_owned()],
        expiry_ms: None,
        respond_to: None,
    };
    JobMemory {
        context: JobContext {
            user_id: user.map(str::to_owned),
            ..JobContext::default()
        },
        challenges: ChallengeMemory {
            count,
            open: Some(OpenChallenge {
                challenge,
                first_seen_at: at(0),
            }),
        },
        ..JobMemory::default()
    }
}

/// Records a look that found a challenge, a minute before the next look.
async fn asked(fixture: &Fixture, memory: JobMemory) -> WatchId {
    let id = fixture.watch("j1", at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    let mut seen = look(&job, at(0));
    *seen.memory = memory;
    assert!(fixture.record(seen).await);
    id
}

async fn claim(fixture: &Fixture, id: WatchId, now: i64) -> AnswerClaim {
    let (now, until) = (at(now), at(now + 10));
    let claimed = fixture.store.claim_answer(fixture.client, id, now, until);
    claimed.await.unwrap()
}

fn claimed() -> AnswerClaim {
    AnswerClaim::Claimed {
        job_id: "j1".parse().unwrap(),
        user_id: "u-7".to_owned(),
    }
}

async fn end(fixture: &Fixture, held_until: Option<Timestamp>, look_at: Option<Timestamp>) {
    let end = AnswerEnd {
        held_until,
        look_at,
    };
    let job_id = "j1".parse().unwrap();
    fixture.store.end_answer(&job_id, end).await.unwrap();
}

#[tokio::test]
async fn one_answer_at_a_time_and_a_lost_claim_ends_by_itself() {
    let fixture = Fixture::new().await;
    let id = asked(&fixture, asking(1, Some("u-7"))).await;
    let second = fixture.watch_at("j1", "https://app.example/2", at(1)).await;
    assert_eq!(claim(&fixture, id, 1).await, claimed());
    assert_eq!(claim(&fixture, id, 2).await, AnswerClaim::Answering);
    assert_eq!(claim(&fixture, second, 2).await, AnswerClaim::Answering);
    assert_eq!(claim(&fixture, second, 11).await, claimed());
    end(&fixture, None, None).await;
    assert_eq!(claim(&fixture, id, 11).await, claimed());
}

#[tokio::test]
async fn an_accepted_answer_holds_off_others_to_the_same_challenge_only() {
    let fixture = Fixture::new().await;
    let id = asked(&fixture, asking(1, Some("u-7"))).await;
    assert_eq!(claim(&fixture, id, 1).await, claimed());
    end(&fixture, Some(at(6)), Some(at(1))).await;
    assert_eq!(claim(&fixture, id, 5).await, AnswerClaim::Answering);
    let job = fixture.claim_one(at(2)).await;
    let mut seen = look(&job, at(2));
    *seen.memory = asking(2, Some("u-7"));
    assert!(fixture.record(seen).await);
    assert_eq!(claim(&fixture, id, 3).await, claimed());
}

#[tokio::test]
async fn what_asks_nothing_cannot_be_answered() {
    let fixture = Fixture::new().await;
    let id = fixture.watch("j1", at(0)).await;
    let nothing = AnswerClaim::NoOpenChallenge;
    assert_eq!(claim(&fixture, id, 0).await, nothing);
    let job = fixture.claim_one(at(0)).await;
    let mut seen = look(&job, at(0));
    *seen.memory = asking(1, None);
    assert!(fixture.record(seen).await);
    assert_eq!(claim(&fixture, id, 1).await, AnswerClaim::UserUnknown);
    let other = add_client(&*fixture.store, "second").await;
    let claimed = fixture.store.claim_answer(other, id, at(1), at(11));
    assert_eq!(claimed.await.unwrap(), AnswerClaim::NoSuchWatch);

    let job = fixture.claim_one(at(60)).await;
    let mut seen = look(&job, at(60));
    *seen.memory = asking(1, Some("u-7"));
    seen.changes = vec![change(&job.watches[0], Status::Failed, at(60))];
    assert!(fixture.record(seen).await);
    assert_eq!(claim(&fixture, id, 61).await, nothing);
    // No watch of this job is open. An answer that ends late does not make the job due.
    end(&fixture, None, Some(at(61))).await;
    assert_eq!(fixture.store.next_look_due().await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_makes_the_job_due_even_while_a_look_is_under_way() {
    let fixture = Fixture::new().await;
    asked(&fixture, asking(1, Some("u-7"))).await;
    assert!(fixture.claim(at(5)).await.is_empty());
    end(&fixture, None, Some(at(5))).await;
    let job = fixture.claim_one(at(5)).await;
    assert_eq!(job.due_at, at(5));
    // The answer ends while this look runs. The look may have seen the job before the answer, so another look
    // follows.
    end(&fixture, None, Some(at(6))).await;
    assert!(fixture.record(look(&job, at(6))).await);
    let again = fixture.claim_one(at(6)).await;
    assert!(fixture.record(look(&again, at(7))).await);
    assert!(fixture.claim(at(8)).await.is_empty());
}
