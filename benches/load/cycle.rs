//! Measures registrations, whole cycles, and the time that the relay adds between a job's end and its callback.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;

use crate::{
    clients::{Bare, Registrations, WINDOW},
    database::{Kind, Server},
    figures::{Figures, float, percentile},
    receiver::Receiver,
    scene::Scene,
};

/// The watches of a round of cycles, and the watches before it. The earlier ones open connections and prepare
/// statements.
const CYCLES: usize = 10_000;
const WARM_UP: usize = 1_000;

/// The watches whose way to the callback is measured.
const MEASURED: usize = 4_000;

/// Measures durable registrations per second. Nothing else runs, because no job is looked at.
pub(crate) async fn registrations(
    kind: Kind,
    server: &Server,
    bare: &Bare,
    figures: &mut Figures<'_>,
) -> Result<()> {
    let database = server.empty(kind, "register").await?;
    let scene = Scene::set(database, Receiver::default()).await?;
    let (relay, _) = scene.relay().await?;
    let (listener, url) = crate::receiver::bind().await?;
    // Serves only the API, so jobs are not looked at.
    let router = relay.router.clone();
    let serving =
        tokio::task::JoinSet::from_iter([async move { axum::serve(listener, router).await }]);
    let clients = Registrations::new(&url, scene.key.expose(), scene.callback.as_str())?;
    let before = bare.registrations().await?;
    let rate = clients.for_a_while(WINDOW).await?;
    let bare = f64::midpoint(before, bare.registrations().await?);
    drop(serving);
    relay.store.close().await;
    figures.note("registrations", rate, "a second")?;
    figures.note("register_bare", bare, "a second, by the bare handler")?;
    figures.note("register_ratio", rate / bare, "of those")
}

/// Measures whole cycles per second, from the registration to the receiver's answer.
pub(crate) async fn cycles(
    kind: Kind,
    server: &Server,
    bare: &Bare,
    figures: &mut Figures<'_>,
) -> Result<f64> {
    let database = server.empty(kind, "cycle").await?;
    let scene = Scene::set(database, Receiver::default()).await?;
    let relay = scene.start().await?;
    let clients = Registrations::new(&relay.url, scene.key.expose(), scene.callback.as_str())?;
    clients.so_many(WARM_UP).await?;
    scene.receiver.until(WARM_UP).await?;
    let before = bare.posts().await?;
    let began = Instant::now();
    clients.so_many(WARM_UP + CYCLES).await?;
    scene.receiver.until(WARM_UP + CYCLES).await?;
    let rate = float(CYCLES) / began.elapsed().as_secs_f64();
    let bare = f64::midpoint(before, bare.posts().await?);
    relay.stop().await?;
    figures.note("cycle_per_s", rate, "whole cycles a second")?;
    figures.note("cycle_bare", bare, "bare posts a second")?;
    figures.note("cycle_ratio", rate / bare, "of those")?;
    Ok(rate)
}

/// Measures the time from Basiq's answer that shows a job done to the arrival of its callback, at this rate.
pub(crate) async fn overhead(
    kind: Kind,
    server: &Server,
    rate: f64,
    figures: &mut Figures<'_>,
) -> Result<()> {
    let database = server.empty(kind, "overhead").await?;
    let scene = Scene::set(database, Receiver::noting()).await?;
    let relay = scene.start().await?;
    let clients = Registrations::new(&relay.url, scene.key.expose(), scene.callback.as_str())?;
    clients.paced(MEASURED, rate).await?;
    scene.receiver.until(MEASURED).await?;
    let answered = scene.basiq.answered();
    let waits = scene.receiver.noted().into_iter().filter_map(|(at, body)| {
        let event: Value = serde_json::from_slice(&body).ok()?;
        let answered = answered.get(event.get("jobId")?.as_str()?)?;
        Some(at.duration_since(*answered).as_secs_f64() * 1e3)
    });
    let mut waits: Vec<f64> = waits.collect();
    relay.stop().await?;
    figures.note("overhead_ms_median", percentile(&mut waits, 50), "ms")?;
    figures.note("overhead_ms_p99", percentile(&mut waits, 99), "ms")
}
