//! What the relays did over time: charts on the overview, and the page by bank, host and client.

use std::time::Duration;

use relay_domain::{ActivityRow, ActivityScope, ActivityTally};
use serde_json::{Value, json};

use crate::{
    console::{Browser, HOSTILE, TOKEN, app},
    support::{TestApp, failure, job},
};

/// Lets the relay look at one job that succeeds and one that fails, and deliver both events.
async fn busy() -> TestApp {
    let mut app = app().await;
    let now = app.now();
    let ended = |id: &str, status: &str, result: Value| {
        let mut document = job(id, now, &[("verify-credentials", status, result)]);
        document["links"]["institution"] = "/institutions/AU00001".into();
        app.sandbox.seed_document(id, document);
    };
    ended("j-good", "success", Value::Null);
    ended("j-bad", "failed", failure("invalid-credentials"));
    app.receiver.answer(1, 503);
    app.watch("j-good").await;
    app.run_due().await;
    app.pass(Duration::from_secs(2), Duration::from_secs(1))
        .await;
    app.watch("j-bad").await;
    app.run_due().await;
    app.record_activity().await;
    app
}

fn has(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[tokio::test]
async fn before_anything_happened_the_charts_say_so() {
    let mut app = app().await;
    app.record_activity().await;
    let browser = Browser::logged_in(&app).await;
    for (query, words) in [("", "hour"), ("?span=day", "day"), ("?span=week", "week")] {
        let page = browser.get(&format!("/console{query}")).await.text;
        let nothing = format!("No look, call or delivery was counted in the last {words}.");
        has(
            &page,
            &["Needs attention", "Polls due", "Nothing yet.", &nothing],
        );
        assert!(!page.contains("<svg"), "{page}");
    }
    let page = browser.get("/console/comparison").await.text;
    assert_eq!(page.matches("Nothing yet.").count(), 3, "{page}");
}

#[tokio::test]
async fn what_the_relay_did_is_drawn_and_told_as_a_table() {
    let app = busy().await;
    let browser = Browser::logged_in(&app).await;
    for query in [
        "",
        "?span=hour",
        "?span=day",
        "?span=week",
        "?span=%3Cscript%3E",
    ] {
        let page = browser.get(&format!("/console{query}")).await.text;
        assert_eq!(page.matches("<svg role=\"img\"").count(), 4, "{page}");
        has(
            &page,
            &[
                "2 accepted, 1 failed, 0 given up in the last",
                "2 looks at jobs in the last",
            ],
        );
        has(
            &page,
            &["The same numbers as a table", "<path class=\"main\" d=\"M"],
        );
        assert!(!page.contains(" style="), "{page}");
    }
    let live = browser
        .get_with("/console?span=week", &[("hx-request", "true")])
        .await;
    has(&live.text, &["hx-get=\"/console?span=week\"", "<svg"]);
    assert!(!live.text.contains("<html"), "{}", live.text);
}

#[tokio::test]
async fn banks_hosts_and_clients_are_compared() {
    let app = busy().await;
    let browser = Browser::logged_in(&app).await;
    for (span, whole) in [("hour", "hours"), ("day", "hours"), ("week", "days")] {
        let path = format!("/console/comparison?span={span}");
        let page = browser.get(&path).await.text;
        let host = "/console/watches?q=127.0.0.1";
        has(&page, &["AU00001", host, ">test</th>", "50 %", "66.6 %"]);
        has(&page, &[&format!("Counted in whole {whole}, since")]);
        assert!(!page.contains("Nothing yet."), "{page}");
    }
    let live = browser
        .get_with("/console/comparison", &[("hx-request", "true")])
        .await;
    assert!(!live.text.contains("<html") && live.text.contains("AU00001"));
}

#[tokio::test]
async fn names_are_escaped_and_the_largest_stand_first() {
    let app = app().await;
    let mut tally = ActivityTally::default();
    for (name, many) in [(HOSTILE, 3), ("AU00002", 5), ("AU00003", 4)] {
        tally.counts_of(name).failed = many;
    }
    let row = ActivityRow {
        scope: ActivityScope::Bank,
        since: ActivityScope::Bank.start_of(app.now()),
        run: [1; 16],
        tally,
    };
    app.store.record_activity(vec![row]).await.unwrap();
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console/comparison").await.text;
    assert!(
        !page.contains("<script>") && !page.contains("<img"),
        "{page}"
    );
    let places = ["AU00002", "AU00003", "&#60;script"].map(|name| page.find(name).unwrap());
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn counts_outlive_a_restart_and_old_ones_are_deleted() {
    let mut app = busy().await;
    let counted = async |app: &TestApp| {
        let since = app.now().checked_sub(Duration::from_hours(24)).unwrap();
        let rows = app
            .store
            .list_activity(ActivityScope::Hour, since)
            .await
            .unwrap();
        let sums = rows.iter().map(|row| row.tally.total());
        (rows.len(), sums.map(|sum| sum.succeeded).sum::<u64>())
    };
    app.clock.advance(Duration::from_secs(1));
    app.record_activity().await;
    assert_eq!(counted(&app).await.1, 2);
    app.restart().await;
    let mut document = job(
        "j-late",
        app.now(),
        &[("create-report", "success", Value::Null)],
    );
    document["jobType"] = json!("report");
    app.sandbox.seed_document("j-late", document);
    app.watch("j-late").await;
    app.run_due().await;
    app.record_activity().await;
    app.record_activity().await;
    let (rows, succeeded) = counted(&app).await;
    assert!(rows >= 2 && succeeded == 3, "{rows} {succeeded}");
    app.clock.advance(Duration::from_hours(9 * 24));
    app.record_activity().await;
    let all = jiff::Timestamp::UNIX_EPOCH;
    for scope in ActivityScope::ALL {
        let left = app.store.list_activity(*scope, all).await.unwrap();
        assert_eq!(left, [], "{scope}");
    }
    app.leave_work();
}

#[tokio::test]
async fn an_event_that_is_sent_again_by_hand_says_nothing_about_the_time_to_the_callback() {
    let mut app = busy().await;
    let id = app.watch("j-good").await;
    app.run_due().await;
    app.clock.advance(Duration::from_mins(40));
    let again = app
        .post(&format!("/watch/{id}/redeliver"), &json!({}))
        .await;
    assert_eq!(again.status, 202, "{}", again.body);
    app.run_due().await;
    app.record_activity().await;
    let since = app.now().checked_sub(Duration::from_hours(2)).unwrap();
    let rows = app
        .store
        .list_activity(ActivityScope::Minute, since)
        .await
        .unwrap();
    let mut sum = ActivityTally::default();
    for row in &rows {
        sum.merge(&row.tally);
    }
    let sum = sum.total();
    assert_eq!((sum.succeeded, sum.took.total()), (4, 3));
    assert!(sum.took.percentile(100).unwrap() < Duration::from_mins(1));
}

#[tokio::test]
async fn that_basiq_is_down_is_told_with_the_time_and_the_reason() {
    // nobody listens there
    let builder = TestApp::builder().basiq("http://127.0.0.1:9".parse().unwrap());
    let builder = builder.settings(|settings| {
        settings.server.admin_token = Some(TOKEN.to_owned().into());
    });
    let mut app = builder.build().await;
    app.watch("j-1").await;
    app.run_due().await;
    app.record_activity().await;
    app.leave_work();
    let browser = Browser::logged_in(&app).await;
    let page = browser.get("/console").await.text;
    let down = "Basiq is down since <time datetime=";
    has(
        &page,
        &[
            down,
            ": the connection is refused. Every look is tried again later.",
        ],
    );
    has(&page, &["0 answered, "]);
    assert!(!page.contains("0 answered, 0 failed in"), "{page}");
}
