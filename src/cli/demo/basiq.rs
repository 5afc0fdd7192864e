//! Calls that an app makes to Basiq: create a user, connect a bank, refresh a connection, update its credentials.

use anyhow::{Context, Result};
use reqwest::{Client, Url};
use serde_json::{Value, json};

use crate::cli::demo::scenario::DemoLogin;

/// A minimal Basiq API client, like the one an app has.
#[derive(Debug)]
pub(super) struct DemoBasiq {
    http: Client,
    base: Url,
    token: String,
}

impl DemoBasiq {
    /// Gets a token from the Basiq at `base`.
    pub(super) async fn sign_in(http: Client, base: Url) -> Result<Self> {
        let token = fetch_token(&http, &base, &[("scope", "SERVER_ACCESS")]).await?;
        Ok(Self { http, base, token })
    }

    /// Creates a user and returns its id.
    pub(super) async fn create_user(&self, name: &str) -> Result<String> {
        let user = self
            .post("users", &json!({ "email": format!("{name}@app.example") }))
            .await?;
        text(&user, "/id")
    }

    /// Connects a bank with a login and returns the id of the job that connects it.
    pub(super) async fn connect_bank(
        &self,
        user: &str,
        login: &DemoLogin,
        bank: &str,
    ) -> Result<String> {
        let body = json!({ "loginId": login.id, "password": login.password, "institution": { "id": bank } });
        let job = self
            .post(&format!("users/{user}/connections"), &body)
            .await?;
        text(&job, "/id")
    }

    /// Sends new credentials for a connection and returns the id of the job that tries them.
    pub(super) async fn update(
        &self,
        user: &str,
        connection: &str,
        login: &DemoLogin,
    ) -> Result<String> {
        let path = format!("users/{user}/connections/{connection}");
        let body = json!({ "loginId": login.id, "password": login.password });
        text(&self.post(&path, &body).await?, "/id")
    }

    /// Refreshes a connection and returns the id of the job that refreshes it.
    pub(super) async fn refresh(&self, user: &str, connection: &str) -> Result<String> {
        let path = format!("users/{user}/connections/{connection}/refresh");
        text(&self.post(&path, &json!({})).await?, "/id")
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = self.base.join(path).context("no address")?;
        let answer = self
            .http
            .post(url)
            .bearer_auth(&self.token)
            .json(body)
            .send()
            .await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let answer = answer.with_context(|| format!("POST /{path} failed"))?;
        answer
            .json()
            .await
            .with_context(|| format!("POST /{path} answered no JSON"))
    }
}

async fn fetch_token(http: &Client, base: &Url, form: &[(&str, &str)]) -> Result<String> {
    let request = http
        .post(base.join("token").context("no address")?)
        .header("authorization", "Basic demo")
        .header("basiq-version", "3.0")
        .form(form);
    let answer = request
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    let answer: Value = answer
        .context("no token")?
        .json()
        .await
        .context("no token")?;
    text(&answer, "/access_token")
}

fn text(document: &Value, pointer: &str) -> Result<String> {
    let found = document.pointer(pointer).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("the answer has no {pointer}"))?
        .to_owned())
}
