//! Four inputs that may contain anything: a job document, a callback URL, a request body and a webhook of Basiq. Each
//! test damages copies of valid input for a few seconds. Set `FUZZ_SECONDS` to test longer.

use std::{
    cell::Cell,
    fmt::Debug,
    io::Write,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{Request, header},
};
use basiq_client::{
    normalise::{Catalogue, JobFacts, JudgeSettings, find, judge, read_job},
    wire::JobDocument,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestRunner},
};
use relay_domain::{
    CallbackRules, CallbackUrl, Outcome, SigningSecret, Status, WatchOptions, signing,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Answer, TestApp};

/// The default time for each input, in seconds.
const SECONDS: u64 = 4;
/// The number of cases between two checks of the time.
const BATCH: u32 = 64;

/// Tries cases until the time is over. A failing case is made as small as possible and ends the test.
fn fuzz<S>(door: &str, cases: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S: Strategy<Value: Debug>,
{
    let seconds = std::env::var_os("FUZZ_SECONDS");
    let seconds = seconds.map(|text| text.to_str().unwrap().parse().unwrap());
    let time = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let (begun, mut tried) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let config = Config {
            cases: BATCH,
            failure_persistence: None,
            ..Config::default()
        };
        if let Err(failure) = TestRunner::new(config).run(cases, &test) {
            panic!("{door}: {failure}");
        }
        tried += BATCH;
    }
    assert!(tried > 0, "there is time for one batch");
    let told = writeln!(std::io::stderr(), "{door}: {tried} cases");
    told.unwrap();
}

