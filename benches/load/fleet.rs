//! Whole cycles a second (registered, looked at, told, delivered) of one, two and three relays, each a
//! process, on one PostgreSQL.

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

/// Watches of a round.
const WATCHES: usize = 6_000;

/// One, two and three relays, twice, so that the order does not decide.
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

/// Cycles a second of so many relays on an empty database.
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
    // until each knows of the others
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for (place, process) in processes.iter().enumerate() {
        let share = WATCHES / relays + usize::from(place < WATCHES % relays);
        let callback = format!("{callback}/{place}");
        let registrations = Registrations::new(&process.url, &key, &callback)?;
        clients.spawn(async move { registrations.divided(share, relays).await });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    receiver.until(WATCHES).await?;
    let rate = float(WATCHES) / began.elapsed().as_secs_f64();
    for process in processes {
        process.kill().await?;
    }
    Ok(rate)
}
