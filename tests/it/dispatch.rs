//! A worker with free slots receives new work directly, before a claim finds it. Nothing depends on this.

use std::time::Duration;

use serde_json::Value;

use crate::support::{TestApp, job};

/// Starts a relay whose workers have ticked, so that they have offered their free slots.
async fn idle_app() -> TestApp {
    let mut app = TestApp::new().await;
    app.run_due().await;
    app
}

/// Registers a watch of a job that is already done.
async fn settled(app: &TestApp) {
    let done = job(
        "j-1",
        app.now(),
        &[("create-report", "success", Value::Null)],
    );
    app.sandbox.seed_document("j-1", done);
    app.watch("j-1").await;
}

#[tokio::test]
async fn a_new_job_and_its_event_are_sent_to_idle_workers() {
    let mut app = idle_app().await;
    settled(&app).await;
    assert_eq!(app.in_flight(), (1, 0), "the job is on its way");
    app.look().await;
    assert_eq!(app.in_flight(), (0, 1), "the delivery is on its way");
    app.run_due().await;
    assert_eq!(app.told().len(), 1);
    assert_eq!(app.sandbox.calls().count("GET /jobs/{jobId}"), 1);
}

#[tokio::test]
async fn a_new_job_is_looked_at_while_other_relays_have_the_store() {
    let mut app = idle_app().await;
    settled(&app).await;
    assert_eq!(app.leave_store_to_others().await, 1);
    app.run_due().await;
    assert_eq!(app.told().len(), 1);
    assert_eq!(app.sandbox.calls().count("GET /jobs/{jobId}"), 1);
}

#[tokio::test]
async fn what_was_sent_to_a_worker_of_a_relay_that_died_is_done_by_the_next_relay() {
    for dies_after_its_look in [false, true] {
        let mut app = idle_app().await;
        settled(&app).await;
        if dies_after_its_look {
            app.look().await;
        }
        app.restart().await;
        // Where other relays may run, the lease must expire first.
        app.skip(Duration::from_mins(3)).await;
        assert_eq!(app.told().len(), 1, "{dies_after_its_look}");
        assert_eq!(app.sandbox.calls().count("GET /jobs/{jobId}"), 1);
    }
}
