//! Request bodies on which JSON parsers disagree, each with the expected response
//! (`tests/outside/json_requests.toml`).

use axum::body::Body;
use http::{Request, header};
use serde::Deserialize;

use crate::support::{Answer, TestApp};

const TABLE: &str = include_str!("../outside/json_requests.toml");

#[derive(Deserialize)]
struct Table {
    request: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    body: String,
    /// The length in bytes to which the body is padded with spaces.
    fill: Option<usize>,
    content_type: Option<String>,
    status: u16,
    problem: Option<String>,
    /// The expected metadata in the response.
    kept: Option<String>,
}

fn table() -> Vec<Row> {
    toml::from_str::<Table>(TABLE).unwrap().request
}

impl Row {
    /// Returns the bytes of the request about a job.
    fn bytes(&self, job: &str, callback: &str) -> Vec<u8> {
        let both = format!("\"jobId\":\"JOB\",\"callbackUrl\":\"{callback}\"");
        let body = self.body.replace("OK", &both);
        let body = body.replace("J\\u004fB", job).replace("JOB", job);
        let mut bytes = unescape(&nest(&body));
        if let Some(size) = self.fill {
            bytes.resize(size, b' ');
        }
        bytes
    }

    async fn send(&self, app: &TestApp, job: &str) -> Answer {
        let key = format!("Bearer {}", app.client.key.expose());
        let mut request = Request::post("/watch").header(header::AUTHORIZATION, key);
        let kind = self.content_type.as_deref().unwrap_or("application/json");
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let body = Body::from(self.bytes(job, &app.callback("/hook")));
        app.send(request.body(body).unwrap()).await
    }
}

/// Writes `[x3]` as `[[[]]]`, and `[x3` as `[[[`.
fn nest(body: &str) -> String {
    let Some((before, rest)) = body.split_once("[x") else {
        return body.to_owned();
    };
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let levels: usize = rest[..digits].parse().unwrap();
    let (closing, after) = match rest[digits..].strip_prefix(']') {
        Some(after) => ("]".repeat(levels), after),
        None => (String::new(), &rest[digits..]),
    };
    format!("{before}{}{closing}{after}", "[".repeat(levels))
}

/// Writes `<80 ff>` as these bytes.
fn unescape(body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once('<') {
        let (inside, behind) = after.split_once('>').unwrap_or((after, ""));
        let hex: Option<Vec<u8>> = inside
            .split(' ')
            .map(|pair| {
                u8::from_str_radix(pair, 16)
                    .ok()
                    .filter(|_| pair.len() == 2)
            })
            .collect();
        bytes.extend(before.bytes());
        match hex {
            Some(hex) => bytes.extend(hex),
            None => bytes.extend(format!("<{inside}>").bytes()),
        }
        rest = behind;
    }
    bytes.extend(rest.bytes());
    bytes
}

#[tokio::test]
async fn each_body_gets_its_answer_and_metadata_come_back_as_they_were_written() {
    let mut app = TestApp::new().await;
    let (mut wrong, mut kept) = (Vec::new(), Vec::new());
    for (number, row) in table().iter().enumerate() {
        let answer = row.send(&app, &format!("j-{number}")).await;
        let kind = answer.body["type"].as_str().unwrap_or_default();
        let problem = kind.strip_prefix("/problems/").map(str::to_owned);
        if answer.status != row.status || (row.status != 202 && problem != row.problem) {
            wrong.push(format!("{}: {} {}", row.name, answer.status, answer.text));
        }
        if let Some(metadata) = &row.kept {
            let written = format!("\"metadata\":{metadata},");
            let lost = (!answer.text.contains(&written)).then_some(&answer.text);
            wrong.extend(lost.map(|text| format!("{}: {text}", row.name)));
            let location = answer.header("location").to_owned();
            kept.push((
                row.name.clone(),
                location,
                format!("\"metadata\":{metadata}}}"),
                written,
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The sandbox knows none of these jobs, so each watch ends with an event for an unknown job.
    app.pass(
        std::time::Duration::from_mins(2),
        std::time::Duration::from_secs(20),
    )
    .await;
    let told: Vec<String> = app
        .receiver
        .received()
        .into_iter()
        .map(|one| one.raw)
        .collect();
    for (name, location, in_event, in_watch) in &kept {
        assert!(
            told.iter().any(|body| body.ends_with(in_event)),
            "{name}: {in_event} in {told:?}"
        );
        let watch = app.get(location).await;
        assert!(watch.text.contains(in_watch), "{name}: {}", watch.text);
    }
    assert!(kept.len() >= 8);
    app.leave_work();
}

#[tokio::test]
async fn metadata_of_a_batch_come_back_as_they_were_written() {
    let app = TestApp::new().await;
    let metadata = r#"{"z":1E400,"a":12345678901234567890123456789,"a":1.10}"#;
    let callback = app.callback("/hook");
    for body in [
        format!(r#"{{"jobIds":["b-1","b-2"],"callbackUrl":"{callback}","metadata":{metadata}}}"#),
        format!(
            r#"{{"watches":[{{"jobId":"b-3","callbackUrl":"{callback}","metadata":{metadata}}},7,
                {{"jobId":"b-4","callbackUrl":"{callback}","metadata":{metadata}}}]}}"#
        ),
    ] {
        let request = Request::post("/watch/batch")
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", app.client.key.expose()),
            )
            .header(header::CONTENT_TYPE, "application/json");
        let answer = app.send(request.body(Body::from(body)).unwrap()).await;
        let times = answer
            .text
            .matches(&format!("\"metadata\":{metadata},"))
            .count();
        assert_eq!((answer.status, times), (200, 2), "{}", answer.text);
    }
    let listed = app.get("/watch").await;
    let times = listed
        .text
        .matches(&format!("\"metadata\":{metadata},"))
        .count();
    assert_eq!(times, 4, "{}", listed.text);
}

#[test]
fn the_table_says_something_else_for_each_name() {
    let mut names: Vec<String> = table().into_iter().map(|row| row.name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}
