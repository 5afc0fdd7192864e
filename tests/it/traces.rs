//! Distributed traces, from the call that registers a watch to its callback.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, header},
};
use basiq_sandbox::{JobScript, SandboxOptions, ScriptStep, StepEnd};
use relay_domain::clock::Clock;
use serde_json::{Value, json};

use crate::support::{
    TestApp,
    collector::{Collected, Collector},
    job,
    scene::{Scene, ask, until},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER_TRACE: &str = "a3ce929d0e0e47364bf92f3577b34da6";
const SPAN: &str = "00f067aa0ba902b7";

/// Returns a job that is done at once.
fn done() -> JobScript {
    let step = ScriptStep::new("retrieve-accounts", Duration::ZERO, StepEnd::Succeeds);
    JobScript::new(vec![step])
}

/// Returns a job document whose only step has this status.
fn document(id: &str, status: &str) -> Value {
    let step = ("retrieve-accounts", status, Value::Null);
    job(id, Clock::system().now(), &[step])
}

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{SPAN}-01")
}

/// Sets a scene whose relay exports traces, whatever its log level.
async fn traced_scene() -> (Scene, Collector) {
    let mut scene = Scene::set(SandboxOptions::default()).await;
    let collector = Collector::start(&mut scene.tasks).await;
    let log = ("RELAY_LOG", "warn,basiq_relay::app=info".to_owned());
    scene.setup.environment = collector.settings().to_vec();
    scene.setup.environment.push(log);
    (scene, collector)
}

