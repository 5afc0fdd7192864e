//! The problems that operators were told of.

use jiff::Timestamp;
use relay_store::ToldAlert;

use crate::store::support::{Fixture, at};

fn told(kind: &str, subject: &str, since: Timestamp) -> ToldAlert {
    ToldAlert {
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        since,
    }
}

#[tokio::test]
async fn a_problem_is_remembered_until_operators_know_that_it_is_over() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    assert!(store.list_told_alerts().await.unwrap().is_empty());
    let dead = told("deliveries-dead", "", at(1));
    let paused = ["a.example", "b.example"].map(|host| told("host-paused", host, at(2)));
    for told in [&dead, &paused[0], &paused[1]] {
        store.remember_alert(told).await.unwrap();
    }
    let later = told("host-paused", "a.example", at(9));
    store.remember_alert(&later).await.unwrap();
    let listed = async || {
        let mut listed = store.list_told_alerts().await.unwrap();
        listed.sort_by(|one, other| (&one.kind, &one.subject).cmp(&(&other.kind, &other.subject)));
        listed
    };
    let all = [dead.clone(), later, paused[1].clone()];
    assert_eq!(listed().await, all);
    for _ in 0..2 {
        store.forget_alert(&dead).await.unwrap();
        store.forget_alert(&paused[0]).await.unwrap();
        assert_eq!(listed().await, all[2..]);
    }
}
