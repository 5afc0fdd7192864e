//! Tests of the list of a user's jobs, and of the method of a connection.

use std::sync::atomic::AtomicUsize;

use relay_domain::{Action, BasiqId, StepStatus};

use super::*;
use crate::{JobList, UserJobs};

fn user() -> BasiqId {
    "u-1".parse().unwrap()
}

/// Returns a job as lists have it.
fn job(id: &str, status: &str) -> Value {
    json!({
        "type": "job", "id": id, "created": "2026-11-20T09:00:00Z", "updated": "2026-11-20T09:00:31Z",
        "institution": {"type": "institution", "id": "AU00000", "links": {"self": "/institutions/AU00000"}},
        "steps": [
            {"title": "verify-credentials", "status": "success",
                "result": {"type": "link", "url": "/users/u-1/connections/c-1"}},
            {"title": "retrieve-accounts", "status": status, "result": null},
        ],
        "links": {"self": format!("/jobs/{id}"), "source": "/users/u-1/connections/c-1"},
    })
}

fn page(jobs: &[Value], next: Option<&str>) -> FakeReply {
    let links = json!({"self": "https://au-api.basiq.io/users/u-1/jobs", "next": next});
    FakeReply::Json(
        200,
        json!({"type": "list", "size": 9, "data": jobs, "links": links}),
    )
}

async fn list(client: &BasiqClient) -> JobList {
    match client.jobs_of_user(&user(), || {}).await.unwrap() {
        UserJobs::Listed(list) => list,
        UserJobs::UnknownUser => panic!("unknown"),
    }
}

fn ids(list: &JobList) -> Vec<&str> {
    list.jobs.iter().map(|job| job.id.as_str()).collect()
}

fn queries(fake: &FakeBasiq) -> Vec<String> {
    let script = fake.script.lock();
    let asked = script.seen.iter().zip(&script.queries);
    asked
        .filter(|((_, path, _), _)| path == "/users/u-1/jobs")
        .map(|(_, query)| query.clone())
        .collect()
}

#[tokio::test]
async fn a_list_tells_the_id_the_times_the_steps_and_the_connection_of_each_job() {
    let fake = FakeBasiq::start().await;
    let (client, _, upstream) = fake.client(1000);
    fake.others([page(
        &[job("j-2", "in-progress"), job("j-1", "success")],
        None,
    )]);
    let list = list(&client).await;
    assert_eq!((ids(&list), list.is_complete), (vec!["j-2", "j-1"], true));
    let snapshot = &list.jobs[0].snapshot;
    assert_eq!(snapshot.created, "2026-11-20T09:00:00Z".parse().ok());
    assert_eq!(snapshot.updated, "2026-11-20T09:00:31Z".parse().ok());
    let statuses: Vec<_> = snapshot.steps.iter().map(|step| &step.status).collect();
    assert_eq!(statuses, [&StepStatus::Success, &StepStatus::InProgress]);
    let context = &snapshot.context;
    assert_eq!(context.user_id.as_deref(), Some("u-1"));
    assert_eq!(context.connection_id.as_deref(), Some("c-1"));
    assert_eq!(context.institution_id.as_deref(), Some("AU00000"));
    assert_eq!(queries(&fake), [""]);
    assert_eq!(upstream.health(), UpstreamHealth::Ok);
}

#[tokio::test]
async fn pages_are_followed_at_basiqs_own_address_only() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    fake.others([
        page(
            &[job("j-3", "success")],
            Some("https://evil.example/users/u-1/jobs?next=a%2Fb"),
        ),
        page(
            &[job("j-3", "success"), job("j-2", "success")],
            Some("?next=c"),
        ),
        page(&[job("j-1", "success")], Some("")),
    ]);
    let list = list(&client).await;
    assert_eq!(
        (ids(&list), list.is_complete),
        (vec!["j-3", "j-2", "j-1"], true)
    );
    assert_eq!(queries(&fake), ["", "next=a%2Fb", "next=c"]);
}

#[tokio::test]
async fn a_list_without_end_is_cut_and_says_so() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    let again = page(&[job("j-1", "success")], Some("/users/u-1/jobs?next=1"));
    fake.others(vec![again; 20]);
    let list_of_one = list(&client).await;
    assert_eq!(
        (ids(&list_of_one), list_of_one.is_complete),
        (vec!["j-1"], false)
    );
    assert_eq!(queries(&fake).len(), 5);
    fake.script.lock().forget_others();
    let short = |n: usize| json!({"id": format!("j-{n}")});
    let many: Vec<_> = (0..1001).map(short).collect();
    fake.others([
        page(&many[..1000], None),
        page(&many, None),
        page(&many, Some("?next=1")),
    ]);
    let full = list(&client).await;
    assert_eq!((full.jobs.len(), full.is_complete), (1000, true));
    for _ in 0..2 {
        let cut = list(&client).await;
        assert_eq!((cut.jobs.len(), cut.is_complete), (1000, false));
    }
    assert_eq!(queries(&fake).len(), 8);
}

#[tokio::test]
async fn jobs_without_an_id_or_of_another_user_are_left_out() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    let mut foreign = job("j-9", "success");
    foreign["links"]["source"] = json!("/users/u-2/connections/c-9");
    let mut capitals = job("j-3", "success");
    capitals["links"]["source"] = json!("/users/U-1/connections/c-1");
    let odd = [
        json!(null),
        json!("j-1"),
        json!({}),
        json!({"id": "a/b"}),
        json!({"id": null}),
    ];
    let mut jobs = vec![foreign, capitals, json!({"id": 61723})];
    jobs.extend(odd);
    fake.others([page(&jobs, None)]);
    let list = list(&client).await;
    assert_eq!((ids(&list), list.is_complete), (vec!["j-3", "61723"], true));
}

