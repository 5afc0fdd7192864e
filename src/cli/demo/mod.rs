//! `basiq-relay demo`: sandbox, relay and receiver in one process, over real HTTP on loopback.

mod basiq;
mod report;
mod scenario;
mod stage;

use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use tokio::sync::mpsc;

use crate::{
    cli::{
        demo::{report::ArrivedEvent, scenario::SCENARIOS, stage::DemoStage},
        exit::CommandFailure,
        output,
        progress::{self, StatusLine},
        terminal::Screen,
    },
    config::{LogConfig, Settings},
    telemetry,
};

/// The maximum time for all scenarios; each one ends far sooner.
const TIME_LIMIT: Duration = Duration::from_secs(28);

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay demo --keep")]
pub(super) struct DemoArgs {
    /// Keep sandbox, relay and receiver running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Log filter, as in RELAY_LOG.
    #[arg(long, default_value = "error")]
    log: String,
}

pub(super) async fn run(args: DemoArgs) -> Result<(), CommandFailure> {
    let log = LogConfig {
        filter: args.log,
        ..Settings::default().log
    };
    let telemetry = telemetry::init(&log).map_err(CommandFailure::usage)?;
    let setting = Box::pin(DemoStage::set());
    let stage = progress::shown("setting the stage", setting).await?;
    output::line(stage.describe())?;
    let outcome = play(&stage).await;
    if args.keep {
        output::line("\nEverything keeps running; stop with Ctrl-C.")?;
        relay_runtime::signalled()
            .await
            .context("signals cannot be received")?;
    }
    progress::shown("stopping everything", stage.strike()).await?;
    drop(telemetry);
    let missed = outcome?;
    if missed > 0 {
        return Err(CommandFailure::failed(anyhow!(
            "{missed} scenarios did not end as documented"
        )));
    }
    Ok(())
}

/// Plays all scenarios at once, prints each event when it arrives, and then prints the table. Returns how many
/// scenarios did not end as documented.
async fn play(stage: &DemoStage) -> anyhow::Result<usize> {
    let (told, mut tellings) = mpsc::channel::<ArrivedEvent>(64);
    let plays =
        join_all(
            SCENARIOS.iter().map(|scenario| {
                let told = told.clone();
                async move {
                    tokio::time::timeout(TIME_LIMIT, scenario::play(scenario, stage, &told)).await
                }
            }),
        );
    drop(told);
    let screen = Screen::detect();
    let print = async {
        output::line(report::heading(&screen))?;
        let (mut progress, waiting) = (StatusLine::new(), "waiting for the next event");
        while let Some(telling) = progress.during(waiting, tellings.recv()).await {
            progress.hide();
            output::line(report::lines(&telling, &screen))?;
        }
        anyhow::Ok(())
    };
    let (results, printed) = tokio::join!(plays, print);
    printed?;
    let results = results.into_iter().map(|result| match result {
        Ok(ended) => ended,
        Err(_) => Err(anyhow!("did not end within {TIME_LIMIT:?}")),
    });
    let rows = SCENARIOS
        .iter()
        .zip(results)
        .map(|(scenario, result)| report::row(scenario, result));
    let rows = rows.collect::<Vec<_>>();
    output::line(report::table(&rows, &screen))?;
    Ok(rows.iter().filter(|row| !row.passed).count())
}
