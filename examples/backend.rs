//! A backend that registers a watch, receives the callback and verifies it. README.md shows it from `use` on.
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it stands for somebody else's program"
)]

use std::{env, error::Error, sync::Arc};

use axum::http::{HeaderMap, StatusCode};
use axum::{Router, body::Bytes, extract::State, routing::post};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let webhook = Webhook::new(&setting("BASIQ_RELAY_SIGNING_SECRET")?)?;
    let app = Router::new()
        .route("/hooks/bank", post(receive))
        .with_state(Arc::new(webhook));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3001").await?;

    let watch =
        json!({ "jobId": setting("JOB")?, "callbackUrl": "http://127.0.0.1:3001/hooks/bank" });
    let registered = reqwest::Client::new()
        .post("http://127.0.0.1:8080/watch")
        .bearer_auth(setting("BASIQ_RELAY_KEY")?)
        .json(&watch)
        .send()
        .await?;
    println!("registered: {}", registered.status()); // 202, or 200 if the watch exists
    if !registered.status().is_success() {
        return Err(registered.text().await?.into());
    }

    axum::serve(listener, app).await?;
    Ok(())
}

fn setting(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}

async fn receive(
    State(webhook): State<Arc<Webhook>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    // The same event may come twice, with the same webhook-id. Store it, answer, then act on it.
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    println!(
        "verified: {} {} {}",
        event["status"], event["action"], event["userMessage"]
    );
    StatusCode::NO_CONTENT
}