/// Answers to a list of jobs, and what each means.
fn answers() -> Vec<(FakeReply, &'static str)> {
    let listed = |code: &str, detail: &str| {
        json!({"type": "list", "correlationId": "cor-1",
            "data": [{"type": "error", "code": code, "title": "T", "detail": detail}]})
    };
    let not_found = || listed("resource-not-found", "Resource not found.");
    vec![
        (FakeReply::Json(404, not_found()), "unknown"),
        (
            FakeReply::Json(404, listed("user-not-found", "No such user")),
            "unknown",
        ),
        (
            FakeReply::Json(404, listed("resource-not-found", "Route not found")),
            "unreadable",
        ),
        (
            FakeReply::Json(404, json!({"message": "not found"})),
            "unreadable",
        ),
        (FakeReply::Raw(404, String::new()), "unreadable"),
        (
            FakeReply::Raw(404, "<html>404</html>".to_owned()),
            "unreadable",
        ),
        (
            FakeReply::Json(400, listed("parameter-not-valid", "ID value")),
            "status",
        ),
        (
            FakeReply::Json(403, listed("forbidden-access", "Not yours")),
            "forbidden",
        ),
        (
            FakeReply::Json(429, listed("too-many-requests", "")),
            "throttled",
        ),
        (FakeReply::Json(503, not_found()), "status"),
        (FakeReply::Json(200, not_found()), "unreadable"),
        (
            FakeReply::Json(200, json!({"type": "job", "id": "u-1"})),
            "unreadable",
        ),
        (FakeReply::Raw(200, "<html>".to_owned()), "unreadable"),
    ]
}

#[tokio::test]
async fn only_basiqs_own_word_makes_a_user_unknown() {
    for (reply, expected) in answers() {
        let fake = FakeBasiq::start().await;
        let (client, _, upstream) = fake.client(1000);
        let shown = format!("{reply:?}");
        fake.others([reply]);
        let told = match client.jobs_of_user(&user(), || {}).await {
            Ok(UserJobs::UnknownUser) => "unknown",
            Ok(UserJobs::Listed(_)) => "listed",
            Err(error) => error.reason(),
        };
        assert_eq!(told, expected, "{shown}");
        match expected {
            "unknown" => assert_eq!(upstream.health(), UpstreamHealth::Ok, "{shown}"),
            "unreadable" => assert_eq!(upstream.health(), UpstreamHealth::Failing, "{shown}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_page_that_fails_fails_the_list_and_a_lost_page_is_no_lost_user() {
    let not_found = json!({"data": [{"type": "error", "code": "resource-not-found"}]});
    for (reply, expected) in [
        (FakeReply::Raw(502, String::new()), "status"),
        (FakeReply::Json(404, not_found), "not-found"),
        (FakeReply::RetryAfter(429, "7"), "throttled"),
    ] {
        let fake = FakeBasiq::start().await;
        let (client, _, _) = fake.client(1000);
        fake.others([page(&[job("j-1", "success")], Some("?next=b")), reply]);
        let further = AtomicUsize::new(0);
        let count = || {
            further.fetch_add(1, Ordering::Relaxed);
        };
        let error = client.jobs_of_user(&user(), count).await.unwrap_err();
        assert_eq!(error.reason(), expected);
        assert_eq!(queries(&fake), ["", "next=b"]);
        assert_eq!(further.into_inner(), 1, "the lost page was a call too");
    }
}

#[tokio::test]
async fn a_list_is_asked_for_again_with_a_new_token_and_kept_within_the_budget() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(20);
    let more = |n: usize| page(&[job(&format!("j-{n}"), "success")], Some("?next=x"));
    fake.others([FakeReply::Json(401, error_body("no longer"))]);
    fake.others((0..5).map(more));
    let began = Instant::now();
    assert_eq!(list(&client).await.jobs.len(), 5);
    assert_eq!(
        (fake.count("/token"), fake.count("/users/u-1/jobs")),
        (2, 6)
    );
    // Eight calls are at least seven slots of a twentieth of a second apart.
    assert!(
        began.elapsed() >= Duration::from_millis(340),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_connection_tells_what_the_person_does_when_it_is_invalid() {
    let fake = FakeBasiq::start().await;
    let (client, _, _) = fake.client(1000);
    for (method, action) in [
        ("web", Action::ResubmitCredentials),
        ("open-banking", Action::Reauthorise),
    ] {
        let connection =
            json!({"type": "connection", "id": "c-1", "method": method, "status": "invalid"});
        fake.others([FakeReply::Json(200, connection)]);
        let connection = client.connection("u-1", "c-1").await.unwrap();
        assert_eq!(connection.action_if_invalid(), action, "{method}");
    }
    let gone = json!({"data": [{"type": "error", "code": "resource-not-found"}]});
    fake.others([FakeReply::Json(404, gone)]);
    let error = client.connection("u-1", "c-1").await.unwrap_err();
    assert!(matches!(error, BasiqError::NotFound { .. }), "{error}");
    assert_eq!(fake.count("/users/u-1/connections/c-1"), 3);
}
