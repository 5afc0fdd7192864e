//! `basiq-relay migrate-store`: moves a SQLite relay's data to PostgreSQL.

use anyhow::anyhow;
use relay_store::transfer::{RowCount, TransferResult};
use serde_json::{Value, json};

use crate::{
    app::StoreMove,
    cli::{colour::Painter, exit::CommandFailure, output, progress::StatusLine},
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: basiq-relay migrate-store --from sqlite://basiq-relay.db \
        --to postgres://relay@db.example/relay\n\n\
        Stop the relay first, and start it afterwards with RELAY_DATABASE_URL set to the new address \
        and the same RELAY_ENCRYPTION_KEY: secrets are moved as they are stored. All is moved or \
        nothing, and the file stays as it is. A password that the address lacks is taken from \
        PGPASSWORD."
)]
pub(super) struct MigrateStoreArgs {
    /// SQLite file to move from: `sqlite://PATH`
    #[arg(long, value_name = "URL")]
    from: String,
    /// Empty PostgreSQL database to move to: `postgres://…`
    #[arg(long, value_name = "URL")]
    to: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: MigrateStoreArgs) -> Result<(), CommandFailure> {
    let relocation = StoreMove::between(&args.from, &args.to).map_err(CommandFailure::usage)?;
    let mut line = StatusLine::for_progress();
    let moved = relocation
        .make(&mut |progress| {
            let (table, copied, of) = (words(progress.table), progress.copied, progress.of);
            line.progress(format!("{table}: {copied} of {of}"));
        })
        .await;
    drop(line);
    let moved = moved?;
    if args.json {
        output::line(to_json(&moved))?;
    } else {
        output::line(to_text(&moved, &relocation.from()))?;
    }
    if moved.is_done() {
        Ok(())
    } else {
        let differ = "the two stores differ, so nothing was moved: the database is empty again";
        Err(CommandFailure::failed(anyhow!(differ)))
    }
}

fn to_json(moved: &TransferResult) -> Value {
    let counts = moved
        .counts
        .iter()
        .map(|count| json!({ "name": count.name, "source": count.source, "target": count.target }));
    json!({ "moved": moved.is_done(), "counts": counts.collect::<Vec<_>>() })
}

/// Formats the counts of both stores side by side, and the next step.
fn to_text(moved: &TransferResult, from: &str) -> String {
    let paint = Painter::detect();
    let heading = format!("{:<20}{:>12}{:>12}", "", "SQLite", "PostgreSQL");
    let mut lines = vec![paint.dim(heading)];
    lines.extend(moved.counts.iter().map(|count| row(paint, count)));
    if moved.is_done() {
        lines.push(format!(
            "\nMoved. Start relays with RELAY_DATABASE_URL set to the address of --to and the same \
             RELAY_ENCRYPTION_KEY.\n{from} is as it was: keep it as a backup, and start no relay on \
             it again."
        ));
    }
    lines.join("\n")
}

fn row(paint: Painter, count: &RowCount) -> String {
    let RowCount {
        name,
        source,
        target,
    } = count;
    let line = format!("{:<20}{source:>12}{target:>12}", words(name));
    if source == target {
        line
    } else {
        paint.bad(format!("{line}  differs"))
    }
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}
