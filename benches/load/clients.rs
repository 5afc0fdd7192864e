//! The clients, the same for every server. They also measure servers that do nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use axum::{Json, Router, http::StatusCode, routing::post};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use crate::{
    figures::float,
    receiver::{Receiver, bind},
};

/// The number of concurrent requests.
pub(crate) const CONNECTIONS: usize = 64;

/// How long requests are counted. Requests to servers that do nothing are counted for half of this time before the
/// figure, and for half after it.
pub(crate) const WINDOW: Duration = Duration::from_secs(4);

/// Servers that do nothing, which show the limit of this machine. The limit changes from minute to minute, so each
/// figure has its own limit measured around it.
pub(crate) struct Bare {
    registrations: Registrations,
    receiver: Url,
    _tasks: JoinSet<()>,
}

impl Bare {
    pub(crate) async fn start() -> Result<Self> {
        let mut tasks = JoinSet::new();
        let (listener, url) = bind().await?;
        let handler = async |Json(body): Json<Value>| (StatusCode::ACCEPTED, Json(body));
        let router = Router::new().route("/watch", post(handler));
        tasks.spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self {
            registrations: Registrations::new(&url, "none", "http://127.0.0.1:9/hook")?,
            receiver: Receiver::default().serve(&mut tasks).await?,
            _tasks: tasks,
        })
    }

    /// Measures requests per second to a handler that parses the same body and answers 202.
    pub(crate) async fn registrations(&self) -> Result<f64> {
        self.registrations.for_a_while(WINDOW / 2).await
    }

    /// Measures POSTs per second of an event's bytes, made by a loop with reqwest.
    pub(crate) async fn posts(&self) -> Result<f64> {
        let client = Client::builder().no_proxy().build()?;
        let began = Instant::now();
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let until = began + WINDOW / 2;
            connections.spawn(post_until(until, client.clone(), self.receiver.clone()));
        }
        let mut posted = 0;
        while let Some(ended) = connections.join_next().await {
            posted += ended??;
        }
        Ok(float(posted) / began.elapsed().as_secs_f64())
    }
}

/// Posts one event after the other until the time is over. Returns how many were accepted.
async fn post_until(until: Instant, client: Client, url: Url) -> Result<usize> {
    let (body, mut posted) = (event(), 0);
    while Instant::now() < until {
        let request = client.post(url.clone()).body(body.clone());
        let request = request.header("content-type", "application/json");
        let answer = request.send().await?;
        ensure!(answer.status() == 204, "HTTP {}", answer.status());
        posted += 1;
    }
    Ok(posted)
}

/// Returns the bytes of an event like the relay's events.
fn event() -> String {
    let id = job_id(0);
    let resource = format!("/users/u-{id}/connections/c-{id}/accounts");
    json!({
        "type": "job.success", "timestamp": "2026-11-23T09:14:28Z", "sequence": 1, "final": true,
        "watchId": "wch_01JDABCDEFGHJKMNPQRSTVWXYZ", "jobId": id, "status": "success",
        "failedStep": null, "errorCode": null, "userMessage": "Everything worked and your information is \
            ready. There is nothing more for you to do.",
        "action": "none", "retryAt": null, "detail": null, "challenge": null,
        "context": { "jobType": "connection", "userId": format!("u-{id}"),
            "connectionId": format!("c-{id}"), "institutionId": "AU00000" },
        "resources": vec![resource; 3], "metadata": {},
    })
    .to_string()
}

/// Returns the id of a job. As at Basiq, it is a UUID that does not contain its time. Therefore consecutive jobs are
/// not adjacent in an index.
pub(crate) fn job_id(number: usize) -> String {
    let hash = Sha256::digest(number.to_be_bytes());
    let bytes = hash.first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// Sends `POST /watch`, each for another job.
#[derive(Clone)]
pub(crate) struct Registrations {
    client: Client,
    url: Url,
    key: String,
    callback: String,
    next: Arc<AtomicUsize>,
}

impl Registrations {
    pub(crate) fn new(server: &Url, key: &str, callback: &str) -> Result<Self> {
        Ok(Self {
            client: Client::builder().no_proxy().build()?,
            url: server.join("watch")?,
            key: key.to_owned(),
            callback: callback.to_owned(),
            next: Arc::default(),
        })
    }

    /// Registers watches for a while. Returns how many were accepted per second.
    pub(crate) async fn for_a_while(&self, window: Duration) -> Result<f64> {
        let began = Instant::now();
        let accepted = self
            .run(CONNECTIONS, move |_| began.elapsed() < window)
            .await?;
        Ok(float(accepted) / began.elapsed().as_secs_f64())
    }

    /// Returns clients that send some of the same jobs to another server.
    pub(crate) fn also_at(&self, server: &Url) -> Result<Self> {
        Ok(Self {
            url: server.join("watch")?,
            ..self.clone()
        })
    }

    /// Registers watches until there are `all` on all servers. This server gets its share of the connections.
    pub(crate) async fn divided(&self, all: usize, servers: usize) -> Result<()> {
        self.run(CONNECTIONS / servers, move |number| number < all)
            .await?;
        Ok(())
    }

    /// Registers watches until there are `all`.
    pub(crate) async fn so_many(&self, all: usize) -> Result<()> {
        self.run(CONNECTIONS, move |number| number < all).await?;
        Ok(())
    }

    /// Registers `all` watches, `rate` per second.
    pub(crate) async fn paced(&self, all: usize, rate: f64) -> Result<()> {
        let began = Instant::now();
        let mut calls = JoinSet::new();
        for number in 0..all {
            let due = began + Duration::from_secs_f64(float(number) / rate);
            tokio::time::sleep_until(due.into()).await;
            let clients = self.clone();
            calls.spawn(async move { clients.one(number).await });
            while let Some(ended) = calls.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = calls.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn run(
        &self,
        at_once: usize,
        goes_on: impl Fn(usize) -> bool + Send + Sync + Copy + 'static,
    ) -> Result<usize> {
        let mut connections = JoinSet::new();
        for _ in 0..at_once {
            let clients = self.clone();
            connections.spawn(async move { clients.one_by_one(goes_on).await });
        }
        let mut accepted = 0;
        while let Some(ended) = connections.join_next().await {
            accepted += ended??;
        }
        Ok(accepted)
    }

    /// Sends one request after the other while `goes_on` returns true. Returns how many were accepted.
    async fn one_by_one(&self, goes_on: impl Fn(usize) -> bool + Send + Sync) -> Result<usize> {
        let (next, relaxed) = (&self.next, Ordering::Relaxed);
        let more = |number| goes_on(number).then_some(number + 1);
        let mut accepted = 0;
        while let Ok(number) = next.fetch_update(relaxed, relaxed, more) {
            self.one(number).await?;
            accepted += 1;
        }
        Ok(accepted)
    }

    async fn one(&self, number: usize) -> Result<()> {
        let body = json!({ "jobId": job_id(number), "callbackUrl": self.callback });
        let request = self.client.post(self.url.clone()).bearer_auth(&self.key);
        let answer = request.json(&body).send().await?;
        ensure!(answer.status() == 202, "HTTP {}", answer.status());
        answer.bytes().await?;
        Ok(())
    }
}
