//! Tests of the client against a local server with scripted responses.

mod away;
mod fake;
mod kept;
mod keys;
mod mfa;
mod user_jobs;

use std::{sync::Mutex, time::Instant};

use relay_domain::UpstreamHealth;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use self::fake::{FakeBasiq, FakeReply, client_of, serve_broken};
use super::*;

fn error_body(detail: &str) -> Value {
    json!({"type": "list", "correlationId": "cor-7",
        "data": [{"type": "error", "code": "access-denied", "title": "Denied", "detail": detail}]})
}

fn job_id() -> JobId {
    "job-1".parse().unwrap()
}

async fn at_once(client: &BasiqClient, count: usize) -> Vec<Result<JobDocument, BasiqError>> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        calls.spawn(async move { client.job(&job_id()).await });
    }
    calls.join_all().await
}

#[tokio::test]
async fn many_who_wait_for_a_token_share_one_fetch() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    let results = at_once(&client, 50).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!((fake.count("/token"), fake.count("/jobs/job-1")), (1, 50));
    assert_eq!(upstream.health(), UpstreamHealth::Ok);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_time_and_kept_if_that_fails() {
    let fake = FakeBasiq::start().await;
    let (client, clock, _) = fake.client(1000);
    client.job(&job_id()).await.unwrap();
    clock.advance(Duration::from_mins(47));
    client.job(&job_id()).await.unwrap();
    assert_eq!(fake.count("/token"), 1);
    clock.advance(Duration::from_mins(2));
    fake.tokens([FakeReply::Raw(500, String::new())]);
    client.job(&job_id()).await.unwrap();
    assert_eq!(fake.count("/token"), 2);
    clock.advance(Duration::from_secs(2));
    client.job(&job_id()).await.unwrap();
    assert_eq!(fake.count("/token"), 3);
    let used: Vec<_> = fake
        .script
        .lock()
        .seen
        .iter()
        .map(|seen| seen.2.clone())
        .collect();
    assert_eq!(used[4], "Bearer token-1");
    assert_eq!(used.last().unwrap(), "Bearer token-3");
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_and_the_call_repeated() {
    for refusal in [
        FakeReply::Json(401, error_body("no longer")),
        FakeReply::Json(403, error_body("Token has expired")),
    ] {
        let fake = FakeBasiq::start().await;
        let (client, _, upstream) = fake.client(1000);
        client.job(&job_id()).await.unwrap();
        fake.others([refusal.clone()]);
        client.job(&job_id()).await.unwrap();
        assert_eq!((fake.count("/token"), fake.count("/jobs/job-1")), (2, 3));
        fake.others([refusal.clone(), refusal.clone()]);
        client.job(&job_id()).await.unwrap_err();
        assert_eq!((fake.count("/token"), fake.count("/jobs/job-1")), (3, 5));
        // The new token did not help, so it is not renewed again for every call.
        fake.others([refusal]);
        client.job(&job_id()).await.unwrap_err();
        assert_eq!(fake.count("/token"), 3);
        // Calls that are refused with every token are no usable responses.
        assert_eq!(upstream.health(), UpstreamHealth::Failing);
    }
}

#[tokio::test]
async fn many_calls_refused_at_once_renew_the_token_once() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    client.job(&job_id()).await.unwrap();
    fake.others(vec![FakeReply::Json(401, error_body("gone")); 10]);
    let results = at_once(&client, 10).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fake.count("/token"), 2);
}

#[tokio::test]
async fn answers_that_are_no_job_cannot_be_read() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    for body in ["{\"id\":", "[]", "", &large] {
        fake.others([FakeReply::Raw(200, body.to_owned())]);
        let error = client.job(&job_id()).await.unwrap_err();
        assert!(matches!(error, BasiqError::Unreadable(_)), "{error}");
        assert_eq!(upstream.health(), UpstreamHealth::Failing);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_time_out_and_is_not_asked_again() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    fake.others([FakeReply::Hang]);
    let error = client.job(&job_id()).await.unwrap_err();
    assert!(matches!(error, BasiqError::TimedOut), "{error}");
    assert_eq!(fake.count("/jobs/job-1"), 1);
    assert_eq!(upstream.health(), UpstreamHealth::Failing);
}

#[tokio::test]
async fn retry_after_pauses_every_call() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    fake.others([
        FakeReply::RetryAfter(429, "1"),
        FakeReply::RetryAfter(429, "7"),
    ]);
    let error = client.job(&job_id()).await.unwrap_err();
    assert!(matches!(
        error,
        BasiqError::Throttled {
            status: 429,
            retry_after: Some(_)
        }
    ));
    assert_eq!(upstream.health(), UpstreamHealth::Throttled);
    let began = Instant::now();
    client.job(&job_id()).await.unwrap_err();
    assert!(
        began.elapsed() >= Duration::from_millis(950),
        "{:?}",
        began.elapsed()
    );
    // Seven seconds are too long to wait, so the call is not made.
    let began = Instant::now();
    client.job(&job_id()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(fake.count("/jobs/job-1"), 2);
}

