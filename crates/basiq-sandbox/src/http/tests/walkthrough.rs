//! Tests of a developer's first steps with the sandbox, over real HTTP.

use std::time::Duration;

use relay_domain::clock::Clock;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Fault, Sandbox, SandboxOptions};

struct Developer {
    http: Client,
    base: String,
    token: String,
}

impl Developer {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        };
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn token(&self, form: &[(&str, &str)]) -> String {
        let answer = self
            .http
            .post(format!("{}/token", self.base))
            .header("authorization", "Basic bXkta2V5OmFzIGl0IGlz")
            .header("basiq-version", "3.0")
            .form(form)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 3600);
        body["access_token"].as_str().unwrap().to_owned()
    }

    /// Polls a job until `wanted` returns true. Returns the different documents seen on the way.
    async fn poll(&self, job: &Value, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        for _ in 0..2000 {
            let document = self.get(job["links"]["self"].as_str().unwrap()).await;
            let done = wanted(&document);
            if seen.last() != Some(&document) {
                seen.push(document);
            }
            if done {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("the job never got there: {seen:#?}");
    }
}

async fn with_sandbox<F: Future<Output = ()>>(test: impl FnOnce(Sandbox, Developer) -> F) {
    let options = SandboxOptions {
        speed: 20.0,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::new(options, Clock::system());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let mut developer = Developer {
        http: Client::builder().build().unwrap(),
        base,
        token: String::new(),
    };
    let serving = sandbox.serve(listener, stop.clone());
    let story = async {
        developer.token = developer.token(&[("scope", "SERVER_ACCESS")]).await;
        test(sandbox.clone(), developer).await;
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, story);
    served.unwrap();
}

async fn new_user(developer: &Developer) -> String {
    let person = json!({"email": "dinesh@example.com", "firstName": "Dinesh"});
    let (status, user) = developer.post("/users", person).await;
    assert_eq!((status, &user["type"]), (201, &json!("user")));
    user["id"].as_str().unwrap().to_owned()
}

fn login(bank: &str, id: &str, password: &str) -> Value {
    json!({"loginId": id, "password": password, "institution": {"id": bank}})
}

fn words(document: &Value) -> String {
    let steps = document["steps"].as_array().unwrap().iter();
    let words: Vec<_> = steps.map(|step| step["status"].as_str().unwrap()).collect();
    words.join(" ")
}

#[tokio::test]
async fn a_developer_connects_a_bank_and_reads_its_accounts() {
    with_sandbox(|sandbox, developer| async move {
        let user = new_user(&developer).await;
        let path = format!("/users/{user}/connections");
        let body = login("AU00000", "gavinBelson", "hooli2016");
        let (status, job) = developer.post(&path, body).await;
        assert_eq!((status, &job["type"]), (202, &json!("job")));
        assert!(job.get("steps").is_none());

        let done = |document: &Value| words(document) == "success success success";
        let seen = developer.poll(&job, done).await;
        assert!(seen.len() >= 3, "{seen:#?}");
        let last = seen.last().unwrap();
        let connection = developer
            .get(last["links"]["source"].as_str().unwrap())
            .await;
        assert_eq!(connection["status"], "active");
        assert_eq!(connection["institution"]["id"], "AU00000");

        let accounts = developer
            .get(last["steps"][1]["result"]["url"].as_str().unwrap())
            .await;
        assert_eq!(accounts["data"][0]["name"], "Everyday Account");
        assert_eq!(accounts["data"][0]["connection"], connection["id"]);
        let transactions = developer
            .get(last["steps"][2]["result"]["url"].as_str().unwrap())
            .await;
        assert_eq!(transactions["count"], 6);

        let jobs = developer.get(&format!("/users/{user}/jobs")).await;
        assert_eq!(jobs["data"][0]["institution"]["id"], "AU00000");
        let settled = sandbox.settled_at(job["id"].as_str().unwrap()).unwrap();
        assert_eq!(last["updated"], format!("{settled:.3}"));
        assert!(sandbox.calls().count("GET /jobs/{jobId}") >= 3);
    })
    .await;
}

#[tokio::test]
async fn a_developer_answers_a_challenge_with_the_users_token() {
    with_sandbox(|_, mut developer| async move {
        let user = new_user(&developer).await;
        let body = login("AU00002", "jared", "django");
        let path = format!("/users/{user}/connections");
        let (_, job) = developer.post(&path, body).await;
        let asked = |document: &Value| document["steps"][1]["result"]["type"] == "mfa";
        let seen = developer.poll(&job, asked).await;
        let challenge = &seen.last().unwrap()["steps"][1]["result"];
        assert_eq!(challenge["method"], "token");
        assert_eq!(challenge["expiryMs"], 6000);

        let respond_to = challenge["links"]["response"].as_str().unwrap();
        let answer = json!({"mfa-response": ["1234"]});
        let (status, _) = developer.post(respond_to, answer.clone()).await;
        assert_eq!(status, 403);
        let form = [("scope", "CLIENT_ACCESS"), ("userId", user.as_str())];
        let client = developer.token(&form).await;
        let server = std::mem::replace(&mut developer.token, client);
        let (status, answered) = developer.post(respond_to, answer).await;
        assert_eq!((status, &answered["id"]), (202, &job["id"]));

        developer.token = server;
        let done = |document: &Value| words(document) == "success success success success";
        developer.poll(&job, done).await;
    })
    .await;
}

#[tokio::test]
async fn a_developer_uploads_a_statement_and_asks_for_a_report() {
    with_sandbox(|_, developer| async move {
        let user = new_user(&developer).await;
        let path = format!("/users/{user}/statements");
        let (status, refused) = upload(&developer, &path, "AU00000").await;
        assert_eq!(status, 400);
        assert_eq!(refused["data"][0]["code"], "institution-not-supported");
        for (bank, end) in [
            ("AU01002", "failed pending pending"),
            ("AU01001", "success success success"),
        ] {
            let (status, job) = upload(&developer, &path, bank).await;
            assert_eq!(status, 202, "{job}");
            let seen = developer.poll(&job, |d| words(d) == end).await;
            assert!(seen.last().unwrap()["links"].get("source").is_none());
        }
        let filters = json!([{"name": "users", "value": [user]}]);
        let wish = json!({"reportType": "CON_AFFOR_01", "title": "t", "filters": filters});
        let (status, job) = developer.post("/reports", wish).await;
        assert_eq!(status, 202);
        let seen = developer.poll(&job, |d| d["status"] == "success").await;
        let url = seen.last().unwrap()["links"]["source"].as_str().unwrap();
        assert_eq!(developer.get(url).await["id"], job["id"]);
    })
    .await;
}

async fn upload(developer: &Developer, path: &str, bank: &str) -> (u16, Value) {
    let part = |name: &str, text: &str| {
        format!("--cut\r\ncontent-disposition: form-data; {name}\r\n\r\n{text}\r\n")
    };
    let file = "name=\"statement\"; filename=\"june.pdf\"";
    let id = part("name=\"institutionId\"", bank);
    let body = format!("{id}{}--cut--\r\n", part(file, "%PDF"));
    let answer = developer
        .http
        .post(format!("{}{path}", developer.base))
        .bearer_auth(&developer.token)
        .header("content-type", "multipart/form-data; boundary=cut")
        .body(body)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn faults_can_be_switched_while_it_runs() {
    with_sandbox(|sandbox, developer| async move {
        let set = |text: &str| sandbox.set_faults(vec![text.parse::<Fault>().unwrap()]);
        let url = format!("{}/connectors", developer.base);
        let get = || developer.http.get(&url).bearer_auth(&developer.token);
        set("429=7");
        let answer = get().send().await.unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "7");
        set("500");
        assert_eq!(get().send().await.unwrap().status(), 500);
        set("broken");
        let answer = get().send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.json::<Value>().await.is_err());
        set("oversize");
        let answer = get().send().await.unwrap().text().await.unwrap();
        assert!(answer.len() > 1024 * 1024 && answer.ends_with('}'));
        for (fault, status) in [("403-limit", 403), ("expired", 403), ("revoked", 401)] {
            set(fault);
            assert_eq!(get().send().await.unwrap().status(), status, "{fault}");
        }
        set("wrong-key");
        assert_eq!(get().send().await.unwrap().status(), 200);
        let token = format!("{}/token", developer.base);
        let token = developer.http.post(token).header("basiq-version", "3.0");
        let refused = token.header("authorization", "Basic k").send().await;
        assert_eq!(refused.unwrap().status(), 404);
        set("drip=1");
        let answer = get().send().await.unwrap();
        assert!(answer.json::<Value>().await.is_ok());
        for endless in ["slow=60000", "hang", "drip=60000"] {
            set(endless);
            let hasty = get().timeout(Duration::from_millis(50)).send().await;
            let late = match hasty {
                Ok(answer) => answer.bytes().await.unwrap_err(),
                Err(late) => late,
            };
            assert!(late.is_timeout(), "{endless}");
        }
        sandbox.set_faults(Vec::new());
        assert_eq!(get().send().await.unwrap().status(), 200);
        let seen = sandbox.calls();
        for status in [429, 500, 200] {
            let key = ("GET /connectors".to_owned(), status);
            assert!(seen.counts().contains_key(&key), "{status}");
        }
    })
    .await;
}
