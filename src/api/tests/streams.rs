//! Tests streams and calls that wait, with paused time.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::web::ProblemCode;

async fn stream(app: &App, path: &str) -> String {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let (parts, body) = app.send(request).await;
    assert_eq!(parts.status, StatusCode::OK, "{body}");
    assert_eq!(parts.headers["content-type"], "text/event-stream");
    assert_eq!(parts.headers["x-accel-buffering"], "no");
    body.as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_nothing_to_tell_says_so_now_and_then_and_ends_after_an_hour() {
    let app = App::new(|_| ());
    let (_, watch) = app.register("job-1").await;
    let began = Instant::now();
    let text = stream(&app, watch["streamUrl"].as_str().unwrap()).await;
    assert_eq!(began.elapsed(), Duration::from_hours(1));
    let (progress, comments) = text.split_once("\n\n").unwrap();
    let (progress, retry) = progress.split_once("\nretry: ").unwrap();
    assert_eq!(
        progress,
        "event: progress\n\
         data: {\"steps\":[],\"state\":\"watching\",\"estimatedSecondsLeft\":null}"
    );
    let retry: u64 = retry.parse().unwrap();
    assert!((2000..=4000).contains(&retry), "{retry}");
    assert_eq!(comments.replace(":\n\n", "").len(), 0, "comments only");
    let times = comments.matches(":\n\n").count();
    assert!((235..=240).contains(&times), "{times}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_may_wait_longer_than_others_and_takes_no_room() {
    let app = App::new(|parts| parts.server.client_rps = 100_000);
    let (_, watch) = app.register("job-1").await;
    let path = format!("GET /watch/{}", watch["id"].as_str().unwrap());
    let began = Instant::now();
    // as many calls as there are permits
    let waiting = (0..1024).map(|_| async {
        let call = format!("{path}?wait=60s");
        app.ask(&call, KEY, None).await.0
    });
    let other = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        app.ask("GET /watch", KEY, None).await.0
    };
    let (waited, other) = tokio::join!(futures_util::future::join_all(waiting), other);
    assert_eq!(other, StatusCode::OK, "others find room");
    assert!(waited.iter().all(|status| *status == StatusCode::OK));
    assert_eq!(began.elapsed(), Duration::from_mins(1));
    for wrong in ["61s", "2m", "1", "-1s", "soon", ""] {
        let (status, problem) = app.ask(&format!("{path}?wait={wrong}"), KEY, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert_eq!(problem["errors"][0]["pointer"], "/wait", "{wrong}");
    }
    let (status, _) = app.ask(&format!("{path}?wait=0s"), KEY, None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(began.elapsed(), Duration::from_mins(1), "it did not wait");
}

#[tokio::test]
async fn streams_of_pages_do_not_use_up_the_calls_of_the_key() {
    let app = App::new(|parts| parts.server.client_rps = 2);
    let (_, watch) = app.register("job-1").await;
    let url = watch["streamUrl"].as_str().unwrap();
    let mut open = Vec::new();
    for _ in 0..20 {
        let request = Request::get(url).body(Body::empty()).unwrap();
        let answer = app.0.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        open.push(answer);
    }
    assert_eq!(app.ask("GET /watch", KEY, None).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn one_watch_is_followed_by_as_many_as_may_and_no_more() {
    let app = App::new(|parts| parts.server.client_rps = 100_000);
    let (_, watch) = app.register("job-1").await;
    let url = watch["streamUrl"].as_str().unwrap();
    let mut open = Vec::new();
    for _ in 0..1024 {
        let request = Request::get(url).body(Body::empty()).unwrap();
        open.push(app.0.clone().oneshot(request).await.unwrap());
    }
    let request = Request::get(url).body(Body::empty()).unwrap();
    let (parts, problem) = app.send(request).await;
    assert_eq!(parts.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(parts.headers["retry-after"], "5");
    assert_eq!(
        problem["type"],
        ProblemCode::TooManyStreams.type_uri(),
        "{problem}"
    );
    // other calls are handled, because an open stream holds no permit
    assert_eq!(app.ask("GET /watch", KEY, None).await.0, StatusCode::OK);
    open.pop();
    let request = Request::get(url).body(Body::empty()).unwrap();
    let answer = app.0.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_address_of_a_stream_is_absolute_where_the_relay_knows_its_own() {
    let base = "https://relay.example/basiq".parse().unwrap();
    let app = App::new(|parts| parts.server.public_url = Some(base));
    let (_, watch) = app.register("job-1").await;
    let url = watch["streamUrl"].as_str().unwrap();
    let id = watch["id"].as_str().unwrap();
    let expected = format!("https://relay.example/basiq/watch/{id}/stream?expires=1800000900&");
    assert!(url.starts_with(&expected), "{url}");
    let (_, page) = app.ask("GET /watch", KEY, None).await;
    assert_eq!(page["items"][0]["streamUrl"], Value::Null, "not in lists");
}

#[tokio::test]
async fn each_way_to_ask_wrongly_for_a_stream_is_told() {
    let app = App::new(|_| ());
    let (_, watch) = app.register("job-1").await;
    let url = watch["streamUrl"].as_str().unwrap();
    let path = url.split('?').next().unwrap();
    let (_, signature) = url.split_once("signature=").unwrap();
    let unknown = "/watch/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q/stream";
    let mut answers = Vec::new();
    for address in [
        path.to_owned(),
        format!("{path}?expires=1800000900"),
        format!("{path}?signature={signature}"),
        format!("{path}?expires=1800000901&signature={signature}"),
        format!("{path}?expires=%2B1800000900&signature={signature}"),
        format!("{path}?expires=1800000900&signature={signature}A"),
        format!("{path}?expires=1800000900&signature=%20"),
        format!("{url}&signature={signature}"),
        format!("{unknown}?expires=1800000900&signature={signature}"),
        unknown.to_owned(),
        "/watch/odd/stream".to_owned(),
    ] {
        let (status, mut problem) = app.ask(&format!("GET {address}"), "", None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{address}");
        problem["instance"] = Value::Null;
        answers.push(problem);
    }
    answers.dedup();
    assert_eq!(
        answers.len(),
        1,
        "none tells more than another: {answers:#?}"
    );
    for (address, key, expected) in [
        (url.to_owned(), "brk_wrong", 401),
        (path.to_owned(), OTHER_KEY, 404),
        (unknown.to_owned(), KEY, 404),
        ("/watch/odd/stream".to_owned(), KEY, 404),
        (format!("{url}&limit=1"), "", 422),
    ] {
        let (status, _) = app.ask(&format!("GET {address}"), key, None).await;
        assert_eq!(status, expected, "{address} {key}");
    }
}
