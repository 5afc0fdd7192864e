//! `basiq-relay backup`: copies the SQLite store while the relay runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use relay_store::sqlite::{BackupSummary, back_up};
use serde_json::json;

use crate::{
    cli::{
        ConfigArg,
        exit::CommandFailure,
        output::{self, counted},
        progress::StatusLine,
    },
    config::{DatabaseUrl, Settings},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: basiq-relay backup --to /backups/relay-monday.db\n\n\
        The relay may run while you make the backup. The command checks the backup for damage, and replaces no file. \
        For a store in PostgreSQL, use PostgreSQL's own tools."
)]
pub(super) struct BackupArgs {
    /// New file to write
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) async fn run(args: BackupArgs) -> Result<(), CommandFailure> {
    let settings = Settings::load(args.config.config.as_deref()).map_err(CommandFailure::usage)?;
    let DatabaseUrl::Sqlite(from) = settings.store.database else {
        let postgres = "RELAY_DATABASE_URL: the store is in PostgreSQL; back it up by pg_dump or pg_basebackup";
        return Err(CommandFailure::usage(anyhow!(postgres)));
    };
    check_folder(&args.to)?;
    let to = args.to.clone();
    let copying = tokio::task::spawn_blocking(move || {
        let mut line = StatusLine::for_progress();
        back_up(&from, &to, &mut |progress| {
            line.progress(format!("{} of {} pages", progress.copied, progress.of));
        })
    });
    let summary = copying.await.context("the backup broke off")?;
    let summary = summary.map_err(anyhow::Error::from)?;
    output::line(if args.json {
        as_json(&summary)
    } else {
        as_text(&summary, &args.to)
    })?;
    Ok(())
}

/// Fails if the backup's folder does not exist.
fn check_folder(to: &Path) -> Result<(), CommandFailure> {
    match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            let missing = anyhow!("--to: the directory {} does not exist", folder.display());
            Err(CommandFailure::failed(missing))
        }
        Some(_) | None => Ok(()),
    }
}

fn as_json(summary: &BackupSummary) -> String {
    let (watches, open) = (summary.watches, summary.open_watches);
    json!({ "bytes": summary.bytes, "watches": watches, "openWatches": open }).to_string()
}

fn as_text(summary: &BackupSummary, to: &Path) -> String {
    format!(
        "{}: {}, {}, {} of them open; the copy is whole",
        to.display(),
        counted(summary.bytes, "byte"),
        counted(summary.watches, "watch"),
        summary.open_watches,
    )
}
