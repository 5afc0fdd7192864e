//! `basiq-relay erase`: deletes what the store holds about a person or a connection.

use anyhow::Context;
use relay_domain::{BasiqId, clock::Clock};
use relay_store::{ErasureCounts, ErasureSubject};
use serde_json::json;

use crate::{
    app,
    cli::{ConfigArg, exit::CommandFailure, operator::command_line_actor, output, progress},
    config::Settings,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: basiq-relay erase --user 5c0f1f6e\n\n\
        The command works on the store directly, whether the relay runs or not.",
    arg_required_else_help = true
)]
pub(super) struct EraseArgs {
    #[command(flatten)]
    whose: Whose,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Basiq's id of the user; the user's connections are erased as well.
    #[arg(long, value_name = "ID")]
    user: Option<BasiqId>,
    /// Basiq's id of the connection.
    #[arg(long, value_name = "ID")]
    connection: Option<BasiqId>,
}

pub(super) async fn run(args: EraseArgs) -> Result<(), CommandFailure> {
    let settings = Settings::load(args.config.config.as_deref()).map_err(CommandFailure::usage)?;
    let subject = match (args.whose.user, args.whose.connection) {
        (Some(user), _) => ErasureSubject::User(user),
        (None, Some(connection)) => ErasureSubject::Connection(connection),
        (None, None) => {
            let missing = anyhow::anyhow!("--user or --connection is required");
            return Err(CommandFailure::usage(missing));
        }
    };
    let clock = Clock::system();
    let work = async {
        let store = app::open_store(&settings.store, &clock).await?.store;
        let erased = store
            .erase(&subject, &command_line_actor(), clock.now())
            .await;
        store.close().await;
        erased.context("nothing was erased")
    };
    let counts = progress::shown("working on the store", work).await?;
    output::line(if args.json {
        as_json(&counts)
    } else {
        as_text(&counts)
    })?;
    Ok(())
}

fn as_json(counts: &ErasureCounts) -> String {
    json!({
        "watches": counts.watches,
        "subscriptions": counts.subscriptions,
        "events": counts.events,
        "notices": counts.notices,
        "messages": counts.messages,
    })
    .to_string()
}

fn as_text(counts: &ErasureCounts) -> String {
    format!(
        "erased: {} watches, {} subscriptions, {} events, {} notices, {} messages",
        counts.watches, counts.subscriptions, counts.events, counts.notices, counts.messages,
    )
}
