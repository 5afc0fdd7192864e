//! Lists of jobs are the least urgent calls. They do not delay the first looks at jobs that clients register, and take
//! at most a quarter of the budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::Request};
use basiq_sandbox::{Call, JobScript, ScriptStep, StepEnd};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{job, live::Live};

const SECOND: Duration = Duration::from_secs(1);
const SUBSCRIPTIONS: usize = 300;
const LIST: &str = "GET /users/{userId}/jobs";

/// Returns a job of a user that has ended already.
fn ended(user: usize) -> JobScript {
    let step = ScriptStep::new("verify-credentials", Duration::ZERO, StepEnd::Succeeds);
    let mut script = JobScript::new(vec![step]);
    script.user_id = Some(format!("u-{user}"));
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_subscriptions_delay_no_first_look_by_a_second() {
    let live = Live::start(|settings| {
        settings.basiq.requests_per_second = 20;
        // every list is always due
        settings.subscriptions.discovery_interval = SECOND;
        settings.server.client_rps = 100_000;
    })
    .await;
    for n in 0..3 * SUBSCRIPTIONS {
        let _id = live.sandbox.seed_job(ended(n % SUBSCRIPTIONS));
    }
    // Basiq's times are whole seconds
    tokio::time::sleep(SECOND).await;
    for n in 0..SUBSCRIPTIONS {
        let callback = format!("{}/hook", live.receiver.url());
        let body = json!({ "userId": format!("u-{n}"), "callbackUrl": callback });
        let call = live.call(Method::POST, "subscriptions").json(&body);
        assert_eq!(call.send().await.unwrap().status(), 201);
    }
    let began = live.now();
    let mut waits = Vec::new();
    for n in 0..20 {
        let id = format!("j-{n}");
        let done = job(
            &id,
            live.now(),
            &[("create-report", "success", Value::Null)],
        );
        live.sandbox.seed_document(&id, done);
        let asked = live.now();
        live.register(&id).await;
        live.until(5 * SECOND, || live.receiver.received().len() == n + 1)
            .await;
        let calls = live.sandbox.calls();
        let path = format!("/jobs/{id}");
        let look = calls.recent().find(|call| call.path == path).unwrap().at;
        waits.push(Duration::try_from(look.duration_since(asked)).unwrap_or_default());
        tokio::time::sleep(SECOND / 2).await;
    }
    let calls = live.sandbox.calls();
    let seconds = live.now().duration_since(began).as_secs_f64();
    let is_list = |call: &&Call| call.endpoint == LIST && call.at >= began;
    let lists = calls.recent().filter(is_list).count();
    let rate = f64::from(u32::try_from(lists).unwrap()) / seconds;
    println!("{rate:.1} lists a second; first looks after {waits:?}");
    assert!(waits.iter().all(|wait| *wait < SECOND), "{waits:?}");
    assert!((3.0..=5.5).contains(&rate), "a quarter of 20: {rate}");
    assert!(calls.busiest_second(None) <= 20);
    live.stop().await;
}

/// Serves a Basiq whose lists all have five pages. Counts the pages that it served.
async fn serve_long_lists(tasks: &mut JoinSet<()>) -> (url::Url, Arc<AtomicUsize>) {
    let pages = Arc::new(AtomicUsize::new(0));
    let served = Arc::clone(&pages);
    let router = Router::new().fallback(move |request: Request| {
        let is_token = request.uri().path() == "/token";
        let page = request.uri().query().map_or(1, |query| 1 + query.len());
        served.fetch_add(usize::from(!is_token), Ordering::Relaxed);
        // the length of the query is the number of earlier pages
        let next = (page < 5).then(|| format!("?{}", "x".repeat(page)));
        let answer = if is_token {
            json!({ "access_token": "t", "expires_in": 3600 })
        } else {
            json!({ "type": "list", "data": [], "links": { "next": next } })
        };
        async move { Json(answer) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url.parse().unwrap(), pages)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_many_pages_take_no_more_than_a_quarter_of_the_budget() {
    let mut tasks = JoinSet::new();
    let (basiq, pages) = serve_long_lists(&mut tasks).await;
    let live = Live::start(|settings| {
        settings.basiq.url = basiq;
        settings.basiq.requests_per_second = 20;
        settings.subscriptions.discovery_interval = SECOND;
    })
    .await;
    for n in 0..20 {
        let callback = format!("{}/hook", live.receiver.url());
        let body = json!({ "userId": format!("u-{n}"), "callbackUrl": callback });
        let call = live.call(Method::POST, "subscriptions").json(&body);
        assert_eq!(call.send().await.unwrap().status(), 201);
    }
    tokio::time::sleep(2 * SECOND).await;
    let before = pages.load(Ordering::Relaxed);
    tokio::time::sleep(9 * SECOND).await;
    let read = pages.load(Ordering::Relaxed) - before;
    // three lists begin together, so a window of nine seconds can have a burst of 15 pages more
    assert!((30..=65).contains(&read), "a quarter of 180 calls: {read}");
    live.stop().await;
}
