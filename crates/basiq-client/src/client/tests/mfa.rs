//! Tests of answers to challenges: how each response is interpreted, and that no answer is sent twice.

use relay_domain::MfaAnswer;

use super::*;
use crate::AnswerError;

const MFA: &str = "/jobs/job-1/mfa";

fn answer() -> MfaAnswer {
    MfaAnswer::new(vec!["s3cret".to_owned()]).unwrap()
}

async fn pass_on(client: &BasiqClient) -> Result<(), AnswerError> {
    client.answer_challenge(&job_id(), "u-7", &answer()).await
}

fn word(result: &Result<(), AnswerError>) -> &'static str {
    match result {
        Ok(()) => "accepted",
        Err(AnswerError::Refused { .. }) => "refused",
        Err(AnswerError::NotTaken(_)) => "not taken",
        Err(AnswerError::Unknown(_)) => "unknown",
    }
}

#[tokio::test]
async fn each_answer_of_basiqs_means_accepted_refused_not_taken_or_unknown_and_is_sent_once() {
    let error_body = || error_body("s3cret is not right");
    let unknown = || json!({"data": [{"code": "resource-not-found", "title": "s3cret"}]});
    for (reply, expected) in [
        (FakeReply::Json(202, json!({"id": "job-1"})), "accepted"),
        (FakeReply::Json(200, json!(null)), "accepted"),
        (FakeReply::Raw(202, String::new()), "accepted"),
        (FakeReply::Raw(204, String::new()), "accepted"),
        (FakeReply::Raw(200, "<html>s3cret".to_owned()), "unknown"),
        (FakeReply::Raw(202, "s3cret".to_owned()), "unknown"),
        (FakeReply::Json(202, json!({"id": "job-2"})), "unknown"),
        (FakeReply::Json(200, error_body()), "unknown"),
        (FakeReply::Raw(404, "<html>s3cret".to_owned()), "unknown"),
        (FakeReply::Raw(400, String::new()), "unknown"),
        (FakeReply::Raw(422, "s3cret".to_owned()), "unknown"),
        (FakeReply::Json(400, error_body()), "refused"),
        (FakeReply::Json(404, unknown()), "refused"),
        (FakeReply::Json(409, error_body()), "refused"),
        (FakeReply::Json(422, error_body()), "refused"),
        (FakeReply::Json(403, error_body()), "not taken"),
        (FakeReply::Raw(403, "<html>".to_owned()), "unknown"),
        (FakeReply::RetryAfter(429, "7"), "not taken"),
        (FakeReply::Raw(408, String::new()), "unknown"),
        (FakeReply::Raw(500, String::new()), "unknown"),
        (FakeReply::Raw(503, String::new()), "unknown"),
        (FakeReply::Raw(302, String::new()), "unknown"),
        (FakeReply::Hang, "unknown"),
    ] {
        let fake = FakeBasiq::start().await;
        let (client, _, upstream) = fake.client(1000);
        let shown = format!("{:?}", reply.clone());
        fake.others([reply]);
        let result = pass_on(&client).await;
        assert_eq!(word(&result), expected, "{shown}: {result:?}");
        assert_eq!((fake.count("/token"), fake.count(MFA)), (1, 1), "{shown}");
        assert!(!format!("{result:?}").contains("s3cret"), "{result:?}");
        assert_ne!(upstream.health(), UpstreamHealth::KeyRefused, "{shown}");
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_answer_sent_again() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    fake.others([FakeReply::Json(401, error_body("no longer"))]);
    assert_eq!(word(&pass_on(&client).await), "accepted");
    assert_eq!((fake.count("/token"), fake.count(MFA)), (2, 2));
    fake.others(vec![
        FakeReply::Json(403, error_body("Token has expired"));
        2
    ]);
    assert_eq!(word(&pass_on(&client).await), "not taken");
    assert_eq!((fake.count("/token"), fake.count(MFA)), (4, 4));
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_an_unknown_person_says_nothing_about_the_key() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    for status in [400, 401, 404, 500] {
        fake.tokens([FakeReply::Json(status, error_body("no such user"))]);
        assert_eq!(word(&pass_on(&client).await), "not taken", "{status}");
    }
    fake.tokens([FakeReply::Hang]);
    assert_eq!(word(&pass_on(&client).await), "not taken");
    assert_eq!(fake.count(MFA), 0);
    assert_eq!(upstream.health(), UpstreamHealth::Ok);
}

#[tokio::test]
async fn a_throttled_token_endpoint_is_left_alone() {
    let fake = FakeBasiq::start().await;
    let (client, clock, _) = fake.client(1000);
    fake.tokens([FakeReply::Json(403, error_body("Invalid request"))]);
    for _ in 0..3 {
        assert_eq!(word(&pass_on(&client).await), "not taken");
    }
    assert_eq!((fake.count("/token"), fake.count(MFA)), (1, 0));
    clock.advance(Duration::from_mins(1));
    assert_eq!(word(&pass_on(&client).await), "accepted");
}

#[tokio::test]
async fn a_refused_key_stops_answers_too() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    fake.tokens([FakeReply::Json(404, error_body("no such key"))]);
    client.job(&job_id()).await.unwrap_err();
    let error = pass_on(&client).await.unwrap_err();
    assert!(
        matches!(error, AnswerError::NotTaken(BasiqError::KeyRefused)),
        "{error:?}"
    );
    assert_eq!(fake.count("/token"), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_answer_left_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, _, _) = client_of(listener.local_addr().unwrap(), 1000);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_broken(listener, 1, Arc::clone(&seen)));
    let result = pass_on(&client).await;
    assert_eq!(word(&result), "unknown", "{result:?}");
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn basiqs_words_are_kept_unless_they_repeat_the_answer() {
    for (code, kept) in [("parameter-not-valid", true), ("bad-s3cret", false)] {
        let fake = FakeBasiq::start().await;
        let (client, _, _) = fake.client(1000);
        let body = json!({"correlationId": "cor-7", "data": [{"code": code}]});
        fake.others([FakeReply::Json(400, body)]);
        let Err(AnswerError::Refused {
            status: 400,
            code: told,
            correlation_id,
        }) = pass_on(&client).await
        else {
            panic!("not refused")
        };
        assert_eq!(told.as_deref(), kept.then_some(code));
        assert_eq!(correlation_id.as_deref(), Some("cor-7"));
    }
}

#[tokio::test]
async fn a_person_waits_eight_seconds_at_most_whatever_the_time_limit_of_a_call() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.patient_client(Duration::from_mins(1));
    fake.others([FakeReply::Hang]);
    let mut calls = JoinSet::new();
    calls.spawn(async move { word(&pass_on(&client).await) });
    while fake.count(MFA) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert_eq!(calls.join_all().await, ["unknown"]);
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(8), "{took:?}");
}