/// One kind of damage to a text.
#[derive(Debug, Clone)]
enum Damage {
    Cut(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
    Change(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let bits: &[&[u8]] = &[
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"\"\"",
        b"{}",
        b"[]",
        b"\\u0000",
        b"\\ud800",
        b",",
        b"}",
        b"\"",
        b"\xff",
        b"\xe2\x80\xae",
        b"failed",
        b"success",
        b"pending",
        b"steps",
        b"http://",
        b"127.0.0.1",
        b"[::1]",
        b"@",
        b"#",
        b"%00",
        b"\r\n",
        b"0x7f.1",
        b".",
        b":",
    ];
    let bits: Vec<_> = bits.iter().map(|bit| bit.to_vec()).collect();
    prop_oneof![
        1 => (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        4 => (any::<Index>(), select(bits)).prop_map(|(at, bit)| Damage::Insert(at, bit)),
        1 => (any::<Index>(), 1..200_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Change(at, byte)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    let length = bytes.len();
    match damage {
        Damage::Cut(at, count) if length > 0 => {
            let at = at.index(length);
            bytes.drain(at..(at + count).min(length));
        }
        Damage::Insert(at, bit) => {
            let at = at.index(length + 1);
            bytes.splice(at..at, bit);
        }
        Damage::Repeat(at, count) if length > 0 => {
            let at = at.index(length);
            let part = bytes[at..(at + count).min(length)].to_vec();
            bytes.splice(at..at, part);
        }
        Damage::Change(at, byte) if length > 0 => bytes[at.index(length)] = byte,
        Damage::Cut(..) | Damage::Repeat(..) | Damage::Change(..) => {}
    }
}

/// Produces one of these texts, unchanged or with some damage. Sometimes it produces random bytes.
fn damaged(texts: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let of_one = (select(texts), vec(damage(), 0..6)).prop_map(|(text, damages)| {
        let mut bytes = text.into_bytes();
        for damage in damages {
            apply(&mut bytes, damage);
        }
        bytes
    });
    prop_oneof![20 => of_one, 1 => vec(any::<u8>(), 0..400)]
}

// ------------------------------------------------------------------ a job document

fn documents() -> Vec<String> {
    let whole = [
        include_str!("fixtures/basiq/job-data-failed.json"),
        include_str!("fixtures/basiq/job-data-success.json"),
        include_str!("fixtures/basiq/job-mfa-security-questions.json"),
        include_str!("fixtures/basiq/job-mfa-token-array-result.json"),
        include_str!("fixtures/basiq/job-report-success.json"),
        include_str!("fixtures/basiq/job-statement-failed.json"),
        include_str!("fixtures/basiq/job-v21-fixture.json"),
    ];
    let compact = whole.map(|text| {
        let document: Value = serde_json::from_str(text).unwrap();
        document.to_string()
    });
    compact.into()
}

/// Returns whether any step of the document has failed.
fn has_failed_step(document: &Value) -> bool {
    let steps = document["steps"].as_array();
    let mut steps = steps.into_iter().flatten();
    steps.any(|step| step["status"] == "failed")
}

#[test]
fn a_damaged_job_document_is_judged_and_never_made_better_than_it_is() {
    let catalogue = Catalogue::builtin();
    let known = JobFacts {
        major_outage: false,
        failures_in_a_row: 1,
        started_at: jiff::Timestamp::UNIX_EPOCH,
        next_retry_at: None,
    };
    let day = Duration::from_hours(24);
    let settings = JudgeSettings {
        bank_retry_after: day,
        update_retry_interval: day,
        job_max_age: day,
        support_after_failures: 2,
    };
    let told = Cell::new(0_u64);
    fuzz("job documents", &damaged(documents()), |bytes| {
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok(());
        };
        let failed = has_failed_step(&document);
        let snapshot = read_job(&JobDocument(document), jiff::Timestamp::MAX);
        let options = WatchOptions::default();
        let finding = find(&snapshot, None);
        let judged = judge(&finding, &options, &known, &settings, known.started_at);
        if let Outcome::Tell(verdict) = judged {
            told.set(told.get() + 1);
            let text = catalogue.user_message(&verdict.message, &options.locale);
            prop_assert!(!text.is_empty());
            prop_assert!(!(failed && verdict.status == Status::Success));
        }
        Ok(())
    });
    assert!(told.get() > 0, "no document was left readable");
}

// ------------------------------------------------------------------ a callback URL

#[test]
fn a_damaged_callback_url_never_leads_where_none_may_go() {
    let urls = [
        "https://app.example/hooks/bank?order=7",
        "https://user@app.example:8443/",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://0x7f.1/",
        "https://169.254.169.254/latest/meta-data/",
        "http://app.example/",
        "https://xn--bcher-kva.example./a%20b",
    ];
    let urls = urls.map(ToOwned::to_owned).into();
    let (rules, taken) = (CallbackRules::default(), Cell::new(0_u64));
    fuzz("callback URLs", &damaged(urls), |bytes| {
        let text = String::from_utf8_lossy(&bytes);
        let Ok(callback) = CallbackUrl::parse(&text, &rules) else {
            return Ok(());
        };
        taken.set(taken.get() + 1);
        let url = callback.url();
        prop_assert_eq!(url.scheme(), "https");
        prop_assert!(url.username().is_empty() && url.password().is_none());
        prop_assert!(url.fragment().is_none());
        prop_assert!(!callback.host().is_empty());
        if let Some(address) = callback.literal_address() {
            prop_assert!(rules.allowed_networks.permits(address), "{}", address);
        }
        let again = CallbackUrl::parse(callback.as_str(), &rules);
        prop_assert_eq!(again.as_ref(), Ok(&callback));
        prop_assert_eq!(CallbackUrl::from_stored(callback.as_str()), Some(callback));
        Ok(())
    });
    assert!(taken.get() > 0, "no URL was left good");
}

// ------------------------------------------------------------------ a request body

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

async fn post(app: &TestApp, path: &str, key: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json");
    app.send(request.body(Body::from(body)).unwrap()).await
}

/// Checks that a refusal is a problem document with a reason.
fn assert_explained(answer: &Answer) -> Result<(), TestCaseError> {
    let status = answer.status;
    prop_assert!(
        matches!(status, 400 | 404 | 409 | 413 | 422),
        "{} {}",
        status,
        answer.text
    );
    prop_assert_eq!(&answer.body["status"], &json!(status));
    let kind = answer.body["type"].as_str().unwrap_or_default();
    prop_assert!(kind.starts_with("/problems/"), "{}", kind);
    let explained = answer.body["errors"]
        .as_array()
        .is_some_and(|all| !all.is_empty());
    prop_assert_eq!(explained, kind == "/problems/invalid-field");
    Ok(())
}

#[test]
fn a_damaged_body_is_refused_with_a_reason_or_means_what_it_says() {
    const ADMIN: &str = "admin-token";
    let runtime = runtime();
    let builder = TestApp::builder().settings(|settings| {
        settings.server.admin_token = Some(ADMIN.into());
        settings.server.client_rps = 1_000_000;
    });
    let mut app = runtime.block_on(builder.build());
    let watch = runtime.block_on(app.watch("a-job"));
    let bodies = [
        json!({
            "jobId": "j-1", "callbackUrl": "https://app.example/hook", "operation": "update",
            "events": ["success", "failed"], "until": "retrieve-accounts", "locale": "en-AU",
            "metadata": { "order": 7 },
        }),
        json!({ "response": ["1234", "blue"] }),
        json!({ "since": "2026-11-23T09:14:28Z" }),
        json!({ "name": "shop.2_b-c" }),
    ];
    let bodies = bodies.map(|body| body.to_string()).into();
    let mfa = format!("/watch/{watch}/mfa");
    let paths = ["/watch", &mfa, "/deliveries/redeliver", "/admin/clients"];
    let paths = paths.map(ToOwned::to_owned).to_vec();
    let taken = Cell::new(0_u64);
    fuzz(
        "request bodies",
        &(select(paths), damaged(bodies)),
        |(path, body)| {
            let key = if path.starts_with("/admin") {
                ADMIN
            } else {
                app.client.key.expose()
            };
            let answer = runtime.block_on(post(&app, &path, key, body.clone()));
            if !(200..300).contains(&answer.status) {
                return assert_explained(&answer);
            }
            taken.set(taken.get() + 1);
            // A number can be too large for this reader.
            let Ok(sent) = serde_json::from_slice::<Value>(&body) else {
                return Ok(());
            };
            // A 200 shows a watch that existed before.
            let said = if answer.status == 200 {
                vec!["jobId"]
            } else {
                vec!["jobId", "until", "metadata", "operation", "name"]
            };
            for member in said {
                if let Some(given) = sent.get(member).filter(|given| !given.is_null()) {
                    prop_assert_eq!(&answer.body[member], given, "{}", member);
                }
            }
            Ok(())
        },
    );
    assert!(taken.get() > 0, "no body was left good");
    app.leave_work();
    runtime.block_on(async { drop(app) });
}

// ------------------------------------------------------------------ a webhook of Basiq's

fn webhooks() -> Vec<String> {
    let links = [
        "https://au-api.basiq.io/users/u-1/transactions?filter=connection.id.eq('c-1')",
        "https://au-api.basiq.io/users/u-1/connections/c-1",
        "https://au-api.basiq.io/users/u-1",
    ];
    let webhook = |link: &str| {
        json!({
            "eventTypeId": "transactions.updated",
            "eventId": "e-1",
            "links": { "event": "https://au-api.basiq.io/events/e-1", "eventEntity": link },
        })
        .to_string()
    };
    links.map(webhook).into()
}

#[test]
fn a_damaged_webhook_is_taken_as_a_hint_only_if_basiq_signed_it() {
    let runtime = runtime();
    let secret = SigningSecret::generate();
    let written = secret.expose().to_owned();
    let builder = TestApp::builder()
        .settings(|settings| settings.basiq.webhook_secret = Some(written.into()));
    let mut app = runtime.block_on(builder.build());
    let ids = vec!["m-1".to_owned(), "x".repeat(300), "§".to_owned()];
    let cases = (
        damaged(webhooks()),
        damaged(ids),
        damaged(vec!["v1,c2lnbmF0dXJl".to_owned()]),
        any::<bool>(),
    );
    let taken = Cell::new(0_u64);
    fuzz("webhooks", &cases, |(body, id, forged, is_signed)| {
        let id = String::from_utf8_lossy(&id).into_owned();
        let text = String::from_utf8_lossy(&body).into_owned();
        let signed = signing::sign(&id, app.now(), &text, &[&secret]).unwrap();
        let mut request = Request::post("/basiq/webhook");
        for (name, value) in signed.entries() {
            let value = match name {
                "webhook-signature" if !is_signed => forged.as_slice(),
                _ => value.as_bytes(),
            };
            request = request.header(name, value);
        }
        // A client could not send an invalid header, so skip the case.
        let Ok(request) = request.body(Body::from(text)) else {
            return Ok(());
        };
        let answer = runtime.block_on(app.send(request));
        if answer.status == 204 {
            prop_assert!(is_signed, "{}", id);
            taken.set(taken.get() + 1);
            return Ok(());
        }
        prop_assert!(matches!(answer.status, 400 | 401 | 413), "{}", answer.text);
        Ok(())
    });
    assert!(taken.get() > 0, "no webhook was left good");
    app.leave_work();
    runtime.block_on(async { drop(app) });
}
