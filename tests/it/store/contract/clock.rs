//! The clock that due times follow is set back.

use relay_store::ClockStep;

use crate::store::support::{Fixture, at};

#[tokio::test]
async fn due_times_move_back_with_the_clock_and_no_lease_ends_early() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    assert_eq!(store.note_time(at(0)).await.unwrap(), None);
    assert_eq!(store.note_time(at(3600)).await.unwrap(), None);
    fixture.watch("held", at(3600)).await;
    fixture.claim_one(at(3600)).await;
    fixture.watch("waiting", at(3600)).await;

    let step = ClockStep {
        from: at(3600),
        to: at(0),
    };
    assert_eq!(store.note_time(at(0)).await.unwrap(), Some(step));
    fixture.watch("young", at(1)).await;
    assert_eq!(fixture.claim_one(at(1)).await.job_id.as_str(), "young");
    assert!(
        store.move_times(step).await.unwrap() >= 2,
        "held and waiting"
    );
    assert_eq!(fixture.claim_one(at(2)).await.job_id.as_str(), "waiting");
    assert_eq!(fixture.claim(at(59)).await.len(), 0);
    let again = fixture.claim(at(61)).await;
    let mut again: Vec<_> = again.iter().map(|job| job.job_id.as_str()).collect();
    again.sort_unstable();
    assert_eq!(again, ["held", "young"], "their leases were for a minute");
    for later in [3, 600, 601] {
        assert_eq!(store.note_time(at(later)).await.unwrap(), None, "{later}");
    }
}

#[tokio::test]
async fn a_difference_of_less_than_a_second_is_no_step() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let earlier = at(3600) - std::time::Duration::from_millis(999);
    for time in [at(3600), earlier, at(3600), at(7200)] {
        assert_eq!(store.note_time(time).await.unwrap(), None, "{time}");
    }
    let back = store.note_time(at(3600)).await.unwrap().unwrap();
    assert_eq!((back.from, back.to), (at(7200), at(3600)));
}
