//! A Basiq that answers at once and whose jobs are all done. It may have people, whose jobs it lists.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use relay_domain::clock::Clock;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{people::People, receiver::bind};

#[derive(Clone, Default)]
pub(crate) struct Basiq {
    /// The time of the latest answer for each job.
    answered: Arc<Mutex<HashMap<String, Instant>>>,
    people: Option<People>,
}

impl Basiq {
    pub(crate) fn of(people: People) -> Self {
        Self {
            people: Some(people),
            ..Self::default()
        }
    }

    pub(crate) async fn serve(&self, tasks: &mut JoinSet<()>) -> Result<Url> {
        let (listener, url) = bind().await?;
        let router = Router::new()
            .route("/token", post(token))
            .route("/jobs/{id}", get(job))
            .route("/users/{id}/jobs", get(jobs))
            .with_state(self.clone());
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                drop(crate::figures::say(&format!("Basiq ended: {error}")));
            }
        });
        Ok(url)
    }

    pub(crate) fn answered(&self) -> HashMap<String, Instant> {
        self.answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn token() -> Json<Value> {
    Json(json!({ "access_token": "bench", "expires_in": 3600, "token_type": "Bearer" }))
}

async fn job(State(basiq): State<Basiq>, Path(id): Path<String>) -> Json<Value> {
    let now = Clock::system().now();
    let source = format!("/users/u-{id}/connections/c-{id}");
    let step = |title: &str| {
        let url = format!("{source}/accounts");
        json!({ "title": title, "status": "success", "result": { "type": "link", "url": url } })
    };
    let document = json!({
        "type": "job", "id": id, "created": now, "updated": now, "jobType": "connection",
        "institution": { "type": "institution", "id": "AU00000" },
        "steps": [step("verify-credentials"), step("retrieve-accounts"), step("retrieve-transactions")],
        "links": { "self": format!("/jobs/{id}"), "source": source },
    });
    basiq
        .answered
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(id, Instant::now());
    Json(document)
}

async fn jobs(
    State(basiq): State<Basiq>,
    Path(person): Path<usize>,
) -> Result<Json<Value>, StatusCode> {
    let people = basiq.people.as_ref().ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(people.list(person)))
}