/// Registers a watch with a callback at its own path.
async fn register(scene: &Scene, (relay, key): (&str, &str), watch: (&str, &str, Option<&str>)) {
    let (job, path, trace) = watch;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({ "jobId": job, "callbackUrl": format!("{}{path}", scene.receiver.url()) });
    let mut request = http.post(format!("{relay}/watch")).bearer_auth(key);
    if let Some(trace) = trace {
        request = request.header("traceparent", traceparent(trace));
    }
    let answer = request.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

/// Returns the only span with this name and this field.
fn the_one(collector: &Collector, name: &str, field: (&str, &str)) -> Collected {
    let mut found = collector.named(name);
    found.retain(|span| span.text(field.0) == Some(field.1));
    assert_eq!(found.len(), 1, "{name} {field:?}: {found:?}");
    found.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_call_to_the_callback_though_the_relay_was_killed_in_between() {
    let (scene, collector) = traced_scene().await;
    let client = scene.setup.add_client("app").await;
    let key = client["apiKey"].as_str().unwrap();
    let relay = scene.setup.start().await;
    let jobs = ["shared", "alone"];
    let [shared, alone] = jobs;
    for job in jobs {
        scene
            .sandbox
            .seed_document(job, document(job, "in-progress"));
    }
    let to = (relay.url.as_str(), key);
    register(&scene, to, (shared, "/first", Some(TRACE))).await;
    register(&scene, to, (shared, "/second", Some(OTHER_TRACE))).await;
    register(&scene, to, (alone, "/untold", None)).await;

    until(async || collector.named("POST /watch").len() == 3).await;
    let looked_at = async |job: &str| {
        let said = ask(&relay.url, &format!("GET /watch?jobId={job}"), key, None).await;
        said.json()["items"][0]["steps"][0]["title"].is_string()
    };
    until(async || looked_at(shared).await && looked_at(alone).await).await;
    relay.kill().await;
    let looks = collector.named("look").len();
    for job in jobs {
        scene.sandbox.seed_document(job, document(job, "success"));
    }
    // If a look was in progress, its lease expires now.
    let runs_out = "UPDATE due_jobs SET lease_until = NULL";
    scene.database.execute(runs_out).await;
    let relay = scene.setup.start().await;
    scene.told(3).await;
    until(async || collector.named("delivery").len() == 3).await;
    assert!(collector.named("look").len() > looks, "it looked again");
    assert_eq!(relay.terminate().await.0, Some(0));

    let calls = collector.named("POST /watch");
    let call_of = |trace: &str| calls.iter().find(|call| call.trace_id == trace).unwrap();
    let told = scene.receiver.received();
    for event in &told {
        let delivery = the_one(
            &collector,
            "delivery",
            ("event.id", event.header("webhook-id")),
        );
        let call = call_of(&delivery.trace_id);
        assert_eq!(delivery.parent_id, call.span_id);
        let expected = format!("00-{}-{}-01", delivery.trace_id, delivery.span_id);
        assert_eq!(event.header("traceparent"), expected);
        match event.path.as_str() {
            "/first" => assert_eq!((&*call.trace_id, &*call.parent_id), (TRACE, SPAN)),
            "/second" => assert_eq!((&*call.trace_id, &*call.parent_id), (OTHER_TRACE, SPAN)),
            _ => assert_eq!(call.parent_id, "", "a trace of its own begins"),
        }
    }
    // The latest look at a job is a child of one call, and is linked to the others.
    for (job, watches) in [(shared, 2), (alone, 1)] {
        let mut looks = collector.named("look").into_iter();
        let look = looks.rfind(|look| look.text("job.id") == Some(job));
        let look = look.unwrap();
        assert_eq!(look.parent_id, call_of(&look.trace_id).span_id);
        assert_eq!(look.links.len(), watches - 1, "{look:?}");
        assert!(look.links.iter().all(|other| *other != look.trace_id));
        assert!(
            look.links
                .iter()
                .all(|other| call_of(other).parent_id == SPAN)
        );
    }
    let (all, traced) = scene.calls();
    assert!(all > 0, "Basiq was asked");
    assert_eq!(traced, 0, "Basiq is told of no trace");
}

/// Registers watches in one call, with these `traceparent` headers.
async fn call(app: &TestApp, path: &str, body: &Value, traces: &[&str]) {
    let key = app.client.key.expose();
    let mut request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json");
    for trace in traces {
        request = request.header("traceparent", *trace);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let answer = app.send(request).await;
    assert!(answer.status < 300, "{}", answer.body);
}

#[tokio::test]
async fn without_export_a_clients_trace_goes_on_as_it_is_and_what_is_no_trace_is_ignored() {
    let mut app = TestApp::new().await;
    let watch = |path: &str| json!({ "jobId": app.sandbox.seed_job(done()), "callbackUrl": app.callback(path) });
    let (one, two) = (traceparent(TRACE), traceparent(OTHER_TRACE));
    let unsampled = one.replace("-01", "-00");
    for (path, traces) in [
        ("/told", vec![one.as_str()]),
        ("/unsampled", vec![&unsampled]),
        ("/untold", vec![]),
        ("/odd", vec!["00-nonsense"]),
        ("/twice", vec![&one, &two]),
    ] {
        call(&app, "/watch", &watch(path), &traces).await;
    }
    // The existing watch stays in the trace in which it was registered.
    let told_again = watch("/again");
    call(&app, "/watch", &told_again, &[&one]).await;
    call(&app, "/watch", &told_again, &[&two]).await;
    let batch = json!({ "watches": [watch("/batch/1"), watch("/batch/2")] });
    call(&app, "/watch/batch", &batch, &[&two]).await;
    app.run_due().await;
    app.restart().await;
    app.pass(Duration::from_secs(10), Duration::from_secs(1))
        .await;

    let told = app.receiver.received();
    let mut told: Vec<_> = told
        .iter()
        .map(|event| {
            let trace = event.headers.get("traceparent");
            (
                event.path.as_str(),
                trace.map(|trace| trace.to_str().unwrap()),
            )
        })
        .collect();
    told.sort_unstable();
    let expected = [
        ("/again", Some(one.as_str())),
        ("/batch/1", Some(&two)),
        ("/batch/2", Some(&two)),
        ("/odd", None),
        ("/told", Some(&one)),
        ("/twice", None),
        ("/unsampled", Some(&unsampled)),
        ("/untold", None),
    ];
    assert_eq!(told, expected);
}
