//! `basiq-relay demo`: sandbox, relay and receiver in one process, over real HTTP on loopback.

mod basiq;
mod play;
mod report;
mod scenario;
mod stage;

use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use tokio::sync::mpsc;

use crate::{
    cli::{
        demo::{
            play::ScenarioPlay,
            report::{ScenarioUpdate, ScenarioUpdateKind},
            scenario::SCENARIOS,
            stage::DemoStage,
        },
        exit::CommandFailure,
        output::{self, counted},
        progress::{self, StatusLine},
        terminal::Screen,
    },
    config::{LogConfig, Settings, log_filter},
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
    #[arg(long, default_value = "error", value_parser = log_filter)]
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
            "{} did not end as documented",
            counted(missed, "scenario")
        )));
    }
    Ok(())
}

/// Plays all scenarios at once, tells what happens when it happens, and then prints the table. Returns how many
/// scenarios did not end as documented.
async fn play(stage: &DemoStage) -> anyhow::Result<usize> {
    let (sender, news) = mpsc::channel::<ScenarioUpdate>(64);
    let plays = SCENARIOS
        .iter()
        .map(|scenario| ScenarioPlay::new(scenario, stage, sender.clone()).run(TIME_LIMIT));
    let plays = join_all(plays.collect::<Vec<_>>());
    drop(sender);
    let screen = Screen::detect();
    let (results, printed) = tokio::join!(plays, print(news, &screen));
    printed?;
    let rows = SCENARIOS
        .iter()
        .zip(results)
        .map(|(scenario, result)| report::row(scenario, result));
    let rows = rows.collect::<Vec<_>>();
    output::line(report::table(&rows, &screen))?;
    Ok(rows.iter().filter(|row| !row.passed).count())
}

/// Prints the news until all scenarios have ended. While nothing happens, a terminal shows what is waited for.
async fn print(mut news: mpsc::Receiver<ScenarioUpdate>, screen: &Screen) -> anyhow::Result<()> {
    output::line(report::heading(screen))?;
    let (mut progress, mut open) = (StatusLine::new(), Vec::new());
    loop {
        let waiting = report::waiting_for(&open, screen);
        let Some(one) = progress.during(&waiting, news.recv()).await else {
            return Ok(());
        };
        match one.kind {
            ScenarioUpdateKind::Begins => open.push(one.scenario),
            ScenarioUpdateKind::Ends => open.retain(|scenario| scenario.slug != one.scenario.slug),
            ScenarioUpdateKind::Acts(_) | ScenarioUpdateKind::Told { .. } => {}
        }
        if let Some(lines) = report::lines(&one, screen) {
            progress.hide();
            output::line(lines)?;
        }
    }
}
