//! Documents on which parsers disagree. The real client reads them as Basiq's responses.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, Uri},
    response::IntoResponse,
};
use basiq_client::{
    BasiqClient, BasiqError,
    normalise::{JobFacts, JudgeSettings, find, judge, read_job},
};
use basiq_relay::config::Settings;
use jiff::Timestamp;
use relay_domain::{Outcome, Upstream, WatchOptions, clock::Clock};
use serde::Deserialize;
use tokio::{net::TcpListener, task::JoinSet};

const TABLE: &str = include_str!("../outside/basiq_answers.toml");

#[derive(Deserialize)]
struct Table {
    answer: Vec<Entry>,
}

/// A response, and the expected result of reading it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default = "job")]
    of: String,
    body: String,
    repeat: Option<(String, usize)>,
    #[serde(default)]
    end: String,
    reads: String,
    detail: Option<String>,
}

fn job() -> String {
    "job".to_owned()
}

impl Entry {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = unescaped(&self.body);
        if let Some((text, times)) = &self.repeat {
            bytes.extend(text.repeat(*times).bytes());
        }
        bytes.extend(self.end.bytes());
        bytes
    }
}

/// Converts each `\xHH` of a text to its byte. Other escapes belong to JSON and stay.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).unwrap());
        bytes.extend(rest.bytes());
    }
    bytes
}

/// Starts a Basiq that answers this body for `of`, and returns a client of it. It grants a token, unless `of` is the
/// token.
async fn client(tasks: &mut JoinSet<()>, of: &str, body: Vec<u8>) -> BasiqClient {
    let (body, of) = (Bytes::from(body), of.to_owned());
    let answer = move |uri: Uri| {
        let (is_token, body) = (uri.path() == "/token", body.clone());
        let of = of.clone();
        async move {
            match of.as_str() {
                "token" if !is_token => (StatusCode::OK, Bytes::from(r#"{"id":"j-1"}"#)),
                "errors" if !is_token => (StatusCode::NOT_FOUND, body),
                "token" => (StatusCode::OK, body),
                _ if is_token => (StatusCode::OK, Bytes::from(r#"{"access_token":"t"}"#)),
                _ => (StatusCode::OK, body),
            }
            .into_response()
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer);
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut settings = Settings::default();
    settings.basiq.url = url.parse().unwrap();
    settings.basiq.api_key = "a-key".to_owned().into();
    BasiqClient::new(&settings.basiq, Clock::system(), Upstream::default()).unwrap()
}

/// Returns how the client and the relay read the response, and what the event would repeat of the bank's text.
async fn read(client: &BasiqClient, of: &str) -> (String, Option<String>) {
    let id = "j-1".parse().unwrap();
    let word = match of {
        "job" => match client.job(&id).await {
            Ok(document) => return told(&document),
            Err(error) => Err(error),
        },
        "token" | "errors" => client.job(&id).await.map(|_| "granted".to_owned()),
        "connection" => client
            .connection("u-1", "c-1")
            .await
            .map(|found| found.institution_id.unwrap_or_else(|| "none".to_owned())),
        "connector" => client
            .connector("AU00000", "web")
            .await
            .map(|found| found.status.unwrap_or_else(|| "none".to_owned())),
        other => panic!("{other}"),
    };
    (word.unwrap_or_else(|error| name(&error)), None)
}

fn told(document: &basiq_client::wire::JobDocument) -> (String, Option<String>) {
    let now: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
    let known = JobFacts {
        major_outage: false,
        failures_in_a_row: 0,
        started_at: now,
        next_retry_at: None,
    };
    let settings = JudgeSettings {
        bank_retry_after: Duration::from_mins(10),
        update_retry_interval: Duration::from_hours(2),
        job_max_age: Duration::from_hours(168),
        support_after_failures: 3,
    };
    let finding = find(&read_job(document, now), None);
    match judge(&finding, &WatchOptions::default(), &known, &settings, now) {
        Outcome::Running | Outcome::Unknown => ("running".to_owned(), None),
        Outcome::Tell(verdict) => (
            format!("{}/{}", verdict.status, verdict.action),
            verdict.detail,
        ),
    }
}

fn name(error: &BasiqError) -> String {
    match error {
        BasiqError::NotFound { .. } => "not-found".to_owned(),
        BasiqError::Unreadable(_) => "unreadable".to_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn documents_on_which_parsers_disagree_are_read_as_the_table_says() {
    let table: Table = toml::from_str(TABLE).unwrap();
    assert!(table.answer.len() > 60, "{}", table.answer.len());
    let mut faults = Vec::new();
    for entry in table.answer {
        let mut tasks = JoinSet::new();
        let client = client(&mut tasks, &entry.of, entry.bytes()).await;
        let (reads, detail) = read(&client, &entry.of).await;
        if reads != entry.reads || detail != entry.detail {
            faults.push(format!("{}: {reads} {detail:?}", entry.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
