//! Measures whole cycles per second on one PostgreSQL, for one, two and three relays. Each relay is a process. A
//! cycle is: registered, looked at, event created, delivered.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    basiq::Basiq,
    clients::Registrations,
    database::Server,
    figures::{float, say},
    process::RelayProcess,
    receiver::Receiver,
};

/// The watches of a round, and the watches before it. With the earlier ones each relay prepares its statements.
const WATCHES: usize = 15_000;
const BEFORE: usize = 3_000;

/// Measures one, two and three relays, twice, so that the order has no influence.
pub(crate) async fn run() -> Result<()> {
    let server = Server::start().await?;
    let mut best = [0.0_f64; 3];
    for round in 0..2 {
        for (relays, best) in (1..).zip(&mut best) {
            let database = server.database(&format!("round_{round}_{relays}")).await?;
            *best = best.max(cycles(&database, relays).await?);
        }
    }
    let [one, ..] = best;
    for (relays, rate) in (1..).zip(best) {
        let ratio = rate / one;
        say(&format!(
            "{relays} relays  {rate:>7.0} cycles a second  {ratio:>5.2}"
        ))?;
    }
    server.stop().await
}

/// Measures cycles per second of `relays` relays on an empty database.
async fn cycles(database: &str, relays: usize) -> Result<f64> {
    let mut tasks = JoinSet::new();
    let basiq = Basiq::default().serve(&mut tasks).await?;
    let receiver = Receiver::default();
    let callback = receiver.serve(&mut tasks).await?;
    let mut processes = Vec::new();
    for _ in 0..relays {
        processes.push(RelayProcess::start(database, &basiq).await?);
    }
    let key = RelayProcess::add_client(database).await?;
    // Wait until each relay has counted the others.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let registrations = Registrations::new(&basiq, &key, callback.as_str())?;
    register(&registrations, &processes, BEFORE).await?;
    receiver.until(BEFORE).await?;
    let began = Instant::now();
    register(&registrations, &processes, BEFORE + WATCHES).await?;
    receiver.until(BEFORE + WATCHES).await?;
    let rate = float(WATCHES) / began.elapsed().as_secs_f64();
    for process in processes {
        process.kill().await?;
    }
    Ok(rate)
}

/// Registers watches at all relays at the same time, until there are `all`.
async fn register(
    registrations: &Registrations,
    processes: &[RelayProcess],
    all: usize,
) -> Result<()> {
    let mut clients = JoinSet::new();
    for process in processes {
        let registrations = registrations.also_at(&process.url)?;
        let servers = processes.len();
        clients.spawn(async move { registrations.divided(all, servers).await });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}
