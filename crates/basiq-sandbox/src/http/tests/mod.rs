//! A sandbox for tests. The test moves its clock and calls it without a socket.

mod challenges;
mod consents;
mod controls;
mod events;
mod jobs_list;
mod manners;
mod open_banking;
mod refreshes;
mod removal;
mod walkthrough;
mod webhooks;

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header::AUTHORIZATION},
};
use jiff::Timestamp;
use relay_domain::{SigningSecret, clock::Clock};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Sandbox, SandboxEventType, SandboxOptions, SandboxWebhook};

pub(super) struct TestSandbox {
    pub(super) clock: Clock,
    pub(super) sandbox: Sandbox,
    router: Router,
}

impl TestSandbox {
    pub(super) fn new() -> Self {
        Self::with(SandboxOptions::default())
    }

    pub(super) fn with(options: SandboxOptions) -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let sandbox = Sandbox::new(options, clock.clone());
        let router = sandbox.router();
        Self {
            clock,
            sandbox,
            router,
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> (u16, Value) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        };
        (status, body)
    }

    /// Creates a sandbox whose webhooks of these events the test takes itself.
    pub(super) fn heard(events: &[SandboxEventType]) -> Self {
        Self::with(SandboxOptions {
            webhook: Some(SandboxWebhook {
                url: "http://127.0.0.1:9/".parse().unwrap(),
                secret: SigningSecret::generate(),
            }),
            webhook_events: events.to_vec(),
            ..SandboxOptions::default()
        })
    }

    /// Returns the webhooks since the last call: type and entity of each.
    pub(super) fn told(&self) -> Vec<(String, String)> {
        let webhooks = self.sandbox.take_webhooks().into_iter();
        let told = webhooks.map(|webhook| {
            let event = webhook.event;
            (event.event_type.to_string(), event.entity)
        });
        told.collect()
    }

    /// Returns the types of the webhooks since the last call.
    pub(super) fn told_types(&self) -> Vec<String> {
        self.told().into_iter().map(|(name, _)| name).collect()
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> Value {
        let (status, body) = self.call(token, &format!("GET {path}"), None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Connects a bank and lets its job end. Returns the connection's id.
    pub(super) async fn connected(&self, token: &str, user: &str, body: Value) -> String {
        let (status, job) = self.connect(token, user, body).await;
        assert_eq!(status, 202, "{job}");
        self.pass(10);
        let list = self.get(token, &format!("/users/{user}/connections")).await;
        let latest = list["data"].as_array().unwrap().last().unwrap();
        latest["id"].as_str().unwrap().to_owned()
    }

    /// Returns the user's jobs as listed: for each, its step statuses.
    pub(super) async fn listed(&self, token: &str, user: &str) -> Vec<String> {
        let list = self.get(token, &format!("/users/{user}/jobs")).await;
        let jobs = list["data"].as_array().unwrap().iter();
        jobs.map(words).collect()
    }

    pub(super) async fn ask_token(
        &self,
        headers: &[(&str, &str)],
        form: &'static str,
    ) -> (u16, Value) {
        let mut request = Request::post("/token");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let form_type = "application/x-www-form-urlencoded";
        let request = request.header("content-type", form_type);
        self.send(request.body(Body::from(form)).unwrap()).await
    }

    /// Returns a token: of scope CLIENT_ACCESS for the user, or of scope SERVER_ACCESS without one.
    pub(super) async fn token(&self, user: Option<&str>) -> String {
        let form: &'static str = match user {
            Some(user) => format!("scope=CLIENT_ACCESS&userId={user}").leak(),
            None => "scope=SERVER_ACCESS",
        };
        let headers = [("authorization", "Basic key"), ("basiq-version", "3.0")];
        let (status, body) = self.ask_token(&headers, form).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    pub(super) async fn call(&self, token: &str, line: &str, body: Option<Value>) -> (u16, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header("content-type", "application/json");
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    pub(super) async fn user(&self, token: &str) -> String {
        let person = json!({"mobile": "+61400000000"});
        let (_, user) = self.call(token, "POST /users", Some(person)).await;
        user["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn connect(&self, token: &str, user: &str, body: Value) -> (u16, Value) {
        let line = format!("POST /users/{user}/connections");
        self.call(token, &line, Some(body)).await
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// Returns the statuses of a job's steps.
pub(super) fn words(job: &Value) -> String {
    let steps = job["steps"].as_array().unwrap().iter();
    let words: Vec<_> = steps.map(|step| step["status"].as_str().unwrap()).collect();
    words.join(" ")
}

pub(super) fn login(bank: &str, id: &str, password: &str) -> Value {
    json!({"loginId": id, "password": password, "institution": {"id": bank}})
}

pub(super) fn error(body: &Value) -> &str {
    assert_eq!(body["type"], "list", "{body}");
    assert!(body["correlationId"].is_string());
    body["data"][0]["code"].as_str().unwrap()
}
