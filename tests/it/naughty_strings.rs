//! Texts that break programs, at every place where others can write one (`tests/outside/naughty_strings.toml`).

use std::time::Duration;

use axum::body::Body;
use http::{Request, header};
use serde_json::{Value, json};

use crate::{
    console::{Browser, app},
    support::{Answer, TestApp, job},
};

const TABLE: &str = include_str!("../outside/naughty_strings.toml");

/// Requests a page. A text with `=` is searched for in the metadata, by a redirect.
async fn shown(browser: &Browser<'_>, path: &str) -> Answer {
    let page = browser.get(path).await;
    if page.status == 303 {
        return browser.get(page.header("location")).await;
    }
    page
}

/// Returns each text, and some long ones.
fn texts() -> Vec<String> {
    let table: toml::Table = toml::from_str(TABLE).unwrap();
    let rows = table["string"].as_array().unwrap().iter();
    let texts = rows.map(|row| row["text"].as_str().unwrap().to_owned());
    let long = ["x".repeat(3000), "😀".repeat(900), "e\u{301}".repeat(1000)];
    texts.chain(long).collect()
}

/// Returns whether a character is safe in a text for people: no control character, and none that changes the
/// direction.
fn is_safe(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns a job whose first step failed with this text of the bank.
fn failed(app: &TestApp, id: &str, said: &str) -> Value {
    let result = json!({ "code": "invalid-credentials", "title": said, "detail": said });
    job(id, app.now(), &[("verify-credentials", "failed", result)])
}

#[tokio::test]
async fn metadata_bring_back_any_text_and_what_a_bank_says_comes_clean() {
    let mut app = TestApp::new().await;
    let texts = texts();
    for (number, text) in texts.iter().enumerate() {
        let id = format!("j-{number}");
        app.sandbox.seed_document(&id, failed(&app, &id, text));
        let metadata = json!({ "number": number, text: text });
        // As a name and a value, the text would exceed the limit.
        let metadata = if metadata.to_string().len() > 4096 {
            json!({ "number": number, "text": text })
        } else {
            metadata
        };
        let watch = app.watch_with(&id, json!({ "metadata": metadata })).await;
        assert_eq!(app.story(&watch).await["metadata"], metadata);
    }
    app.run_due().await;
    let told = app.told();
    assert_eq!(told.len(), texts.len());
    for event in told {
        let number = usize::try_from(event["metadata"]["number"].as_u64().unwrap()).unwrap();
        let text = &texts[number];
        let echoed = event["metadata"]
            .get(text)
            .unwrap_or(&event["metadata"]["text"]);
        assert_eq!(echoed, text);
        let detail = event["detail"].as_str().unwrap_or_default();
        assert!(detail.chars().all(is_safe), "{detail:?}");
        assert!(detail.chars().count() <= 1000, "{detail:?}");
        let trimmed = text.trim();
        if trimmed.chars().all(is_safe) && trimmed.chars().count() <= 1000 {
            assert_eq!(detail, trimmed);
        }
        assert!(event["userMessage"].as_str().unwrap().chars().all(is_safe));
    }
}

#[tokio::test]
async fn no_text_is_a_name_or_an_id_unless_it_has_the_form_of_one() {
    let app = app().await;
    let operator = "Bearer the operator's token";
    for text in texts() {
        for (path, key, body) in [
            (
                "/admin/clients",
                operator.to_owned(),
                json!({ "name": text }),
            ),
            (
                "/watch",
                format!("Bearer {}", app.client.key.expose()),
                json!({ "jobId": text, "callbackUrl": text, "until": "x".repeat(200), "locale": text }),
            ),
        ] {
            let request = Request::post(path)
                .header(header::AUTHORIZATION, key)
                .header(header::CONTENT_TYPE, "application/json");
            let request = request.body(Body::from(body.to_string())).unwrap();
            let answer = app.send(request).await;
            assert_eq!(answer.status, 422, "{path} {text:?}: {}", answer.text);
            // The problem names the fault and repeats only the beginning of the text.
            assert_eq!(answer.body["type"], "/problems/invalid-field");
            assert!(answer.text.len() < 4000, "{}", answer.text.len());
        }
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for path in [
            format!("/watch?cursor={encoded}"),
            format!("/watch?state={encoded}"),
            format!("/watch?{encoded}=1"),
            format!("/catalogue?locale={encoded}"),
        ] {
            let status = app.get(&path).await.status;
            assert!(matches!(status, 200 | 422), "{path}: {status}");
        }
    }
    // None of the texts becomes a label of a metric.
    let metrics = app.get("/metrics").await.text;
    for line in metrics.lines() {
        let beginnings = ["# ", "relay_", "process_"];
        let is_line = line.is_empty() || beginnings.iter().any(|start| line.starts_with(start));
        assert!(is_line && line.is_ascii(), "{line}");
    }
    assert!(!metrics.contains("alert(1)") && !metrics.contains("DROP TABLE"));
}

/// Markup that a browser would execute without escaping.
const LIVE: [&str; 5] = [
    "<script>",
    "<img",
    "onmouseover=\"",
    "</textarea><",
    "href=\"javascript:",
];

#[tokio::test]
async fn the_console_shows_any_text_as_a_text() {
    let mut app = app().await;
    let mut watches = Vec::new();
    for (number, text) in texts().iter().enumerate() {
        let id = format!("j-{number}");
        app.sandbox.seed_document(&id, failed(&app, &id, text));
        let metadata = json!({ "t": text });
        let watch = app.watch_with(&id, json!({ "metadata": metadata })).await;
        watches.push((text.clone(), watch));
    }
    app.run_due().await;
    let browser = Browser::logged_in(&app).await;
    for (text, watch) in watches {
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for path in [
            format!("/console/watches/{watch}"),
            format!("/console/watches?q={encoded}"),
            format!("/console/clients?q={encoded}"),
        ] {
            let page = shown(&browser, &path).await;
            assert!(
                matches!(page.status, 200 | 404 | 422),
                "{path}: {}",
                page.status
            );
            let shown = page.text.to_lowercase();
            let found = LIVE.iter().find(|live| shown.contains(**live));
            assert_eq!(found, None, "{path}");
            let is_seen = |c: char| is_safe(c) || matches!(c, '\n' | '\r' | '\t');
            let odd = page.text.chars().find(|c| !is_seen(*c));
            // A search repeats only the operator's own text.
            assert!(odd.is_none() || path.contains("?q="), "{path}: {odd:?}");
        }
    }
    app.pass(Duration::from_secs(1), Duration::from_secs(1))
        .await;
    app.leave_work();
}
