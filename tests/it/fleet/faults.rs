//! PostgreSQL is away, slow, full or cut off: no acknowledged work is lost, and work resumes without help.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use basiq_relay::config::{DatabaseUrl, PostgresUrl};
use relay_domain::clock::Clock;
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Executor};

use super::crew::Crew;
use crate::support::{cable::Cable, cluster::Cluster, database::setting, job};

const SECOND: Duration = Duration::from_secs(1);

/// Makes Basiq show a job as done.
fn settle(crew: &Crew, id: &str) {
    let done = [("create-report", "success", Value::Null)];
    crew.sandbox
        .seed_document(id, job(id, Clock::system().now(), &done));
}

/// Registers a watch until the answer is 202. Returns how often the answer was 503.
async fn insist(crew: &Crew, job: &str) -> usize {
    let mut refused = 0;
    loop {
        let (status, _, body) = crew.try_watch(0, job).await.unwrap();
        if status.is_success() {
            return refused;
        }
        assert_eq!(status.as_u16(), 503, "{body}");
        refused += 1;
    }
}

/// Returns the database of a crew through a proxy that the test can cut.
async fn wired(crew: &Crew) -> (Cable, DatabaseUrl) {
    let mut url: url::Url = setting(&crew.settings.store.database).parse().unwrap();
    let server: SocketAddr = format!("127.0.0.1:{}", url.port().unwrap())
        .parse()
        .unwrap();
    let cable = Cable::to(server).await;
    url.set_port(Some(cable.address.port())).unwrap();
    let url = PostgresUrl::parse(url.as_str()).unwrap();
    (cable, DatabaseUrl::Postgres(url))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_away_watches_are_refused_and_afterwards_all_goes_on() {
    let cluster = Cluster::start().await;
    let mut crew = Crew::gather(|settings| {
        settings.basiq.requests_per_second = 100;
        settings.store.database = cluster.database();
    })
    .await;
    crew.join().await;
    // One event is delivered, and one is in progress when the server stops.
    settle(&crew, "j-1");
    crew.watch(0, "j-1").await;
    crew.until(10 * SECOND, |crew| crew.told() == 1).await;
    crew.watch(0, "j-2").await;
    cluster.stop().await;

    let (status, wait, problem) = crew.try_watch(0, "j-3").await.unwrap();
    assert_eq!((status.as_u16(), wait.is_some()), (503, true), "{problem}");
    let (status, problem) = crew.readiness(0).await;
    assert_eq!(
        (status.as_u16(), problem["store"].as_str()),
        (503, Some("unreachable")),
        "{problem}"
    );

    settle(&crew, "j-2");
    cluster.start_again().await;
    crew.until(20 * SECOND, |crew| crew.told() == 2).await;
    let began = Instant::now();
    while crew.readiness(0).await.0 != 200 {
        assert!(began.elapsed() < 10 * SECOND, "it is not ready again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    settle(&crew, "j-3");
    crew.watch(0, "j-3").await;
    crew.until(10 * SECOND, |crew| crew.told() == 3).await;
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_in_the_middle_of_transactions_lose_nothing_that_was_acknowledged() {
    let mut crew = Crew::gather(|settings| {
        settings.basiq.requests_per_second = 500;
        // If the response to a claim is lost, nobody works on the claim until its lease expires.
        settings.basiq.timeout = SECOND;
        settings.delivery.timeout = SECOND;
        settings.server.client_rps = 100_000;
    })
    .await;
    let (cable, database) = wired(&crew).await;
    crew.join_through(database, Clock::system()).await;
    let jobs: Vec<_> = (0..300).map(|n| format!("j-{n}")).collect();
    for job in &jobs {
        settle(&crew, job);
    }
    let mut refused = 0;
    for (n, job) in jobs.iter().enumerate() {
        if n % 10 == 0 {
            cable.cut();
        }
        refused += insist(&crew, job).await;
    }
    crew.until(90 * SECOND, |crew| {
        let received = crew.receiver.received();
        let mut told: Vec<_> = received
            .iter()
            .map(|one| one.body["jobId"].to_string())
            .collect();
        told.sort_unstable();
        told.dedup();
        told.len() == 300
    })
    .await;
    assert!(refused < 300, "most get through: {refused} refused");
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_full_refuses_for_a_while_and_recovers() {
    let mut crew = Crew::gather(|settings| settings.basiq.requests_per_second = 100).await;
    crew.join().await;
    settle(&crew, "j-1");
    crew.watch(0, "j-1").await;
    crew.until(10 * SECOND, |crew| crew.told() == 1).await;
    // Every write waits for this lock, until all connections of the pool are in use.
    let mut blocker = crew.database.direct().connect().await.unwrap();
    blocker
        .execute("BEGIN; LOCK TABLE clients, due_jobs, jobs, watches, outbox")
        .await
        .unwrap();
    settle(&crew, "j-2");
    let began = Instant::now();
    let calls = (0..40).map(|_| crew.try_watch(0, "j-2"));
    for answer in futures_util::future::join_all(calls).await {
        let (status, wait, body) = answer.unwrap();
        assert_eq!((status.as_u16(), wait.is_some()), (503, true), "{body}");
    }
    assert!(
        began.elapsed() < 30 * SECOND,
        "refused after {:?}",
        began.elapsed()
    );
    blocker.execute("ROLLBACK").await.unwrap();
    blocker.close().await.unwrap();
    let began = Instant::now();
    while !crew.try_watch(0, "j-2").await.unwrap().0.is_success() {
        assert!(began.elapsed() < 20 * SECOND, "it does not recover");
    }
    crew.until(20 * SECOND, |crew| crew.told() == 2).await;
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_no_relay_was_told_of_is_found_all_the_same() {
    let mut crew = Crew::gather(|settings| settings.basiq.requests_per_second = 100).await;
    let (cable, database) = wired(&crew).await;
    crew.join().await;
    crew.join_through(database, Clock::system()).await;
    let mut direct = crew.database.direct().connect().await.unwrap();
    settle(&crew, "j-1");
    crew.watch(0, "j-1").await;
    crew.until(10 * SECOND, |crew| crew.told() == 1).await;
    // This simulates a relay that stores a watch and dies before its notification. The other relay receives none.
    crew.kill(0).await;
    cable.cut();
    settle(&crew, "j-2");
    direct
        .execute(
            "INSERT INTO jobs (job_id, memory) VALUES ('j-2', '{}'); \
             INSERT INTO due_jobs (job_id, next_look_at, urgency, joined) VALUES ('j-2', 0, 0, TRUE); \
             INSERT INTO watches SELECT '\\x00000000000000000000000000000001', client_id, 'j-2', callback_url, \
             callback_host, operation, events, until_step, locale, metadata, 'watching', '{}', created_at, \
             updated_at, NULL FROM watches WHERE job_id = 'j-1'; \
             INSERT INTO unsettled_watches (client_id, state, watch_id, job_id, url_hash) \
             SELECT client_id, state, watch_id, job_id, decode(md5(callback_url), 'hex') \
             FROM watches WHERE job_id = 'j-2'",
        )
        .await
        .unwrap();
    crew.until(12 * SECOND, |crew| crew.told() == 2).await;
    crew.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_that_is_dead_for_a_while_is_no_end() {
    let mut crew = Crew::gather(|settings| settings.basiq.requests_per_second = 100).await;
    let (cable, database) = wired(&crew).await;
    crew.join_through(database, Clock::system()).await;
    crew.watch(0, "j-1").await;
    cable.kill();
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(crew.readiness(0).await.0, 503);
    settle(&crew, "j-1");
    cable.mend();
    crew.until(20 * SECOND, |crew| crew.told() == 1).await;
    crew.stop().await;
}
