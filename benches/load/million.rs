//! Measures a store with a million open watches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use basiq_relay::{
    app::open_store,
    config::{Settings, StoreConfig},
};
use relay_domain::clock::Clock;
use relay_store::{Claim, Store};
use tokio::task::JoinSet;

use crate::{
    basiq::Basiq,
    database::{Database, Kind, Server},
    figures::{Figures, float},
    process::RelayProcess,
};

/// The number of due jobs, whose claims are measured.
const DUE: usize = 20_000;

/// How often the due jobs are claimed. The best round counts.
const ROUNDS: usize = 5;

/// How long a relay runs before its memory is read.
const SETTLES: Duration = Duration::from_secs(6);

/// Measures memory, start and claims with a million open watches.
pub(crate) async fn run(kind: Kind, server: &Server, figures: &mut Figures<'_>) -> Result<()> {
    let empty = server.empty(kind, "million_none").await?;
    let few = claims(&empty, kind, 0).await?;
    let full = server.empty(kind, "million").await?;
    let many = claims(&full, kind, 1_000_000).await?;
    figures.note("claims", many, "jobs a second at a million open watches")?;
    figures.note("claims_ratio", many / few, "of the empty store's")?;
    let mut tasks = JoinSet::new();
    let basiq = Basiq::default().serve(&mut tasks).await?;
    let relay = RelayProcess::start(&full.setting(), &basiq).await?;
    figures.note(
        "ready_s",
        relay.ready_after.as_secs_f64(),
        "s from start to ready",
    )?;
    tokio::time::sleep(SETTLES).await;
    figures.note("rss_mb", relay.rss_mb()?, "MB at a million open watches")?;
    relay.kill().await
}

/// Measures claims per second on a store that has `open` open watches in addition to the due ones.
async fn claims(database: &Database, kind: Kind, open: usize) -> Result<f64> {
    let config = StoreConfig {
        database: database.url.clone(),
        ..Settings::default().store
    };
    let store = open_store(&config, &Clock::system()).await?.store;
    RelayProcess::add_client(&database.setting()).await?;
    fill(database, kind, open).await?;
    let mut best = 0.0_f64;
    for round in 0..ROUNDS {
        if round > 0 {
            free(database).await?;
        }
        best = best.max(claim_all(&store).await?);
    }
    free(database).await?;
    rest(database).await?;
    store.close().await;
    Ok(best)
}

async fn claim_all(store: &Arc<dyn Store>) -> Result<f64> {
    let claim = Claim {
        now: Clock::system().now(),
        lease: Duration::from_mins(10),
        limit: 256,
    };
    let (began, mut claimed) = (Instant::now(), 0);
    while claimed < DUE {
        let due = store.claim_due_jobs(claim).await?.len();
        anyhow::ensure!(due > 0, "due jobs are missing");
        claimed += due;
    }
    Ok(float(claimed) / began.elapsed().as_secs_f64())
}

/// Inserts `open` open watches whose jobs are due in a month, and `DUE` watches whose jobs are due now.
async fn fill(database: &Database, kind: Kind, open: usize) -> Result<()> {
    let later = Clock::system().now().as_millisecond() + 30 * 86_400_000;
    let all = open + DUE;
    let numbers = kind.numbers(all);
    // The ids of jobs do not contain their time; the ids of watches do.
    let (no, id, job, (key, number)) = match kind {
        Kind::Sqlite => (
            "0",
            "unhex(printf('%032x', n))",
            "printf('%08x-%d', n * 2654435761 & 4294967295, n)",
            // On SQLite, jobs are numbered in the order of their insertion.
            ("job_no", Some("n")),
        ),
        Kind::Postgres => (
            "FALSE",
            "decode(lpad(to_hex(n), 32, '0'), 'hex')",
            "lpad(to_hex(n::bigint * 2654435761 & 4294967295), 8, '0') || '-' || n",
            ("job_id", None),
        ),
    };
    let number = number.unwrap_or(job);
    database.run(&[
            format!(
                "INSERT INTO jobs (job_id, memory) SELECT {job}, '{{}}' FROM {numbers} numbers"
            ),
            format!(
                "INSERT INTO due_jobs ({key}, next_look_at, urgency, joined) \
                 SELECT {number}, CASE WHEN n <= {DUE} THEN n ELSE {later} + n END, 3, {no} \
                 FROM {numbers} numbers"
            ),
            format!(
                "INSERT INTO watches (watch_id, client_id, {key}, callback_url, callback_host, events, \
                 locale, metadata, state, progress, created_at, updated_at) \
                 SELECT {id}, (SELECT min(client_id) FROM clients), {number}, \
                 'https://app.example/hook', 'app.example', 15, 'en', '{{}}', 'watching', '{{}}', n, n \
                 FROM {numbers} numbers"
            ),
            derived(kind).to_owned(),
            "ANALYZE".to_owned(),
        ],
    )
    .await
}

/// Returns the statement that fills what the store keeps of its watches beside them: how many there are, or which are
/// open.
fn derived(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => {
            "INSERT INTO watch_counts (client_id, state, n) \
             SELECT client_id, state, count(*) FROM watches GROUP BY client_id, state"
        }
        Kind::Postgres => {
            "INSERT INTO unsettled_watches (client_id, state, watch_id, job_id, url_hash) \
             SELECT client_id, state, watch_id, job_id, decode(md5(callback_url), 'hex') FROM watches"
        }
    }
}

async fn free(database: &Database) -> Result<()> {
    let free = "UPDATE due_jobs SET lease_id = NULL, lease_until = NULL WHERE lease_id IS NOT NULL";
    database.run(&[free.to_owned()]).await
}

/// Makes all jobs due in a month.
async fn rest(database: &Database) -> Result<()> {
    let later = Clock::system().now().as_millisecond() + 30 * 86_400_000;
    let rest = format!("UPDATE due_jobs SET next_look_at = {later} WHERE next_look_at < {later}");
    database.run(&[rest]).await
}
