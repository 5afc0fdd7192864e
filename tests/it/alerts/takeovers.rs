//! A relay that starts, or takes over from another one, goes on with the alerts that operators were told.

use std::time::Duration;

use basiq_relay::app::Relay;
use relay_domain::clock::Clock;
use serde_json::{Value, json};

use super::{DEAD_AND_OVER, Operators, SETTLED, done};
use crate::{
    fleet::crew::Crew,
    support::{TestDatabase, operator},
};

/// The time after which another relay has taken over from one that died: five seconds, and those of a reading.
const TAKEN_OVER: Duration = Duration::from_millis(6500);

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_of_a_fleet_tells_what_all_see_and_another_goes_on_when_it_dies() {
    let operators = Operators::start().await;
    let mut crew = Crew::gather(|settings| {
        settings.delivery.retry_schedule = vec![Duration::from_millis(20)];
        operators.told_by(settings);
    })
    .await;
    for _ in 0..3 {
        crew.join().await;
    }
    crew.receiver.answer(2, 500);
    crew.watch(1, &crew.sandbox.seed_job(done())).await;
    // a second relay may take the time of some readings longer
    assert_eq!(operators.told(1).await, ["deliveries-dead firing"]);
    tokio::time::sleep(SETTLED).await;
    assert_eq!(operators.briefly().len(), 1, "three relays see it");
    crew.kill(0).await;
    // the next relay knows what the first told, and takes over when that one counts as dead
    tokio::time::sleep(TAKEN_OVER).await;
    assert_eq!(operators.briefly().len(), 1, "it is not told again");
    let call = crew
        .http
        .post(format!("{}/deliveries/redeliver", crew.relays[0].base));
    let call = call.bearer_auth(crew.key.expose());
    let since: Value = json!({ "since": "2020-01-01T00:00:00Z" });
    let answer = call.json(&since).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(operators.told(2).await, DEAD_AND_OVER);
    operators.assert_one_problem();
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_repeats_no_alert_and_tells_what_is_over_since() {
    let operators = Operators::start().await;
    let mut crew = Crew::gather_on(TestDatabase::new().await, |settings| {
        settings.delivery.retry_schedule = vec![Duration::from_millis(20)];
        operators.told_by(settings);
    })
    .await;
    crew.join().await;
    crew.receiver.answer(2, 500);
    crew.watch(0, &crew.sandbox.seed_job(done())).await;
    assert_eq!(operators.told(1).await, ["deliveries-dead firing"]);
    // the alert is stored after it was sent
    tokio::time::sleep(SETTLED).await;
    crew.kill(0).await;
    crew.join().await;
    tokio::time::sleep(TAKEN_OVER).await;
    assert_eq!(operators.briefly().len(), 1, "it lasts, and was told");
    crew.kill(0).await;
    let clock = Clock::system();
    let relay = Relay::build(crew.settings.clone(), clock.clone()).await;
    let store = relay.unwrap().store;
    let since = "2020-01-01T00:00:00Z".parse().unwrap();
    let queued = store.redeliver_dead(operator(), since, clock.now()).await;
    assert_eq!(queued.unwrap(), 1);
    store.close().await;
    drop(store);
    crew.join().await;
    assert_eq!(operators.told(2).await, DEAD_AND_OVER);
    operators.assert_one_problem();
    crew.stop().await;
}
