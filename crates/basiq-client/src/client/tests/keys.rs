//! Tests of API keys that Basiq refuses, and of their replacement.

use super::*;

#[tokio::test]
async fn a_wrong_key_stops_all_calls_for_thirty_seconds() {
    for status in [400, 401, 404] {
        let fake = FakeBasiq::start().await;
        let (client, clock, upstream) = fake.client(1000);
        fake.tokens([FakeReply::Json(status, error_body("no such key"))]);
        let refused = at_once(&client, 10).await;
        assert!(
            refused
                .iter()
                .all(|result| matches!(result, Err(BasiqError::KeyRefused)))
        );
        clock.advance(Duration::from_secs(29));
        let error = client.job(&job_id()).await.unwrap_err();
        assert!(matches!(error, BasiqError::KeyRefused));
        assert_eq!((fake.count("/token"), fake.count("/jobs/job-1")), (1, 0));
        assert_eq!(upstream.health(), UpstreamHealth::KeyRefused);
        clock.advance(Duration::from_secs(1));
        client.job(&job_id()).await.unwrap();
        assert_eq!(
            (fake.count("/token"), upstream.health()),
            (2, UpstreamHealth::Ok)
        );
    }
}

#[tokio::test]
async fn another_key_takes_the_place_of_a_refused_one_at_once() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    fake.tokens([FakeReply::Json(401, error_body("no such key"))]);
    client.job(&job_id()).await.unwrap_err();
    assert!(
        !client.replace_key(&"a2V5".into()).await.unwrap(),
        "the same"
    );
    let error = client.job(&job_id()).await.unwrap_err();
    assert!(matches!(error, BasiqError::KeyRefused));
    assert!(client.capacity(0).calls == 0);
    assert!(client.replace_key(&"bmV3".into()).await.unwrap());
    client.job(&job_id()).await.unwrap();
    assert_eq!(upstream.health(), UpstreamHealth::Ok);
    let keys: Vec<_> = {
        let script = fake.script.lock();
        let asked = script.seen.iter().filter(|(_, path, _)| path == "/token");
        asked.map(|(_, _, key)| key.clone()).collect()
    };
    assert_eq!(keys, ["Basic a2V5", "Basic bmV3"]);
    let unfit = client.replace_key(&"a\nb".into()).await;
    assert!(unfit.is_err());
    client.job(&job_id()).await.unwrap();
    assert_eq!(fake.count("/token"), 2, "the key before stays in force");
}

#[tokio::test]
async fn throttled_token_requests_rest_for_a_minute_and_the_old_token_lives_on() {
    let fake = FakeBasiq::start().await;
    let (client, clock, upstream) = fake.client(1000);
    fake.tokens([FakeReply::Json(403, error_body("Invalid request"))]);
    for _ in 0..3 {
        let error = client.job(&job_id()).await.unwrap_err();
        assert!(matches!(
            error,
            BasiqError::Throttled {
                status: 403,
                retry_after: Some(_)
            }
        ));
    }
    assert_eq!(
        (fake.count("/token"), upstream.health()),
        (1, UpstreamHealth::Throttled)
    );
    clock.advance(Duration::from_secs(59));
    client.job(&job_id()).await.unwrap_err();
    clock.advance(Duration::from_secs(1));
    client.job(&job_id()).await.unwrap();
    clock.advance(Duration::from_mins(50));
    fake.tokens([FakeReply::Json(403, error_body("Invalid request"))]);
    client.job(&job_id()).await.unwrap();
    client.job(&job_id()).await.unwrap();
    assert_eq!(fake.count("/token"), 3);
}

#[tokio::test]
async fn a_disabled_account_stops_calls_as_a_wrong_key_does() {
    let fake = FakeBasiq::start().await;
    let (client, clock, upstream) = fake.client(1000);
    fake.others([FakeReply::Json(403, error_body("This account is disabled"))]);
    client.job(&job_id()).await.unwrap_err();
    clock.advance(Duration::from_secs(29));
    client.job(&job_id()).await.unwrap_err();
    assert_eq!(
        (client.capacity(0).calls, fake.count("/jobs/job-1")),
        (0, 1)
    );
    assert_eq!(upstream.health(), UpstreamHealth::KeyRefused);
    clock.advance(Duration::from_secs(1));
    assert_eq!(client.capacity(0).calls, 1);
    client.job(&job_id()).await.unwrap();
    assert_eq!(fake.count("/token"), 2);
}

#[tokio::test]
async fn an_invalid_request_for_a_token_is_throttling_whatever_else_is_said() {
    let listed = |code: &str, title: &str, detail: &str| {
        json!({"data": [{"code": code, "title": title, "detail": detail}]}).to_string()
    };
    for (body, retry_after, health) in [
        (
            listed("forbidden-access", "Forbidden", "Invalid request"),
            "",
            UpstreamHealth::Throttled,
        ),
        (
            listed("access-denied", "disabled", "INVALID REQUEST: 1500"),
            "",
            UpstreamHealth::Throttled,
        ),
        ("Invalid request".to_owned(), "", UpstreamHealth::Throttled),
        (
            listed("too-many-requests", "", ""),
            "3600",
            UpstreamHealth::Throttled,
        ),
        (
            listed("forbidden-access", "Forbidden", "Not yours"),
            "",
            UpstreamHealth::KeyRefused,
        ),
        (
            "<html>forbidden by the firewall</html>".to_owned(),
            "",
            UpstreamHealth::Failing,
        ),
    ] {
        let fake = FakeBasiq::start().await;
        let (client, clock, upstream) = fake.client(1000);
        fake.tokens([FakeReply::Slow(403, body.clone(), retry_after)]);
        client.job(&job_id()).await.unwrap_err();
        assert_eq!(upstream.health(), health, "{body}");
        clock.advance(Duration::from_mins(1));
        client.job(&job_id()).await.unwrap();
        assert_eq!(fake.count("/token"), 2, "{body}");
    }
}

#[tokio::test]
async fn a_page_in_place_of_a_token_says_nothing_of_the_key() {
    let route = r#"{"data":[{"code":"resource-not-found","title":"Route not found"}]}"#;
    for body in ["", "<html>404</html>", "default backend - 404", "{}", route] {
        for status in [400, 401, 403, 404] {
            let fake = FakeBasiq::start().await;
            let (client, clock, upstream) = fake.client(1000);
            fake.tokens([FakeReply::Raw(status, body.to_owned())]);
            let error = client.job(&job_id()).await.unwrap_err();
            let shown = format!("{status} {body}: {error}");
            assert!(matches!(error, BasiqError::Unreadable(_)), "{shown}");
            assert_eq!(upstream.health(), UpstreamHealth::Failing, "{shown}");
            assert!(upstream.is_breaker_open(), "{shown}");
            clock.advance(Duration::from_secs(1));
            client.job(&job_id()).await.unwrap();
            assert_eq!(upstream.health(), UpstreamHealth::Ok, "{shown}");
        }
    }
}

#[tokio::test]
async fn a_token_that_is_over_at_once_is_used_for_a_minute_all_the_same() {
    for life in [json!(0), json!(-1), json!("0")] {
        let fake = FakeBasiq::start().await;
        let (client, clock, _) = fake.client(1000);
        let token = json!({"access_token": "t", "expires_in": life});
        fake.tokens(vec![FakeReply::Json(200, token); 20]);
        for _ in 0..10 {
            client.job(&job_id()).await.unwrap();
        }
        clock.advance(Duration::from_secs(47));
        client.job(&job_id()).await.unwrap();
        assert_eq!(fake.count("/token"), 1, "{life}");
    }
}
