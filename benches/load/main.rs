//! Measures a relay's load, and the limit of this machine, in one run with the same client code:
//! `cargo bench --bench load`. It uses loopback only and takes under five minutes. It prints a table and one line of
//! JSON.
//!
//! Arguments choose parts:
//! * `sqlite`, `postgres`: both if neither is named.
//! * `register`, `deliver`, `cycle`, `overhead`, `isolation`, `million`: all if none is named.
//! * `fleet`: measures one, two and three relays on one PostgreSQL instead.
//! * `subscriptions`: measures 100,000 subscriptions instead, which takes six minutes for each store.

mod basiq;
mod clients;
mod cycle;
mod database;
mod deliver;
mod figures;
mod fleet;
mod isolation;
mod million;
mod people;
mod process;
mod receiver;
mod scene;
mod subscriptions;

use anyhow::Result;
use mimalloc::MiMalloc;

use crate::{
    clients::Bare,
    database::{Kind, Server},
    figures::{Figures, Report},
};

/// The same allocator as in the relay's own program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The parts to measure.
struct Choice(Vec<String>);

impl Choice {
    fn of_arguments() -> Self {
        // Cargo adds the argument `--bench`.
        let words = std::env::args().skip(1);
        Self(words.filter(|word| !word.starts_with('-')).collect())
    }

    fn names(&self, word: &str) -> bool {
        self.0.iter().any(|chosen| chosen == word)
    }

    fn kinds(&self) -> Vec<Kind> {
        let all = [Kind::Sqlite, Kind::Postgres];
        let named: Vec<_> = all
            .into_iter()
            .filter(|kind| self.names(kind.word()))
            .collect();
        if named.is_empty() { all.into() } else { named }
    }

    fn measures(&self, part: &str) -> bool {
        let parts = [
            "register",
            "deliver",
            "cycle",
            "overhead",
            "isolation",
            "million",
        ];
        self.names(part) || !parts.iter().any(|part| self.names(part))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let choice = Choice::of_arguments();
    if choice.names("fleet") {
        return fleet::run().await;
    }
    let server = Server::start().await?;
    let mut report = Report::default();
    let bare = Bare::start().await?;
    for kind in choice.kinds() {
        if choice.names("subscriptions") {
            subscriptions::run(kind, &server, &mut report.of(kind)).await?;
            continue;
        }
        measure(&choice, kind, (&server, &bare), &mut report.of(kind)).await?;
    }
    server.stop().await?;
    report.print()
}

/// Measures the chosen parts on one kind of store.
async fn measure(
    choice: &Choice,
    kind: Kind,
    (server, bare): (&Server, &Bare),
    figures: &mut Figures<'_>,
) -> Result<()> {
    if choice.measures("register") {
        cycle::registrations(kind, server, bare, figures).await?;
    }
    if choice.measures("deliver") {
        deliver::run(kind, server, bare, figures).await?;
    }
    let (cycle, overhead) = (choice.measures("cycle"), choice.measures("overhead"));
    if cycle || overhead {
        let rate = cycle::cycles(kind, server, bare, figures).await?;
        if overhead {
            cycle::overhead(kind, server, rate / 2.0, figures).await?;
        }
    }
    if choice.measures("isolation") {
        isolation::run(kind, server, figures).await?;
    }
    if choice.measures("million") {
        million::run(kind, server, figures).await?;
    }
    Ok(())
}
