//! `POST /watch/batch`, in all its forms.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

fn statuses(answer: &Answer) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let items = answer.body["items"].as_array().unwrap().iter();
    items.map(|item| item["status"].as_u64().unwrap()).collect()
}

fn watch(app: &TestApp, job: &str) -> Value {
    json!({ "jobId": job, "callbackUrl": app.callback("/hook") })
}

#[tokio::test]
async fn each_watch_of_a_batch_is_judged_by_itself_and_answered_in_its_place() {
    let mut app = TestApp::new().await;
    let old = app.watch("j-old").await;
    let mut odd = watch(&app, "..");
    odd["locale"] = json!("!");
    let body = json!({ "watches": [
        watch(&app, "j-1"), odd, watch(&app, "j-old"), 7, watch(&app, "j-1"),
    ]});
    let answer = app.post("/watch/batch", &body).await;
    assert_eq!(statuses(&answer), [202, 422, 200, 422, 200]);
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(items[0]["watch"]["jobId"], "j-1");
    assert_eq!(items[0]["problem"], Value::Null);
    assert_eq!(items[2]["watch"]["id"], old.as_str());
    assert_eq!(items[4]["watch"], items[0]["watch"], "one watch");
    assert_eq!(items[1]["watch"], Value::Null);
    let problem = &items[1]["problem"];
    assert_eq!(problem["type"], "/problems/invalid-field");
    assert_eq!(problem["instance"], "/watch/batch");
    let faults = problem["errors"].as_array().unwrap().iter();
    let pointers: Vec<_> = faults.map(|fault| fault["pointer"].as_str()).collect();
    let expected = ["/watches/1/jobId", "/watches/1/locale"];
    assert_eq!(pointers, expected.map(Some));
    assert_eq!(items[3]["problem"]["errors"][0]["pointer"], "/watches/3");
    let id = items[0]["watch"]["id"].as_str().unwrap();
    assert_eq!(app.story(id).await, items[0]["watch"]);
    assert_eq!(
        app.get("/watch").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    app.leave_work();
}

#[tokio::test]
async fn five_hundred_jobs_of_one_callback_are_watched_at_once() {
    let mut app = TestApp::new().await;
    let jobs: Vec<_> = (0..500).map(|n| format!("j-{n}")).collect();
    let body = json!({
        "jobIds": jobs, "callbackUrl": app.callback("/hook"), "events": ["success"],
        "metadata": { "order": 7 },
    });
    let answer = app.post("/watch/batch", &body).await;
    assert!(statuses(&answer).iter().all(|status| *status == 202));
    for (item, job) in answer.body["items"].as_array().unwrap().iter().zip(&jobs) {
        assert_eq!(item["watch"]["jobId"], job.as_str());
        assert_eq!(item["watch"]["metadata"], json!({ "order": 7 }));
    }
    let again = app.post("/watch/batch", &body).await;
    assert!(statuses(&again).iter().all(|status| *status == 200));
    let twice = json!({ "jobIds": ["j-x", "", "j-x", 7], "callbackUrl": app.callback("/hook") });
    let answer = app.post("/watch/batch", &twice).await;
    assert_eq!(statuses(&answer), [202, 422, 200, 422]);
    let fault = &answer.body["items"][1]["problem"]["errors"][0];
    assert_eq!(fault["pointer"], "/jobIds/1");
    app.leave_work();
}

#[tokio::test]
async fn what_is_wrong_with_a_whole_batch_stores_nothing() {
    let app = TestApp::new().await;
    let (one, callback) = (watch(&app, "j-1"), app.callback("/hook"));
    for (body, pointer) in [
        (json!({}), "/watches"),
        (json!({ "watches": [] }), "/watches"),
        (json!({ "jobIds": [], "callbackUrl": callback }), "/jobIds"),
        (json!({ "watches": [one], "jobIds": ["j-1"] }), "/jobIds"),
        (json!({ "watches": vec![&one; 501] }), "/watches"),
        (json!({ "watches": [one], "locale": "en" }), "/locale"),
        (json!({ "jobIds": ["j-1"] }), "/callbackUrl"),
        (
            json!({ "jobIds": ["j-1"], "callbackUrl": "https://10.0.0.1/" }),
            "/callbackUrl",
        ),
        (
            json!({ "jobIds": ["j-1"], "callbackUrl": callback, "jobId": "j-1" }),
            "/jobId",
        ),
    ] {
        let answer = app.post("/watch/batch", &body).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(app.get("/watch").await.body["items"], json!([]));
}

#[tokio::test]
async fn a_batch_stops_at_the_clients_cap_of_open_watches() {
    let builder = TestApp::builder().settings(|s| s.server.client_max_open_watches = 2);
    let mut app = builder.build().await;
    let body = json!({
        "jobIds": ["j-1", "j-2", "j-1", "j-3", "j-3"], "callbackUrl": app.callback("/hook"),
    });
    let answer = app.post("/watch/batch", &body).await;
    assert_eq!(statuses(&answer), [202, 202, 200, 429, 429]);
    let problem = &answer.body["items"][3]["problem"];
    assert_eq!(problem["type"], "/problems/too-many-open-watches");
    app.leave_work();
}

#[tokio::test]
async fn a_batch_may_be_larger_than_other_bodies_but_not_without_bound() {
    let app = TestApp::new().await;
    let send = async |path: &str, size: usize| {
        let body = format!("{{\"a\":\"{}\"}}", "x".repeat(size - 8));
        let key = format!("Bearer {}", app.client.key.expose());
        let request = Request::post(path)
            .header(header::AUTHORIZATION, key)
            .header(header::CONTENT_TYPE, "application/json");
        app.send(request.body(Body::from(body)).unwrap())
            .await
            .status
    };
    assert_eq!(send("/watch/batch", 512 * 1024).await, 422);
    assert_eq!(send("/watch/batch", 512 * 1024 + 1).await, 413);
    assert_eq!(send("/watch", 16 * 1024 + 1).await, 413);
}
