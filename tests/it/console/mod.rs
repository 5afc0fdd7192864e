//! The operator's pages, requested without a browser. `tests/browser` tests them with one.

mod activity;
mod acts;
mod forms;
mod login;
mod pages;

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, failure, job, named};

const TOKEN: &str = "the operator's token";

/// Starts a relay with a console.
pub(crate) async fn app() -> TestApp {
    let builder = TestApp::builder();
    let builder = builder.settings(|settings| {
        settings.server.admin_token = Some(TOKEN.to_owned().into());
        // some tests register thousands of watches
        settings.server.client_rps = 100_000;
        settings.delivery.retry_schedule = vec![Duration::from_secs(1)];
    });
    builder.build().await
}

/// The tokens of further operators.
const ALICE: &str = "the token of alice alone";
const BOB: &str = "the token of bob.b alone";

/// Starts a relay with two operators beside the admin.
async fn operators() -> TestApp {
    let builder = TestApp::builder();
    let builder = builder.settings(|settings| {
        settings.server.admin_token = Some(TOKEN.to_owned().into());
        settings.server.operators = [("alice", ALICE), ("bob.b", BOB)].map(named).into();
    });
    builder.build().await
}

/// A minimal browser for the console: it keeps a cookie and sends forms.
pub(crate) struct Browser<'a> {
    app: &'a TestApp,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(app: &'a TestApp) -> Self {
        Self {
            app,
            cookie: String::new(),
        }
    }

    pub(crate) async fn logged_in(app: &'a TestApp) -> Self {
        Self::logged_in_with(app, TOKEN).await
    }

    async fn logged_in_with(app: &'a TestApp, token: &str) -> Self {
        let mut browser = Self::new(app);
        let answer = browser.log_in(token, &[]).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        let cookie = answer.header("set-cookie");
        cookie
            .split(';')
            .next()
            .unwrap()
            .clone_into(&mut browser.cookie);
        browser
    }

    async fn log_in(&self, token: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("/console/login", &[("token", token)], headers)
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path).header(header::COOKIE, &self.cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.app.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form with exactly these fields.
    async fn send(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let body = encoded(fields);
        let mut request = Request::post(path).header(header::COOKIE, &self.cookie);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.app.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Sends a form with the token of this session.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.form_token().await;
        let mut fields = fields.to_vec();
        fields.push(("form_token", &token));
        self.send(path, &fields, &[]).await
    }

    /// Returns the token in the forms of this session.
    async fn form_token(&self) -> String {
        let page = self.get("/console").await.text;
        let (_, rest) = page.split_once("name=\"form_token\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

/// Encodes fields as a form does.
fn encoded(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields).finish()
}

/// Text that would do harm without escaping.
const HOSTILE: &str = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>";

/// Starts a relay whose store contains something of every kind. All texts that others can choose are hostile. The
/// callbacks answer 500, so deliveries become dead and their host is paused.
async fn full() -> (TestApp, Vec<String>) {
    let mut app = app().await;
    app.receiver.answer(100, 500);
    let now = app.now();
    let document = |id: &str, steps: &[(&str, &str, Value)]| {
        app.sandbox.seed_document(id, job(id, now, steps));
    };
    document(
        "j-running",
        &[("verify-credentials", "in-progress", Value::Null)],
    );
    document("j-hostile-step", &[(HOSTILE, HOSTILE, Value::Null)]);
    let challenge = json!({"type": "mfa-challenge", "method": HOSTILE, "description": HOSTILE,
        "input": [HOSTILE], "expiryMs": 120_000});
    document("j-asks", &[("mfa-challenge", "in-progress", challenge)]);
    let unavailable = failure("service-unavailable");
    document("j-update", &[("verify-credentials", "failed", unavailable)]);
    let mut refused = failure("invalid-credentials");
    refused["detail"] = HOSTILE.into();
    for n in 0..6 {
        let id = format!("j-failed-{n}");
        document(&id, &[("verify-credentials", "failed", refused.clone())]);
    }
    let options = json!({"metadata": {HOSTILE: HOSTILE}, "until": HOSTILE, "events": ["failed"]});
    let mut failed = Vec::new();
    for n in 0..6 {
        let id = format!("j-failed-{n}");
        failed.push(app.watch_with(&id, options.clone()).await);
        if n == 2 {
            // Three deliveries are too few failures to pause the host, so these become dead.
            app.pass(Duration::from_secs(3), Duration::from_secs(1))
                .await;
        }
    }
    let mut ids = Vec::new();
    for id in ["j-running", "j-hostile-step", "j-asks"] {
        ids.push(app.watch(id).await);
    }
    let update = json!({"operation": "update"});
    ids.push(app.watch_with("j-update", update).await);
    ids.append(&mut failed);
    // These failures pause the host before any of these deliveries is tried twice.
    app.run_due().await;
    let cancelled = app.watch("j-running-too").await;
    assert_eq!(app.delete(&format!("/watch/{cancelled}")).await.status, 204);
    ids.push(cancelled);
    app.leave_work();
    (app, ids)
}

/// Subscribes to a user whom the sandbox does not know. Returns the id of the subscription.
async fn subscribe(app: &TestApp, user: &str) -> String {
    let body = json!({"userId": user, "callbackUrl": app.callback("/hook?token=hidden")});
    let answer = app.post("/subscriptions", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body["id"].as_str().unwrap().to_owned()
}
