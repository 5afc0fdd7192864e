//! A stream at one relay shows changes that another relay records.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::crew::Crew;
use crate::support::{job, listener::Listener};

const JOBS: usize = 6;

fn see(crew: &Crew, statuses: [&str; 2]) {
    let now = relay_domain::clock::Clock::system().now();
    for n in 0..JOBS {
        let id = format!("j-{n}");
        let steps = [
            ("verify-credentials", statuses[0], Value::Null),
            ("retrieve-accounts", statuses[1], Value::Null),
        ];
        crew.sandbox.seed_document(&id, job(&id, now, &steps));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_at_each_relay_tell_what_any_of_them_sees() {
    let mut crew = Crew::gather(|settings| {
        settings.tracking.poll_min_interval = Duration::from_millis(50);
        settings.tracking.poll_max_interval = Duration::from_millis(200);
        settings.basiq.requests_per_second = 1000;
    })
    .await;
    see(&crew, ["in-progress", "pending"]);
    crew.join().await;
    crew.join().await;
    let mut streams = Vec::new();
    for n in 0..JOBS {
        let (_, _, watch) = crew.try_watch(n % 2, &format!("j-{n}")).await.unwrap();
        let url = watch["streamUrl"].as_str().unwrap();
        // One relay signs the address, and it is valid at each relay.
        for relay in &crew.relays {
            let call = crew.http.get(format!("{}{url}", relay.base));
            streams.push(Listener::to(call.send().await.unwrap()));
        }
    }
    see(&crew, ["success", "in-progress"]);
    let done = json!({ "title": "verify-credentials", "status": "success" });
    let began = Instant::now();
    for stream in &mut streams {
        while stream.next_named("progress").await.data()["steps"][0] != done {}
    }
    let steps = began.elapsed();
    see(&crew, ["success", "success"]);
    let began = Instant::now();
    for stream in &mut streams {
        stream.next_named("job.success").await;
        assert_eq!(stream.rest().await, ["end"]);
    }
    let events = began.elapsed();
    println!("at both relays: steps after {steps:?}, events after {events:?}");
    assert!(steps < Duration::from_secs(3), "{steps:?}");
    assert!(events < Duration::from_secs(3), "{events:?}");
    crew.until(Duration::from_secs(20), |crew| crew.told() >= JOBS)
        .await;
    crew.stop().await;
}
