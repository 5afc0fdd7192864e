//! If the database refuses one row, the other rows of the same batch are stored.

use serde_json::Value;

use crate::support::{TestApp, TestDatabase, database::is_postgres, job};

/// Makes a database refuse rows that meet this condition.
pub(crate) async fn refuse(database: &TestDatabase, event: &str, condition: &str) {
    let statement = if is_postgres() {
        format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'it is not wanted'; END $$; \
             CREATE TRIGGER refuse BEFORE {event} FOR EACH ROW WHEN ({condition}) \
             EXECUTE FUNCTION refuse()"
        )
    } else {
        format!(
            "CREATE TRIGGER refuse BEFORE {event} WHEN {condition} \
             BEGIN SELECT RAISE(ABORT, 'it is not wanted'); END"
        )
    };
    database.define(&statement).await;
}

/// Registers watches of three finished jobs.
async fn watch_three(app: &TestApp) {
    for id in ["good-1", "bad", "good-2"] {
        let done = [("create-report", "success", Value::Null)];
        app.sandbox.seed_document(id, job(id, app.now(), &done));
        app.watch_with(
            id,
            serde_json::json!({ "callbackUrl": app.callback(&format!("/{id}")) }),
        )
        .await;
    }
}

#[tokio::test]
async fn a_look_that_the_database_refuses_leaves_those_recorded_with_it_alone() {
    let mut app = TestApp::new().await;
    watch_three(&app).await;
    refuse(app.database(), "UPDATE ON jobs", "NEW.job_id = 'bad'").await;
    app.run_due().await;
    let mut told: Vec<_> = app
        .told()
        .iter()
        .map(|event| event["jobId"].clone())
        .collect();
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, ["good-1", "good-2"]);
    app.leave_work();
}

#[tokio::test]
async fn an_attempt_that_the_database_refuses_leaves_those_recorded_with_it_alone() {
    let mut app = TestApp::new().await;
    watch_three(&app).await;
    // All three deliveries are due, so their attempts end together.
    app.look().await;
    let condition = if is_postgres() {
        // A trigger's condition must not read another table, but a function may.
        let job_of = "CREATE FUNCTION job_of(bytea) RETURNS text LANGUAGE sql AS $$ \
            SELECT w.job_id FROM watches w WHERE w.watch_id = $1 $$";
        app.database().define(job_of).await;
        "job_of(NEW.source_id) = 'bad'"
    } else {
        "(SELECT j.job_id FROM watches w JOIN jobs j ON j.job_no = w.job_no \
          WHERE w.watch_id = NEW.source_id) = 'bad'"
    };
    refuse(app.database(), "UPDATE ON events", condition).await;
    app.run_due().await;
    for (id, state) in [
        ("good-1", "delivered"),
        ("bad", "pending"),
        ("good-2", "delivered"),
    ] {
        let listed = app.get(&format!("/watch?jobId={id}")).await;
        let delivery = &listed.body["items"][0]["events"][0]["deliveries"][0];
        assert_eq!(delivery["state"], state, "{id}: {}", listed.body);
    }
    app.leave_work();
}
