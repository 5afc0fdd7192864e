//! Calls that wait for a change.

use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::Value;

use super::{BEGUN, DONE, HALF, quick, see};
use crate::support::live::Live;

/// The maximum time from a change until the answer of a call that waits for it.
const SOON: Duration = Duration::from_millis(250);

/// The maximum time from a change at Basiq until the look that finds it.
const LOOK: Duration = Duration::from_millis(150);

async fn get(live: &Live, watch: &Value, query: &str, had: Option<&str>) -> Response {
    let path = format!("watch/{}{query}", watch["id"].as_str().unwrap());
    let mut call = live.call(Method::GET, &path);
    if let Some(had) = had {
        call = call.header("if-none-match", had);
    }
    call.send().await.unwrap()
}

fn tag(answer: &Response) -> String {
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

/// Registers a watch, and waits until a look has found its job at `BEGUN`.
async fn begun(live: &Live) -> Value {
    see(live, "j-1", BEGUN);
    let watch = live.register("j-1").await;
    let began = Instant::now();
    loop {
        let answer = get(live, &watch, "", None).await;
        let read: Value = answer.json().await.unwrap();
        if read["steps"][0]["status"] == "in-progress" {
            return watch;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{read}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes a change while a call waits for it. Returns the time from the change to the answer.
async fn wait_for(
    live: &Live,
    (watch, had): (&Value, Option<&str>),
    change: impl AsyncFnOnce(),
) -> (Response, Duration) {
    let waiting = async {
        let answer = get(live, watch, "?wait=30s", had).await;
        (answer, Instant::now())
    };
    let changing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        change().await;
        Instant::now()
    };
    let ((answer, answered), changed) = tokio::join!(waiting, changing);
    (answer, answered.saturating_duration_since(changed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_answered_when_the_watch_changes_and_at_once_when_it_has_ended() {
    let live = Live::start(quick).await;
    let watch = begun(&live).await;
    let mut had = None;
    let mut total = Duration::ZERO;
    for statuses in [HALF, BEGUN, HALF, BEGUN, HALF] {
        let change = async || see(&live, "j-1", statuses);
        let (answer, after) = wait_for(&live, (&watch, had.as_deref()), change).await;
        assert_eq!(answer.status(), 200);
        total += after;
        had = Some(tag(&answer));
        let read: Value = answer.json().await.unwrap();
        assert_eq!(read["steps"][0]["status"], statuses[0]);
        assert!(read["streamUrl"].is_string());
    }
    println!("five changes of a step were told after {total:?} in all");
    assert!(total < 5 * (LOOK + SOON), "{total:?}");

    let change = async || see(&live, "j-1", DONE);
    let (answer, _) = wait_for(&live, (&watch, had.as_deref()), change).await;
    let read: Value = answer.json().await.unwrap();
    assert_eq!(read["state"], "settled");
    let began = Instant::now();
    for (had, expected) in [(None, 200), (had.as_deref(), 200), (Some("*"), 304)] {
        let answer = get(&live, &watch, "?wait=30s", had).await;
        assert_eq!(answer.status(), expected, "{had:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "it has ended");
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_answered_when_its_watch_is_cancelled() {
    let live = Live::start(quick).await;
    let watch = begun(&live).await;
    let path = format!("watch/{}", watch["id"].as_str().unwrap());
    let cancel = async || {
        let cancelled = live.call(Method::DELETE, &path).send().await.unwrap();
        assert_eq!(cancelled.status(), 204);
    };
    let (answer, after) = wait_for(&live, (&watch, None), cancel).await;
    println!("a cancel was told after {after:?}");
    assert!(after < SOON, "{after:?}");
    let read: Value = answer.json().await.unwrap();
    assert_eq!(read["state"], "cancelled");
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_time_is_over_without_a_change_the_caller_is_told_that_it_has_the_watch() {
    let live = Live::start(quick).await;
    let watch = begun(&live).await;
    let read = get(&live, &watch, "", None).await;
    let (had, began) = (tag(&read), Instant::now());
    let answer = get(&live, &watch, "?wait=1s", Some(&had)).await;
    assert_eq!((answer.status().as_u16(), tag(&answer)), (304, had.clone()));
    let waited = began.elapsed();
    assert!((1..3).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(answer.text().await.unwrap(), "");
    let answer = get(&live, &watch, "?wait=200ms", None).await;
    assert_eq!((answer.status().as_u16(), tag(&answer)), (200, had.clone()));
    // There were looks meanwhile, but they changed nothing in the document.
    let strong = had.trim_start_matches("W/");
    let list = format!("\"other\", {strong}");
    for had in [&had, strong, &list, "*"] {
        let answer = get(&live, &watch, "", Some(had)).await;
        assert_eq!(answer.status(), 304, "{had}");
    }
    let began = Instant::now();
    let answer = get(&live, &watch, "?wait=30s", Some("\"other\"")).await;
    assert_eq!(answer.status(), 200);
    assert!(began.elapsed() < Duration::from_secs(5), "it has another");
    live.stop().await;
}
