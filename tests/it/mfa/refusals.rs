//! Answers that are refused, and what the relay then does not do.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Request, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    mfa::{MFA, SECOND, asked, asking, last, problem, respond},
    support::{Builder, TestApp, job},
};

#[tokio::test]
async fn only_what_asks_now_can_be_answered() {
    let mut app = TestApp::new().await;
    let job_id = app.sandbox.seed_job(asking());
    let early = app.watch(&job_id).await;
    app.run_due().await;
    let closed = (409, "no-open-challenge");
    assert_eq!(problem(&respond(&app, &early, &["1234"]).await), closed);
    app.pass(3 * SECOND, SECOND).await;

    let other = app.add_client("other").await;
    let path = format!("/watch/{early}/mfa");
    let body = json!({ "response": ["1234"] });
    let stranger = app.call_as(&other, Method::POST, &path, Some(&body)).await;
    assert_eq!(problem(&stranger), (404, "not-found"));
    let nowhere = app.post("/watch/wch_1/mfa", &body).await;
    assert_eq!(problem(&nowhere), (404, "not-found"));
    let unknown = "/watch/wch_01KAR2D3CV9Z8X7W6V5T4S3R2Q/mfa";
    assert_eq!(problem(&app.post(unknown, &body).await), (404, "not-found"));

    assert_eq!(respond(&app, &early, &["1234"]).await.status, 202);
    app.run_due().await;
    assert_eq!(problem(&respond(&app, &early, &["1234"]).await), closed);
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(app.story(&early).await["state"], "settled");
    assert_eq!(problem(&respond(&app, &early, &["1234"]).await), closed);

    let cancelled = asked(&mut app).await;
    app.delete(&format!("/watch/{cancelled}")).await;
    assert_eq!(problem(&respond(&app, &cancelled, &["1234"]).await), closed);
    assert_eq!(app.sandbox.calls().count(MFA), 1);
    let get = app.get(&path).await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn each_wrong_shape_is_named_and_nothing_is_sent() {
    let mut app = TestApp::new().await;
    let watch = asked(&mut app).await;
    let path = format!("/watch/{watch}/mfa");
    let long = "x".repeat(257);
    for (body, pointers) in [
        (json!({}), vec!["/response"]),
        (json!({ "response": null }), vec!["/response"]),
        (json!({ "response": "s3cret" }), vec!["/response"]),
        (json!({ "response": [] }), vec!["/response"]),
        (json!({ "response": vec!["s3cret"; 11] }), vec!["/response"]),
        (
            json!({ "response": ["", long, 7, "s3cret"], "mfa-response": ["s3cret"] }),
            vec!["/response/0", "/response/1", "/response/2", "/mfa-response"],
        ),
    ] {
        let answer = app.post(&path, &body).await;
        assert_eq!(problem(&answer), (422, "invalid-field"), "{body}");
        let faults = answer.body["errors"].as_array().unwrap();
        let told: Vec<_> = faults.iter().map(|fault| &fault["pointer"]).collect();
        assert_eq!(told, pointers, "{body}");
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
    }
    let bearer = format!("Bearer {}", app.client.key.expose());
    let (json, big) = ("application/json", "x".repeat(16 * 1024 + 1));
    for (key, kind, body, expected) in [
        ("Bearer brk_x", json, "{}", (401, "unauthorized")),
        (&bearer, json, "s3cret", (400, "not-json")),
        (&bearer, json, "[\"s3cret\"]", (422, "not-an-object")),
        (&bearer, json, "\"s3cret\"", (422, "not-an-object")),
        (&bearer, json, &big, (413, "body-too-large")),
        (&bearer, "text/plain", "{}", (415, "unsupported-media-type")),
    ] {
        let request = Request::post(&path)
            .header("authorization", key)
            .header("content-type", kind)
            .body(Body::from(body.to_owned()));
        let answer = app.send(request.unwrap()).await;
        assert_eq!(problem(&answer), expected);
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
    }
    assert_eq!(app.sandbox.calls().count(MFA), 0);
    app.leave_work();
}

#[tokio::test]
async fn a_wrong_answer_is_refused_and_its_consequence_told_at_once() {
    let mut app = TestApp::new().await;
    let watch = asked(&mut app).await;
    // Basiq checks the number of answers before their content, so the challenge stays open.
    let answer = respond(&app, &watch, &["1", "2"]).await;
    assert_eq!(problem(&answer), (422, "mfa-refused"));
    app.run_due().await;
    assert_eq!(app.story(&watch).await["state"], "awaiting-user");

    let answer = respond(&app, &watch, &["4321"]).await;
    assert_eq!(problem(&answer), (422, "mfa-refused"));
    assert_eq!(answer.body["basiqCode"], "parameter-not-valid");
    assert!(answer.body["correlationId"].is_string(), "{}", answer.text);
    assert!(!answer.text.contains("4321"), "{}", answer.text);
    app.run_due().await;
    let event = last(&app);
    assert_eq!(
        (&event["errorCode"], &event["action"]),
        (&json!("mfa-failed"), &json!("retry"))
    );
    assert_eq!(app.sandbox.calls().count(MFA), 2);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_refused_by_basiq() {
    let mut app = TestApp::new().await;
    let watch = asked(&mut app).await;
    // No look has yet found that the time is over.
    app.clock.advance(Duration::from_secs(125));
    let answer = respond(&app, &watch, &["1234"]).await;
    assert_eq!(problem(&answer), (422, "mfa-refused"));
    app.run_due().await;
    assert_eq!(last(&app)["errorCode"], "mfa-failed");
    let answer = respond(&app, &watch, &["1234"]).await;
    assert_eq!(problem(&answer), (409, "no-open-challenge"));
}

#[tokio::test]
async fn of_many_answers_at_once_one_reaches_basiq() {
    let mut app = TestApp::new().await;
    let watch = asked(&mut app).await;
    let answers = (0..10).map(|_| respond(&app, &watch, &["1234"]));
    let answers = futures_util::future::join_all(answers).await;
    let count = |wanted| answers.iter().map(problem).filter(|p| *p == wanted).count();
    assert_eq!((count((202, "")), count((409, "being-answered"))), (1, 9));
    assert_eq!(app.sandbox.calls().count(MFA), 1);
    // The relay also refuses this answer, because no look has yet found the challenge answered.
    let again = respond(&app, &watch, &["1234"]).await;
    assert_eq!(problem(&again), (409, "being-answered"));
    app.pass(4 * SECOND, SECOND).await;
    assert_eq!(last(&app)["status"], "success");
}

#[tokio::test]
async fn a_job_that_does_not_tell_whose_it_is_cannot_be_answered_here() {
    let mut app = TestApp::new().await;
    let challenge = json!({ "type": "mfa", "method": "token", "input": ["Code"] });
    let mut document = job(
        "j-1",
        app.now(),
        &[("mfa-challenge", "in-progress", challenge)],
    );
    document["links"] = Value::Null;
    app.sandbox.seed_document("j-1", document);
    let watch = app.watch("j-1").await;
    app.run_due().await;
    let answer = respond(&app, &watch, &["1234"]).await;
    assert_eq!(problem(&answer), (409, "user-unknown"));
    app.leave_work();
}

/// How a fake Basiq reacts to the first answer. It accepts all later ones.
#[derive(Clone, Copy)]
enum Does {
    Status(u16),
    Lists(u16),
    Page(u16),
    Throttles,
    Hangs,
    /// Refuses the next token of scope `CLIENT_ACCESS`.
    NoToken(u16),
    SaysTheAnswer,
}

#[derive(Default)]
struct Book {
    does: VecDeque<Does>,
    answers: Vec<(String, Value)>,
}

type Shared = Arc<Mutex<Book>>;

async fn token(State(book): State<Shared>, form: String) -> Response {
    let is_person = form.contains("scope=CLIENT_ACCESS");
    if is_person {
        assert!(form.contains("userId=u-7"), "{form}");
        let mut book = book.lock().unwrap();
        if let Some(Does::NoToken(status)) = book.does.front() {
            let status = StatusCode::from_u16(*status).unwrap();
            book.does.pop_front();
            return (status, Json(errors())).into_response();
        }
    }
    let text = if is_person { "of-person" } else { "of-server" };
    let token = json!({ "access_token": text, "expires_in": 3600, "token_type": "Bearer" });
    Json(token).into_response()
}

/// Returns a list of errors in Basiq's form.
fn errors() -> Value {
    json!({ "type": "list", "data": [{ "type": "error", "code": "parameter-not-valid" }] })
}

async fn take(State(book): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let does = {
        let mut book = book.lock().unwrap();
        let authorization = headers["authorization"].to_str().unwrap().to_owned();
        let body = serde_json::from_slice(&body).unwrap();
        book.answers.push((authorization, body));
        book.does.pop_front()
    };
    match does {
        None => (
            StatusCode::ACCEPTED,
            Json(json!({ "type": "job", "id": "j-1" })),
        )
            .into_response(),
        Some(Does::Lists(status)) => {
            (StatusCode::from_u16(status).unwrap(), Json(errors())).into_response()
        }
        Some(Does::Page(status)) => {
            (StatusCode::from_u16(status).unwrap(), "<html>1234").into_response()
        }
        Some(Does::Status(status)) => (StatusCode::from_u16(status).unwrap(), "{}").into_response(),
        Some(Does::Throttles) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3")]).into_response()
        }
        Some(Does::SaysTheAnswer) => {
            let fault = json!({ "code": "1234", "detail": "1234 is wrong" });
            let body = json!({ "correlationId": "cor-1234", "data": [fault] });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
        Some(Does::Hangs | Does::NoToken(_)) => std::future::pending().await,
    }
}

/// Starts a Basiq whose only job asks for a code for ever.
async fn fake(tasks: &mut JoinSet<()>, does: Does) -> (Builder, Shared) {
    let book = Shared::default();
    book.lock().unwrap().does.push_back(does);
    let challenge = json!({ "type": "mfa", "method": "token", "input": ["Code"] });
    let step = json!({ "title": "mfa-challenge", "status": "in-progress", "result": challenge });
    let links = json!({ "source": "/users/u-7/connections/c-9" });
    let document = json!({ "type": "job", "id": "j-1", "steps": [step], "links": links });
    let router = Router::new()
        .route("/token", post(token))
        .route("/jobs/{id}", get(move || async move { Json(document) }))
        .route("/jobs/{id}/mfa", post(take))
        .with_state(Arc::clone(&book));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let builder = TestApp::builder()
        .basiq(url.parse().unwrap())
        .settings(|settings| settings.basiq.timeout = Duration::from_millis(500));
    (builder, book)
}

#[tokio::test]
async fn each_fault_of_basiqs_is_told_and_no_answer_is_sent_twice() {
    let away = |after| (503, "upstream-unavailable", after);
    let unclear = (502, "upstream-failed", "");
    for (does, sent, expected) in [
        (Does::Hangs, 1, unclear),
        (Does::Status(500), 1, unclear),
        (Does::Status(503), 1, unclear),
        (Does::Status(302), 1, unclear),
        (Does::Status(403), 1, unclear),
        (Does::Throttles, 1, away("3")),
        (Does::NoToken(500), 0, away("2")),
        (Does::NoToken(400), 0, unclear),
        (Does::Lists(400), 1, (422, "mfa-refused", "")),
        (Does::Lists(404), 1, (422, "mfa-refused", "")),
        (Does::Lists(200), 1, unclear),
        (Does::Page(400), 1, unclear),
        (Does::Page(404), 1, unclear),
        (Does::Page(200), 1, unclear),
        (Does::SaysTheAnswer, 1, (422, "mfa-refused", "")),
    ] {
        let mut tasks = JoinSet::new();
        let (builder, book) = fake(&mut tasks, does).await;
        let mut app = builder.build().await;
        let watch = app.watch("j-1").await;
        app.run_due().await;
        let answer = respond(&app, &watch, &["1234"]).await;
        let (status, kind) = problem(&answer);
        let after = answer.header("retry-after");
        assert_eq!((status, kind, after), expected, "{}", answer.text);
        assert!(!answer.text.contains("1234"), "{}", answer.text);
        assert_eq!(book.lock().unwrap().answers.len(), sent, "{}", answer.text);
        app.leave_work();
    }
}

#[tokio::test]
async fn an_answer_that_failed_may_be_sent_again() {
    let mut tasks = JoinSet::new();
    let (builder, book) = fake(&mut tasks, Does::Hangs).await;
    let mut app = builder.build().await;
    let watch = app.watch("j-1").await;
    app.run_due().await;
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 502);
    assert_eq!(respond(&app, &watch, &["Rex", "Home"]).await.status, 202);
    let expected = (
        "Bearer of-person".to_owned(),
        json!({ "mfa-response": ["Rex", "Home"] }),
    );
    assert_eq!(book.lock().unwrap().answers.last(), Some(&expected));
    app.leave_work();
}

#[tokio::test]
async fn without_basiq_the_answer_was_not_taken() {
    let mut app = TestApp::new().await;
    let watch = asked(&mut app).await;
    app.sandbox.set_faults(vec!["500".parse().unwrap()]);
    let answer = respond(&app, &watch, &["1234"]).await;
    assert_eq!(problem(&answer), (503, "upstream-unavailable"));
    assert_eq!(answer.header("retry-after"), "2");
    app.sandbox.set_faults(Vec::new());
    app.clock.advance(2 * SECOND);
    assert_eq!(respond(&app, &watch, &["1234"]).await.status, 202);
    app.pass(5 * SECOND, SECOND).await;
    assert_eq!(last(&app)["status"], "success");
}
