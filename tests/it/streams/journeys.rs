//! A page's view of a watch, from the first step to the end.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{BEGUN, DONE, HALF, ask, quick, see};
use crate::support::{database::literal, listener::Listener, live::Live};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_sees_each_step_then_the_event_that_the_callback_gets_and_then_the_end() {
    let live = Live::start(quick).await;
    see(&live, "j-1", BEGUN);
    let watch = live.register("j-1").await;
    let mut stream = live.listen(&watch).await;
    let first = stream.next().await.unwrap();
    assert_eq!((&*first.event, first.id.as_deref()), ("progress", None));
    let retry: u64 = first.retry.as_deref().unwrap().parse().unwrap();
    assert!((2000..=4000).contains(&retry), "{retry}");
    assert_eq!(first.data()["state"], "watching");
    let keys: Vec<_> = first.data().as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["estimatedSecondsLeft", "state", "steps"]);
    see(&live, "j-1", HALF);
    let half = json!({ "title": "retrieve-accounts", "status": "in-progress" });
    loop {
        let said = stream.next_named("progress").await;
        assert_eq!(said.retry, None);
        if said.data()["steps"][1] == half {
            break;
        }
    }
    see(&live, "j-1", DONE);
    let progress = stream.next().await.unwrap();
    assert_eq!(progress.event, "progress");
    assert_eq!(progress.data()["state"], "settled");
    assert_eq!(progress.data()["estimatedSecondsLeft"], Value::Null);
    let event = stream.next().await.unwrap();
    assert_eq!(event.event, "job.success");
    let end = stream.next().await.unwrap();
    assert_eq!((&*end.event, end.id.as_deref()), ("end", Some("end")));
    assert_eq!(end.data(), json!({ "state": "settled" }));
    assert_eq!(stream.next().await, None, "it is closed");

    let told = || live.receiver.received();
    live.until(Duration::from_secs(10), || !told().is_empty())
        .await;
    let posted = &told()[0];
    assert_eq!(event.text, posted.raw, "the very same text");
    assert_eq!(event.id.as_deref(), Some(posted.header("webhook-id")));
    live.stop().await;
}

