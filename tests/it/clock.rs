//! The clock is set back or forward while a relay runs. `fleet/clock.rs` sets the clock of a real database back.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{TestApp, job, live::Live};

const JOBS: usize = 12;
const HOUR: i64 = 3_600_000;

fn running(id: &str, now: jiff::Timestamp) -> Value {
    job(
        id,
        now,
        &[("verify-credentials", "in-progress", Value::Null)],
    )
}

fn ended(id: &str, now: jiff::Timestamp) -> Value {
    job(id, now, &[("verify-credentials", "success", Value::Null)])
}

/// Starts a relay that looks at running jobs.
async fn at_work() -> (Live, Vec<String>) {
    let live = Live::start(|_| ()).await;
    let jobs: Vec<_> = (0..JOBS).map(|n| format!("job-{n}")).collect();
    for id in &jobs {
        live.sandbox.seed_document(id, running(id, live.now()));
        live.register(id).await;
    }
    let all = u64::try_from(2 * JOBS).unwrap();
    live.until(Duration::from_secs(10), || {
        live.sandbox.calls().count("GET /jobs/{jobId}") >= all
    })
    .await;
    (live, jobs)
}

#[tokio::test]
async fn a_clock_set_back_by_an_hour_holds_up_no_job() {
    for back in [10 * 60_000, HOUR] {
        let (live, jobs) = at_work().await;
        live.clock().set_machine_wrong_by(-back);
        for id in &jobs {
            live.sandbox.seed_document(id, ended(id, live.now()));
        }
        live.until(Duration::from_secs(6), || {
            live.receiver.received().len() == JOBS
        })
        .await;
        live.stop().await;
    }
}

#[tokio::test]
async fn a_clock_set_back_while_the_relay_is_down_holds_up_no_job() {
    let mut app = TestApp::new().await;
    app.sandbox
        .seed_document("job-1", running("job-1", app.now()));
    app.watch("job-1").await;
    app.run_due().await;
    app.check_clock().await;
    app.clock.set_back(Duration::from_hours(1));
    app.restart().await;
    app.check_clock().await;
    app.sandbox
        .seed_document("job-1", ended("job-1", app.now()));
    app.pass(Duration::from_secs(5), Duration::from_secs(1))
        .await;
    assert_eq!(app.told_briefly(), ["success/none"]);
}

#[tokio::test]
async fn what_waits_moves_back_with_the_clock_and_keeps_its_order() {
    let mut app = TestApp::new().await;
    app.sandbox
        .seed_document("job-1", ended("job-1", app.now()));
    app.receiver.answer(1, 500);
    app.watch("job-1").await;
    app.run_due().await;
    app.check_clock().await;
    assert_eq!(app.told().len(), 1);
    app.clock.set_back(Duration::from_hours(1));
    app.check_clock().await;
    // The first wait of the schedule is five seconds, plus or minus a tenth.
    app.pass(Duration::from_secs(4), Duration::from_secs(1))
        .await;
    assert_eq!(app.told().len(), 1, "not before its time");
    app.pass(Duration::from_secs(2), Duration::from_secs(1))
        .await;
    assert_eq!(app.told().len(), 2);
}

/// Records the event's job, and answers after four seconds.
async fn slow(State(told): State<Arc<Mutex<Vec<String>>>>, Json(event): Json<Value>) -> StatusCode {
    let job = event["jobId"].as_str().unwrap().to_owned();
    told.lock().unwrap().push(job);
    tokio::time::sleep(Duration::from_secs(4)).await;
    StatusCode::NO_CONTENT
}

#[tokio::test]
async fn a_clock_set_forward_and_back_again_spends_no_lease_and_no_time_limit() {
    let mut tasks = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback = format!("http://{}/hook", listener.local_addr().unwrap());
    let told = Arc::<Mutex<Vec<String>>>::default();
    let router = Router::new().route("/hook", post(slow));
    let router = router.with_state(Arc::clone(&told));
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let live = Live::start(|_| ()).await;
    live.sandbox
        .seed_document("ended", ended("ended", live.now()));
    // Basiq does not know the other job, so its watch ends after a minute.
    for id in ["ended", "unknown"] {
        let body = json!({ "jobId": id, "callbackUrl": callback });
        let call = live.call(reqwest::Method::POST, "watch").json(&body);
        assert_eq!(call.send().await.unwrap().status(), 202);
    }
    let began = Instant::now();
    live.until(Duration::from_secs(5), || !told.lock().unwrap().is_empty())
        .await;
    live.clock().set_machine_wrong_by(HOUR);
    tokio::time::sleep(Duration::from_secs(2)).await;
    live.clock().set_machine_wrong_by(0);
    tokio::time::sleep(Duration::from_secs(7).saturating_sub(began.elapsed())).await;
    assert_eq!(*told.lock().unwrap(), ["ended"]);
    live.abandon();
}
