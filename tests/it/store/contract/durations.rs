//! The durations of jobs: learned, and limited in number.

use std::time::{Duration, Instant};

use relay_domain::{BasiqAverages, EndDetection, JobContext, JobEnd, TimeFromStage};
use relay_store::{DurationSample, DurationsFound};

use crate::store::support::{Fixture, at, look};

fn sample(bank: Option<&str>, connection: Option<&str>, seconds: u64) -> DurationSample {
    let stage = TimeFromStage {
        title: "verify-credentials".to_owned(),
        to_end: Duration::from_secs(seconds),
    };
    DurationSample {
        institution_id: bank.map(str::to_owned),
        connection_id: connection.map(str::to_owned),
        job_type: "connection".to_owned(),
        end: Some(JobEnd {
            stages: vec![stage],
            detection: EndDetection::Look {
                unannounced_for: Duration::from_secs(9),
            },
        }),
        averages: None,
    }
}

/// Records a look at the only job, with this sample.
async fn teach(fixture: &Fixture, sample: DurationSample, now: i64) {
    let job = fixture.claim_one(at(now)).await;
    let mut seen = look(&job, at(now));
    seen.sample = Some(sample);
    seen.next_look_at = at(now);
    assert!(fixture.record(seen).await);
}

async fn pace_of(
    fixture: &Fixture,
    bank: Option<&str>,
    connection: Option<&str>,
) -> DurationsFound {
    let context = JobContext {
        job_type: Some("connection".to_owned()),
        institution_id: bank.map(str::to_owned),
        connection_id: connection.map(str::to_owned),
        ..JobContext::default()
    };
    fixture.store.durations_of(&context).await.unwrap()
}

/// Waits until `is_so` accepts the known durations, and returns them. The store learns samples soon after the looks
/// that brought them.
async fn learned(
    fixture: &Fixture,
    bank: Option<&str>,
    is_so: impl Fn(&DurationsFound) -> bool,
) -> DurationsFound {
    let began = Instant::now();
    loop {
        let found = pace_of(fixture, bank, None).await;
        if is_so(&found) {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn knows(found: &DurationsFound) -> bool {
    found
        .known
        .observed
        .from_stage("verify-credentials")
        .is_some()
}

#[tokio::test]
async fn a_lesson_is_known_for_its_bank_and_for_banks_that_are_not_known() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    assert_eq!(
        pace_of(&fixture, Some("AU1"), None).await.known,
        DurationsFound::default().known
    );
    teach(&fixture, sample(Some("AU1"), Some("c1"), 10), 0).await;
    let own = learned(&fixture, Some("AU1"), knows).await;
    let by_connection = pace_of(&fixture, None, Some("c1")).await;
    assert_eq!(by_connection.institution_id.as_deref(), Some("AU1"));
    assert_eq!(by_connection.known, own.known);
    for (bank, connection) in [(Some("AU2"), None), (None, None), (None, Some("c2"))] {
        let other = pace_of(&fixture, bank, connection).await;
        assert_eq!(other.institution_id.as_deref(), bank);
        assert_eq!(other.known, own.known, "as all banks");
    }
    for _ in 0..50 {
        teach(&fixture, sample(Some("AU2"), None, 300), 0).await;
    }
    learned(&fixture, Some("AU2"), |found| found.known != own.known).await;
    assert_eq!(pace_of(&fixture, Some("AU1"), None).await.known, own.known);
}

#[tokio::test]
async fn announced_ends_count_for_their_bank_and_for_unknown_banks_only() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    for n in 0..40 {
        let mut announced = sample(Some("AU1"), Some("c1"), 10);
        announced.end.as_mut().unwrap().detection = EndDetection::Hint {
            after: Duration::from_secs(1),
        };
        teach(&fixture, announced, n).await;
    }
    let reliance = |found: &DurationsFound| found.known.observed.hint_reliance();
    let share = |found: &DurationsFound| {
        let stage = found.known.observed.from_stage("verify-credentials");
        stage.unwrap().announced_share()
    };
    let is_learned = |found: &DurationsFound| reliance(found) > 0.9;
    let own = learned(&fixture, Some("AU1"), is_learned).await;
    assert!(share(&own) > 0.9, "{own:?}");
    let unknown = pace_of(&fixture, None, Some("c2")).await;
    assert!(share(&unknown) > 0.9, "{unknown:?}");
    let other = pace_of(&fixture, Some("AU2"), None).await;
    assert!(share(&other) < 0.1, "{other:?}");
}

#[tokio::test]
async fn averages_are_kept_with_their_time_until_others_are_told() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    let averages = BasiqAverages {
        total: Some(31_000.0),
        ..BasiqAverages::default()
    };
    let asked = DurationSample {
        end: None,
        averages: Some(averages),
        ..sample(Some("AU1"), None, 0)
    };
    teach(&fixture, asked, 5).await;
    teach(&fixture, sample(Some("AU1"), None, 10), 9).await;
    let found = learned(&fixture, Some("AU1"), |found| {
        knows(found) && found.known.averages.is_some()
    });
    let found = found.await;
    assert_eq!(found.known.averages, Some(averages));
    assert_eq!(found.averages_at, Some(at(5)));
    let other = pace_of(&fixture, Some("AU2"), None).await;
    assert_eq!((other.known.averages, other.averages_at), (None, None));
}

#[tokio::test]
async fn the_kinds_that_are_kept_are_bounded_and_the_longest_unused_goes() {
    let fixture = Fixture::new().await;
    fixture.watch("j1", at(0)).await;
    for n in 0..2100 {
        let bank = format!("AU{n}");
        let mut of_bank = sample(Some(&bank), None, 10);
        if n > 0 {
            // Only the first sample teaches the durations that hold for all banks.
            of_bank.end = None;
            of_bank.averages = Some(BasiqAverages::default());
        }
        teach(&fixture, of_bank, n).await;
        // The store drops samples when too many wait, so wait after every fifty.
        if n % 50 == 49 {
            let now = |found: &DurationsFound| found.averages_at == Some(at(n));
            learned(&fixture, Some(&bank), now).await;
        }
    }
    let first = pace_of(&fixture, Some("AU50"), None).await;
    assert_eq!(first.averages_at, None, "forgotten");
}
