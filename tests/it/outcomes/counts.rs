//! The number of calls to Basiq, and the counts across jobs.

use basiq_sandbox::{JobScript, StepEnd};
use serde_json::json;

use super::{
    CONNECTOR, DAY, HOUR, LOOK, MINUTE, SECOND, UNAVAILABLE, fails, reads, update, verifies,
};
use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn looks_at_a_queued_update_come_just_after_each_retry() {
    let mut app = TestApp::new().await;
    let id = app.sandbox.seed_job(update(Some(5)));
    app.watch_with(&id, json!({ "operation": "update" })).await;
    app.skip(MINUTE).await;
    let delayed = app.told().remove(0);
    let failed_at = app
        .sandbox
        .calls()
        .recent()
        .filter(|call| call.endpoint == LOOK)
        .count();
    app.skip(11 * HOUR).await;
    assert_eq!(app.told_briefly(), ["delayed/wait", "success/none"]);
    let due: jiff::Timestamp = delayed["retryAt"].as_str().unwrap().parse().unwrap();
    let looks: Vec<_> = app.sandbox.calls().recent().cloned().collect();
    let looks = looks
        .iter()
        .filter(|call| call.endpoint == LOOK)
        .skip(failed_at);
    let mut by_retry = [0; 5];
    for look in looks {
        let since = (look.at.as_millisecond() - due.as_millisecond()) / 1000;
        // Each retry takes some seconds itself, and the next interval begins at its end.
        let (retry, after) = (since / 7205, since % 7205);
        assert!((0..180).contains(&after), "{after} s after retry {retry}");
        by_retry[usize::try_from(retry).unwrap()] += 1;
    }
    assert!(
        by_retry.iter().all(|looks| (1..=6).contains(looks)),
        "{by_retry:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_is_looked_at_once_for_all_that_wait_for_it() {
    let mut app = TestApp::new().await;
    app.sandbox
        .set_faults(vec!["outage=AU00000".parse().unwrap()]);
    for n in 0..20 {
        let id = app.sandbox.seed_job(reads(fails(UNAVAILABLE, "down")));
        let body = json!({ "jobId": id, "callbackUrl": app.callback(&format!("/{n}")) });
        assert_eq!(app.post("/watch", &body).await.status, 202);
        app.skip(10 * SECOND).await;
    }
    assert_eq!(app.told_briefly(), vec!["failed/wait-for-bank"; 20]);
    let first = app.sandbox.calls().count(CONNECTOR);
    let looks = app.sandbox.calls().count(LOOK);
    assert!(first <= 2, "{first}");
    app.skip(2 * HOUR).await;
    let asked = app.sandbox.calls().count(CONNECTOR) - first;
    assert!(
        (10..=13).contains(&asked),
        "{asked}: once every ten minutes"
    );
    app.sandbox.set_faults(Vec::new());
    app.skip(12 * MINUTE).await;
    assert_eq!(app.told_briefly()[20..], vec!["failed/retry"; 20]);
    assert_eq!(
        app.sandbox.calls().count(LOOK),
        looks,
        "their jobs are not asked about"
    );
    assert!(
        app.told()[20..]
            .iter()
            .all(|event| event["retryAt"].is_null() && event["sequence"] == 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_a_row_are_counted_across_clients_and_forgotten_after_a_day() {
    let mut app = TestApp::new().await;
    let other = app.add_client("other").await;
    let connection = |end| JobScript {
        user_id: Some("u-1".to_owned()),
        connection_id: Some("c-1".to_owned()),
        ..verifies(end)
    };
    let unavailable = || connection(fails(UNAVAILABLE, ""));
    let mut told = Vec::new();
    for n in 0..4 {
        let id = app.sandbox.seed_job(unavailable());
        let client = if n % 2 == 0 { &app.client } else { &other };
        let body = json!({ "jobId": id, "callbackUrl": app.callback("/hook") });
        let answer = app
            .call_as(client, axum::http::Method::POST, "/watch", Some(&body))
            .await;
        assert_eq!(answer.status, 202);
        app.skip(MINUTE).await;
        told.push(app.told_briefly().pop().unwrap());
    }
    assert_eq!(
        told,
        [
            "failed/retry",
            "failed/retry",
            "failed/contact-support",
            "failed/contact-support"
        ]
    );
    // An update that fails for another reason, or that waits, does not count. A success resets the count.
    for (script, options, expected) in [
        (
            connection(fails("invalid-credentials", "")),
            json!({}),
            "failed/resubmit-credentials",
        ),
        (unavailable(), json!({}), "failed/contact-support"),
        (connection(StepEnd::Succeeds), json!({}), "success/none"),
        (
            unavailable(),
            json!({ "operation": "update" }),
            "delayed/wait",
        ),
        (unavailable(), json!({}), "failed/retry"),
        (unavailable(), json!({}), "failed/retry"),
        (unavailable(), json!({}), "failed/contact-support"),
    ] {
        let id = app.sandbox.seed_job(script);
        app.watch_with(&id, options).await;
        app.skip(MINUTE).await;
        assert_eq!(app.told_briefly().pop().unwrap(), expected);
    }
    app.skip(DAY).await;
    let id = app.sandbox.seed_job(unavailable());
    app.watch(&id).await;
    app.skip(MINUTE).await;
    assert_eq!(
        app.told_briefly().pop().unwrap(),
        "failed/retry",
        "a day later"
    );
    app.leave_work();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_looked_at_after_each_retry_although_another_watch_waits_for_the_bank() {
    let mut app = TestApp::new().await;
    app.sandbox
        .set_faults(vec!["outage=AU00000".parse().unwrap()]);
    let id = app.sandbox.seed_job(update(Some(2)));
    app.watch_with(&id, json!({ "operation": "update" })).await;
    let body = json!({ "jobId": id, "callbackUrl": app.callback("/plain") });
    assert_eq!(app.post("/watch", &body).await.status, 202);
    app.skip(MINUTE).await;
    let mut told = app.told_briefly();
    told.sort_unstable();
    assert_eq!(told, ["delayed/wait", "failed/wait-for-bank"]);
    // the second retry succeeds, whatever Basiq says of the bank
    app.skip(5 * HOUR).await;
    assert_eq!(app.told_briefly()[2..], ["success/none"; 2]);
    let looks = app.sandbox.calls().count(LOOK);
    assert!((4..=12).contains(&looks), "{looks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_joins_a_queued_update_is_told_the_retry_that_is_to_come() {
    let mut app = TestApp::new().await;
    let id = app.sandbox.seed_job(update(None));
    app.watch_with(&id, json!({ "operation": "update" })).await;
    app.skip(MINUTE).await;
    app.skip(HOUR).await;
    let body = json!({ "jobId": id, "callbackUrl": app.callback("/joins"), "operation": "update" });
    assert_eq!(app.post("/watch", &body).await.status, 202);
    app.skip(5 * SECOND).await;
    let told = app.told();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["retryAt"], told[1]["retryAt"]);
    app.leave_work();
}