#[tokio::test]
async fn no_second_holds_more_calls_than_the_budget() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(20);
    let results = at_once(&client, 60).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mut times: Vec<_> = fake.script.lock().seen.iter().map(|seen| seen.0).collect();
    times.sort();
    assert_eq!(times.len(), 61);
    // Twenty calls may lie within one second, but not 21. The limit leaves 10 ms to a busy test machine, on top
    // of the slack of the budget.
    for window in times.windows(21) {
        let span = window[20] - window[0];
        assert!(
            span >= Duration::from_millis(990),
            "21 calls within {span:?}"
        );
    }
    let whole = times[60] - times[0];
    assert!(
        whole < Duration::from_secs(5),
        "slower than the budget: {whole:?}"
    );
}

#[tokio::test]
async fn ids_are_one_path_segment_whatever_they_hold() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    fake.others([
        FakeReply::Json(
            200,
            json!({"method": "web", "institution": {"id": "AU00000"}}),
        ),
        FakeReply::Json(200, json!({"status": "major-outage", "stats": null})),
    ]);
    let connection = client.connection("a/b?c", "d e").await.unwrap();
    assert_eq!(connection.institution_id.as_deref(), Some("AU00000"));
    assert!(
        client
            .connector("AU00000", "web")
            .await
            .unwrap()
            .is_in_major_outage()
            .unwrap()
    );
    assert_eq!(fake.count("/users/a%2Fb%3Fc/connections/d%20e"), 1);
    assert_eq!(fake.count("/connectors/AU00000/web"), 1);
    let error = client.connector("..", "web").await.unwrap_err();
    assert!(matches!(error, BasiqError::NotFound { .. }));
    assert_eq!(fake.script.lock().seen.len(), 3);
}

#[tokio::test]
async fn failures_of_several_jobs_stop_all_calls_until_a_probe_is_answered() {
    let fake = FakeBasiq::start().await;
    let (client, clock, upstream) = fake.client(1000);
    fake.others(vec![FakeReply::Raw(500, String::new()); 5]);
    for n in 0..5 {
        let id = format!("job-{n}").parse().unwrap();
        client.job(&id).await.unwrap_err();
    }
    assert!(upstream.is_breaker_open());
    assert_eq!(client.capacity(0).calls, 0);
    let error = client.job(&job_id()).await.unwrap_err();
    assert!(matches!(error, BasiqError::Resting { .. }), "{error}");
    assert_eq!(fake.script.lock().seen.len(), 6);
    clock.advance(Duration::from_secs(1));
    assert_eq!(client.capacity(0).calls, 1, "one to find out");
    assert_eq!(client.capacity(1).calls, 0, "which is on its way");
    client.job(&job_id()).await.unwrap();
    assert!(!upstream.is_breaker_open() && client.capacity(0).calls > 1);
    assert_eq!(upstream.health(), UpstreamHealth::Ok);
}

#[tokio::test]
async fn one_broken_job_stops_nothing() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    fake.others(vec![FakeReply::Raw(200, "{\"id\":".to_owned()); 20]);
    for _ in 0..20 {
        client.job(&job_id()).await.unwrap_err();
    }
    assert!(!upstream.is_breaker_open());
    client.job(&"job-2".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn without_a_token_nothing_is_asked_and_the_pauses_between_requests_grow() {
    let fake = FakeBasiq::start().await;
    let (client, clock, upstream) = fake.client(1000);
    fake.tokens(vec![FakeReply::Raw(503, String::new()); 4]);
    at_once(&client, 10).await;
    assert!(upstream.is_breaker_open());
    for (seconds, requests) in [(1, 2), (1, 2), (1, 3), (3, 3), (1, 4)] {
        clock.advance(Duration::from_secs(seconds));
        at_once(&client, 10).await;
        assert_eq!(fake.count("/token"), requests);
    }
    clock.advance(Duration::from_secs(8));
    client.job(&job_id()).await.unwrap();
    assert_eq!((fake.count("/token"), fake.count("/jobs/job-1")), (5, 1));
    assert!(!upstream.is_breaker_open());
}

#[tokio::test]
async fn a_small_budget_gives_room_for_one_call_at_a_time() {
    let fake = FakeBasiq::start().await;
    for (rps, calls) in [(1, 1), (3, 1), (20, 9), (100, 47)] {
        let (client, _, _) = fake.client(rps);
        assert_eq!(client.capacity(0).calls, calls, "{rps}");
        assert_eq!(client.capacity(calls).calls, 0, "{rps}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    fake.others([FakeReply::Raw(302, String::new())]);
    let error = client.job(&job_id()).await.unwrap_err();
    assert!(matches!(error, BasiqError::Status { status: 302, .. }));
    assert_eq!(fake.count("/jobs/job-1"), 1);
}

#[tokio::test]
async fn a_broken_connection_is_tried_once_more() {
    for (broken, works) in [(1, true), (2, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, _, upstream) = client_of(listener.local_addr().unwrap(), 1000);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_broken(listener, broken, Arc::clone(&seen)));
        let result = client.job(&job_id()).await;
        assert_eq!(result.is_ok(), works, "{result:?}");
        assert_eq!(seen.lock().unwrap().len(), 3);
        let expected = if works {
            UpstreamHealth::Ok
        } else {
            UpstreamHealth::Failing
        };
        assert_eq!(upstream.health(), expected);
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (client, _, _) = client_of(address, 1000);
    let error = client.job(&job_id()).await.unwrap_err();
    assert!(matches!(error, BasiqError::Unreachable(_)), "{error}");
    assert!(!format!("{client:?} {error:?}").contains("a2V5"));
}