/// Requests a stream again, as an `EventSource` does after the last event it received.
async fn ask_again(live: &Live, watch: &Value, seen: &str) -> reqwest::Response {
    let url = watch["streamUrl"].as_str().unwrap();
    let call = live.bare(Method::GET, url).header("last-event-id", seen);
    call.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_the_event_that_was_seen_last() {
    let live = Live::start(quick).await;
    ask(&live, "j-1");
    let watch = live.register("j-1").await;
    let mut stream = live.listen(&watch).await;
    let first = stream.next_named("job.action-required").await;
    let seen = first.id.unwrap();
    drop(stream);
    let mut stream = Listener::to(ask_again(&live, &watch, &seen).await);
    let said = stream.next().await.unwrap();
    assert_eq!(said.event, "progress");
    assert_eq!(said.data()["state"], "awaiting-user");
    see(&live, "j-1", DONE);
    let last = stream.next_named("job.success").await.id.unwrap();
    assert_eq!(stream.rest().await, ["end"]);

    // A client that cannot send the header uses a query parameter.
    let url = watch["streamUrl"].as_str().unwrap();
    let by_parameter = live.bare(Method::GET, &format!("{url}&lastEventId={seen}"));
    let mut stream = Listener::to(by_parameter.send().await.unwrap());
    assert_eq!(stream.rest().await, ["progress", "job.success", "end"]);
    let whole = ["progress", "job.action-required", "job.success", "end"];
    for nothing in ["", "evt_01KAR2D3CV000G0V4Y8Q2M5T7R", "what"] {
        let mut stream = Listener::to(ask_again(&live, &watch, nothing).await);
        assert_eq!(stream.rest().await, whole, "{nothing}");
    }
    for all in ["end", &last] {
        let answer = ask_again(&live, &watch, all).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{all}");
    }
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_watch_when_that_is_cancelled() {
    let live = Live::start(quick).await;
    ask(&live, "j-1");
    let watch = live.register("j-1").await;
    let mut stream = live.listen(&watch).await;
    let seen = stream.next_named("job.action-required").await.id.unwrap();
    let path = format!("watch/{}", watch["id"].as_str().unwrap());
    let cancelled = live.call(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::NO_CONTENT);
    let progress = stream.next().await.unwrap();
    assert_eq!(progress.data()["state"], "cancelled");
    let end = stream.next().await.unwrap();
    assert_eq!(end.data(), json!({ "state": "cancelled" }));
    assert_eq!(stream.next().await, None);
    // The last event was not final, so a client that received it must still receive the end.
    let mut stream = Listener::to(ask_again(&live, &watch, &seen).await);
    assert_eq!(stream.rest().await, ["progress", "end"]);
    let answer = ask_again(&live, &watch, "end").await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_client_is_revoked_and_its_address_with_it() {
    let operator = "open sesame";
    let live = Live::start(|settings| {
        quick(settings);
        settings.server.admin_token = Some(operator.to_owned().into());
    })
    .await;
    see(&live, "j-1", BEGUN);
    let watch = live.register("j-1").await;
    let mut stream = live.listen(&watch).await;
    stream.next().await.unwrap();
    let revoke = live.bare(Method::DELETE, "admin/clients/live");
    let revoked = revoke.bearer_auth(operator).send().await.unwrap();
    assert_eq!(revoked.status(), StatusCode::OK);
    let end = stream.next_named("end").await;
    assert_eq!(end.data(), json!({ "state": "cancelled" }));
    assert_eq!(stream.next().await, None);
    let answer = ask_again(&live, &watch, "").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    live.stop().await;
}

/// Returns the first progress event in which a step has begun.
async fn first_step(stream: &mut Listener) -> Value {
    loop {
        let data = stream.next_named("progress").await.data();
        if data["steps"][0]["status"] == "in-progress" {
            return data;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_told_how_long_it_may_take_once_the_relay_has_learned_that() {
    let live = Live::start(quick).await;
    let jobs: Vec<_> = (0..4).map(|n| format!("j-{n}")).collect();
    let mut streams = Vec::new();
    for id in &jobs {
        see(&live, id, BEGUN);
        let watch = live.register(id).await;
        streams.push(live.listen(&watch).await);
    }
    for stream in &mut streams {
        let data = first_step(stream).await;
        let told = &data["estimatedSecondsLeft"];
        assert_eq!(*told, Value::Null, "nobody knows yet");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for id in &jobs {
        see(&live, id, DONE);
    }
    for stream in &mut streams {
        stream.next_named("end").await;
    }
    see(&live, "j-new", BEGUN);
    let watch = live.register("j-new").await;
    let mut stream = live.listen(&watch).await;
    let data = first_step(&mut stream).await;
    let left = data["estimatedSecondsLeft"].as_u64().unwrap();
    assert!((1..=5).contains(&left), "{data}");
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_not_held_up_by_streams_nor_by_calls_that_wait() {
    let live = Live::start(quick).await;
    see(&live, "j-1", BEGUN);
    let watch = live.register("j-1").await;
    let mut stream = live.listen(&watch).await;
    stream.next().await.unwrap();
    let path = format!("watch/{}?wait=60s", watch["id"].as_str().unwrap());
    let waiting = live.call(Method::GET, &path).send();
    let began = Instant::now();
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        live.stop().await;
    };
    let (waited, (), names) = tokio::join!(waiting, stopping, stream.rest());
    assert_eq!(waited.unwrap().status(), StatusCode::OK);
    assert!(!names.contains(&"end".to_owned()), "{names:?}");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_cannot_be_read_any_more_ends_its_streams_and_no_others() {
    let live = Live::start(quick).await;
    let mut streams = Vec::new();
    let mut ids = Vec::new();
    for id in ["j-1", "j-2"] {
        see(&live, id, BEGUN);
        let watch = live.register(id).await;
        streams.push(live.listen(&watch).await);
        ids.push(watch["id"].as_str().unwrap().to_owned());
    }
    for stream in &mut streams {
        first_step(stream).await;
    }
    let broken = format!(
        "UPDATE watches SET progress = 'x' WHERE watch_id = {}",
        literal(&ids[0])
    );
    live.database.execute(&broken).await;
    assert_eq!(streams[0].rest().await, Vec::<String>::new());
    see(&live, "j-2", DONE);
    streams[1].next_named("job.success").await;
    assert_eq!(streams[1].rest().await, ["end"]);
    live.abandon();
}
