//! Tests of the list of a user's jobs.

use serde_json::{Value, json};

use crate::{
    JobScript, SandboxOptions,
    http::tests::{TestSandbox, error, login},
};

const HOOLI: (&str, &str, &str) = ("AU00000", "gavinBelson", "hooli2016");
const DAY: u64 = 24 * 3600;

fn good_login() -> Value {
    login(HOOLI.0, HOOLI.1, HOOLI.2)
}

fn ids(list: &Value) -> Vec<&str> {
    let jobs = list["data"].as_array().unwrap().iter();
    jobs.map(|job| job["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_users_jobs_are_listed_newest_first_in_the_documented_form() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let (user, other) = (api.user(&token).await, api.user(&token).await);
    let path = format!("/users/{user}/jobs");
    let empty = api.get(&token, &path).await;
    assert_eq!(
        empty,
        json!({"type": "list", "size": 0, "data": [],
            "links": {"self": format!("http://localhost{path}")}})
    );
    let connection = api.connected(&token, &user, good_login()).await;
    api.connect(&token, &other, good_login()).await;
    let refresh = format!("POST /users/{user}/connections/{connection}/refresh");
    let (_, newest) = api.call(&token, &refresh, None).await;
    let list = api.get(&token, &path).await;
    assert_eq!((&list["type"], &list["size"]), (&json!("list"), &json!(2)));
    assert_eq!(ids(&list)[0], newest["id"]);
    for job in list["data"].as_array().unwrap() {
        let single = format!("/jobs/{}", job["id"].as_str().unwrap());
        let single = api.get(&token, &single).await;
        for field in ["type", "id", "created", "updated", "steps", "links"] {
            assert!(!job[field].is_null(), "{field}");
            assert_eq!(job[field], single[field], "{field}");
        }
        let institution = json!({"type": "institution", "id": "AU00000",
            "links": {"self": "http://localhost/institutions/AU00000"}});
        assert_eq!(job["institution"], institution);
        assert!(single.get("institution").is_none());
        let source = job["links"]["source"].as_str().unwrap();
        assert!(source.ends_with(&connection), "{source}");
    }
}

#[tokio::test]
async fn the_list_can_be_narrowed_to_one_connection() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    let first = api.connected(&token, &user, good_login()).await;
    let body = login("AU00003", "jared", "django");
    api.connected(&token, &user, body).await;
    let path = format!("/users/{user}/jobs");
    assert_eq!(api.get(&token, &path).await["size"], 2);
    for quoted in [format!("'{first}'"), format!("%22{first}%22")] {
        let narrow = format!("{path}?filter=connection.id.eq({quoted})");
        let list = api.get(&token, &narrow).await;
        assert_eq!(list["size"], 1);
        assert_eq!(list["data"][0]["institution"]["id"], "AU00000");
    }
    let none = format!("{path}?filter=connection.id.eq('nobody')");
    assert_eq!(api.get(&token, &none).await["size"], 0);
    let line = format!("GET {path}?filter=job.id.eq('1')");
    let (status, body) = api.call(&token, &line, None).await;
    assert_eq!((status, error(&body)), (400, "parameter-not-valid"));
}

#[tokio::test]
async fn a_job_is_listed_for_seven_days_of_the_sandboxs_clock_and_readable_after() {
    for (speed, week) in [(1.0, 7 * DAY), (7.0, DAY)] {
        let api = TestSandbox::with(SandboxOptions {
            speed,
            ..SandboxOptions::default()
        });
        let token = api.token(None).await;
        let user = api.user(&token).await;
        let id = api.sandbox.seed_job(JobScript {
            user_id: Some(user.clone()),
            ..JobScript::new(Vec::new())
        });
        let path = format!("/users/{user}/jobs");
        api.pass(week - 1);
        let token = api.token(None).await;
        assert_eq!(ids(&api.get(&token, &path).await), [id.as_str()]);
        api.pass(1);
        assert_eq!(api.get(&token, &path).await["size"], 0, "at speed {speed}");
        assert_eq!(api.get(&token, &format!("/jobs/{id}")).await["id"], id);
    }
}

#[tokio::test]
async fn the_jobs_of_an_unknown_user_are_not_found_and_each_list_is_counted() {
    let api = TestSandbox::new();
    let token = api.token(None).await;
    let user = api.user(&token).await;
    api.get(&token, &format!("/users/{user}/jobs")).await;
    let (status, body) = api.call(&token, "GET /users/nobody/jobs", None).await;
    assert_eq!((status, error(&body)), (404, "resource-not-found"));
    let client = api.token(Some(&user)).await;
    let line = format!("GET /users/{user}/jobs");
    let (status, body) = api.call(&client, &line, None).await;
    assert_eq!((status, error(&body)), (403, "forbidden-access"));
    let calls = api.sandbox.calls();
    assert_eq!(calls.count("GET /users/{userId}/jobs"), 3);
    let key = ("GET /users/{userId}/jobs".to_owned(), 404);
    assert_eq!(calls.counts()[&key], 1);
}
