//! A job begins to wait for a bank while another relay records that the bank serves again.

use std::time::Duration;

use relay_domain::{Bank, Phase};
use relay_store::{BankLook, DueJob, Look, OutageChange};
use sqlx::{ConnectOptions, Connection, Executor};

use crate::{
    store::support::{Fixture, at, claim, look},
    support::TestDatabase,
};

fn bank() -> Bank {
    Bank {
        institution_id: "AU1".to_owned(),
        method: "web".to_owned(),
    }
}

/// Returns a look after which the job waits for the bank.
fn waits(job: &DueJob) -> Look {
    let mut look = look(job, at(600));
    look.memory.phase = Phase::Outage {
        bank: bank(),
        error_code: "service-unavailable".to_owned(),
    };
    look.outage = OutageChange::Began(bank(), at(600));
    look.next_look_at = at(100_000);
    look
}

#[tokio::test]
async fn a_job_that_begins_to_wait_while_the_outage_ends_is_woken() {
    let fixture = Fixture::on(TestDatabase::postgres().await).await;
    fixture.watch("j1", at(0)).await;
    let first = fixture.claim_one(at(0)).await;
    assert!(fixture.record(waits(&first)).await);
    let due = fixture.store.claim_due_banks(claim(at(600))).await;
    let due = due.unwrap().remove(0);
    fixture.watch("j2", at(600)).await;
    let second = fixture.claim_one(at(600)).await;

    // holds up the transaction of the second job after it has found the outage
    let mut other = fixture.home.direct().connect().await.unwrap();
    let mut held = other.begin().await.unwrap();
    held.execute("SELECT 1 FROM jobs WHERE job_id = 'j2' FOR UPDATE")
        .await
        .unwrap();
    let ending = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let look = BankLook {
            bank: due.bank.clone(),
            lease: due.lease,
            at: at(700),
            next_look_at: None,
        };
        fixture.store.record_bank_looks(vec![look]).await.unwrap()
    };
    let releasing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        held.rollback().await.unwrap();
    };
    let (recorded, woken, ()) = tokio::join!(fixture.record(waits(&second)), ending, releasing);
    assert!(recorded);
    assert_eq!(woken, 2);
    let jobs = fixture.claim(at(700)).await;
    assert_eq!(jobs.iter().filter(|job| job.bank_is_back).count(), 2);
}
