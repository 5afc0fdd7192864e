//! Banks that are unavailable: one look serves all jobs that wait.

use jiff::Timestamp;
use relay_domain::{Bank, Phase};
use relay_store::{BankLook, DueBank, DueJob, Look, OutageChange};

use crate::store::support::{Fixture, at, claim, look};
use crate::support::actor;

fn bank(name: &str) -> Bank {
    Bank {
        institution_id: name.to_owned(),
        method: "web".to_owned(),
    }
}

/// Returns a look after which the job waits for its bank.
fn waits(job: &DueJob, name: &str, now: Timestamp) -> Look {
    let mut look = look(job, now);
    look.memory.phase = Phase::Outage {
        bank: bank(name),
        error_code: "service-unavailable".to_owned(),
    };
    look.outage = OutageChange::Began(bank(name), at(600));
    look.next_look_at = at(100_000);
    look
}

pub(super) async fn job_waits(fixture: &Fixture, job: &str, name: &str) {
    fixture.watch(job, at(0)).await;
    let job = fixture.claim_one(at(0)).await;
    assert!(!job.bank_is_back);
    assert!(fixture.record(waits(&job, name, at(0))).await);
}

async fn due_banks(fixture: &Fixture, now: Timestamp) -> Vec<DueBank> {
    fixture.store.claim_due_banks(claim(now)).await.unwrap()
}

async fn record(fixture: &Fixture, due: &DueBank, next_look_at: Option<Timestamp>) -> u64 {
    let look = BankLook {
        bank: due.bank.clone(),
        lease: due.lease,
        at: at(700),
        next_look_at,
    };
    fixture.store.record_bank_looks(vec![look]).await.unwrap()
}

#[tokio::test]
async fn a_bank_is_looked_at_once_for_all_its_jobs_and_makes_them_due_when_it_serves() {
    let fixture = Fixture::new().await;
    for (job, name) in [("j1", "AU1"), ("j2", "AU1"), ("j3", "AU2")] {
        job_waits(&fixture, job, name).await;
    }
    let is_out = async |name: &str| fixture.store.is_bank_out(&bank(name)).await.unwrap();
    assert!(is_out("AU1").await && is_out("AU2").await && !is_out("AU3").await);
    assert_eq!(fixture.store.next_bank_due().await.unwrap(), Some(at(600)));
    assert!(due_banks(&fixture, at(599)).await.is_empty());
    let due = due_banks(&fixture, at(600)).await;
    assert_eq!(due.len(), 2);
    assert!(due_banks(&fixture, at(600)).await.is_empty(), "leased");
    let first = due.iter().find(|due| due.bank == bank("AU1")).unwrap();
    let second = due.iter().find(|due| due.bank == bank("AU2")).unwrap();
    assert_eq!(record(&fixture, first, None).await, 2);
    assert_eq!(record(&fixture, first, None).await, 0, "once");
    assert_eq!(record(&fixture, second, Some(at(1200))).await, 0);
    assert!(!is_out("AU1").await && is_out("AU2").await);

    let jobs = fixture.claim(at(700)).await;
    let mut ids: Vec<_> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["j1", "j2"]);
    assert!(jobs.iter().all(|job| job.bank_is_back));
    assert_eq!(fixture.store.next_bank_due().await.unwrap(), Some(at(1200)));
}

#[tokio::test]
async fn a_look_under_way_when_the_bank_comes_back_does_not_make_its_job_wait_on() {
    let fixture = Fixture::new().await;
    job_waits(&fixture, "j1", "AU1").await;
    fixture
        .watch_at("j1", "https://app.example/other", at(600))
        .await;
    let job = fixture.claim_one(at(600)).await;
    let due = due_banks(&fixture, at(600)).await;
    assert_eq!(record(&fixture, &due[0], None).await, 1);
    let mut waits_on = waits(&job, "AU1", at(701));
    waits_on.outage = OutageChange::Unchanged;
    assert!(fixture.record(waits_on).await);
    let job = fixture.claim_one(at(701)).await;
    assert!(job.bank_is_back);
    // A failed look does not change this.
    let mut failed = look(&job, at(702));
    failed.outage = OutageChange::Unchanged;
    assert!(fixture.record(failed).await);
    assert!(fixture.claim_one(at(800)).await.bank_is_back);
}

#[tokio::test]
async fn a_lost_lease_of_a_bank_changes_nothing_and_a_bank_that_nobody_waits_for_is_forgotten() {
    let fixture = Fixture::new().await;
    job_waits(&fixture, "j1", "AU1").await;
    let late = due_banks(&fixture, at(600)).await.remove(0);
    let taken_over = due_banks(&fixture, at(661)).await.remove(0);
    assert_eq!(record(&fixture, &late, None).await, 0);
    assert!(fixture.store.is_bank_out(&late.bank).await.unwrap());
    assert_eq!(record(&fixture, &taken_over, Some(at(1200))).await, 0);
    fixture.store.free_leases().await.unwrap();

    let name = "first".parse().unwrap();
    let revoked = fixture.store.revoke_client(&name, actor(), at(800));
    assert_eq!(revoked.await.unwrap(), Some(1));
    assert!(due_banks(&fixture, at(1200)).await.is_empty());
    assert_eq!(fixture.store.next_bank_due().await.unwrap(), None);
}
