//! Measures how much hosts that hang delay deliveries to other hosts.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, Result};
use relay_domain::Fleet;
use relay_runtime::run_worker;
use reqwest::Url;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Kind, Server},
    deliver::fill,
    figures::{Figures, percentile},
    receiver::Receiver,
    scene::Scene,
};

/// The number of hosts that answer, and of hosts that hang. Each has its own address in the loopback network.
const HEALTHY: usize = 10;
const HUNG: usize = 3;

/// The number of events for hosts that answer. Hosts that hang get a tenth as many.
const EVENTS: usize = 3_000;

/// How often both cases are measured, because a single measurement varies too much.
const ROUNDS: usize = 3;

/// Compares the 99th percentile of the waits at healthy hosts, with and without hosts that hang. The hosts that hang
/// get one more event for each ten. The figures are medians.
pub(crate) async fn run(kind: Kind, server: &Server, figures: &mut Figures<'_>) -> Result<()> {
    let (mut waits, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let without = p99(kind, server, (0, round)).await?;
        let with = p99(kind, server, (EVENTS / 10, round)).await?;
        waits.push(with);
        ratios.push(with / without);
    }
    let with = percentile(&mut waits, 50);
    figures.note("isolation_p99_ms", with, "ms with hung hosts")?;
    figures.note(
        "isolation",
        percentile(&mut ratios, 50),
        "times the 99th percentile without them",
    )
}

async fn p99(kind: Kind, server: &Server, (hung, round): (usize, usize)) -> Result<f64> {
    let part = format!("isolation_{hung}_{round}");
    let scene = Scene::set(server.empty(kind, &part).await?, Receiver::noting()).await?;
    let mut tasks = JoinSet::new();
    let mut hosts = Vec::new();
    for host in 0..HEALTHY {
        let address = address(10 + host)?;
        hosts.push(scene.receiver.serve_at(address, &mut tasks).await?);
    }
    let mut dead = Vec::new();
    for host in 0..HUNG {
        dead.push(hang(address(100 + host)?, &mut tasks).await?);
    }
    let default = |settings: &mut basiq_relay::config::Settings| {
        settings.delivery.concurrency_per_host = 16;
    };
    let (relay, client) = scene.relay_with(default).await?;
    // The events for hosts that hang are the oldest.
    let callback = |number: usize| {
        let url = match number.checked_sub(hung) {
            None => dead.get(number % HUNG),
            Some(number) => hosts.get(number % HEALTHY),
        };
        url.map(ToString::to_string).unwrap_or_default()
    };
    fill(&relay.store, client, EVENTS + hung, callback).await?;
    let (stop, mut worker) = (CancellationToken::new(), JoinSet::new());
    let began = Instant::now();
    worker.spawn(run_worker(relay.delivery, Fleet::alone(), stop.clone()));
    scene.receiver.until(EVENTS).await?;
    worker.shutdown().await;
    relay.store.close().await;
    let waits = scene.receiver.noted().into_iter();
    let mut waits: Vec<f64> = waits
        .map(|(at, _)| at.duration_since(began).as_secs_f64() * 1e3)
        .collect();
    Ok(percentile(&mut waits, 99))
}

fn address(last: usize) -> Result<SocketAddr> {
    let last = u8::try_from(last).context("an address")?;
    Ok(SocketAddr::from(([127, 0, 0, last], 0)))
}

/// Starts a host that accepts connections and never answers.
async fn hang(address: SocketAddr, tasks: &mut JoinSet<()>) -> Result<Url> {
    let listener = TcpListener::bind(address).await?;
    let url = Url::parse(&format!("http://{}/hook", listener.local_addr()?))?;
    tasks.spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    Ok(url)
}
