//! `basiq-relay erase`: deletes what the store holds about a person or a connection.

use anyhow::{Context, anyhow};
use relay_domain::{BasiqId, clock::Clock};
use relay_store::{ErasureCounts, ErasureSubject};
use serde_json::json;

use crate::{
    app,
    cli::{
        ConfigArg, confirm::confirm, exit::CommandFailure, operator::command_line_actor, output,
        progress,
    },
    config::{DatabaseUrl, Settings},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay erase --user 5c0f1f6e\n\n\
        The command works on the store directly, whether the relay runs or not. On a terminal it asks first, because \
        nothing undoes it. Backups, logs, Basiq and your backends keep what they have. In the result, `messages` are \
        webhooks of Basiq's that waited to be passed on.")]
pub(super) struct EraseArgs {
    #[command(flatten)]
    whose: Whose,
    /// Do not ask, even on a terminal.
    #[arg(long)]
    yes: bool,
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
            let missing = anyhow!("--user or --connection is required");
            return Err(CommandFailure::usage(missing));
        }
    };
    app::check_database_exists(&settings.store.database)?;
    let store = name_of_store(&settings.store.database);
    if !args.yes {
        confirm(&question(&subject, &store), "nothing was erased")?;
    }
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
        as_text(&counts, &store)
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

fn as_text(counts: &ErasureCounts, store: &str) -> String {
    if *counts == ErasureCounts::default() {
        return format!("nothing to erase: nobody with this id is known in {store}");
    }
    format!(
        "erased from {store}: watches {}, subscriptions {}, events {}, notices {}, messages {}",
        counts.watches, counts.subscriptions, counts.events, counts.notices, counts.messages,
    )
}

/// Returns how to name the store to a person.
fn name_of_store(database: &DatabaseUrl) -> String {
    match database {
        DatabaseUrl::Sqlite(path) => path.display().to_string(),
        DatabaseUrl::Postgres(_) => "the PostgreSQL database".to_owned(),
    }
}

/// Returns the question that a person is asked before anything is erased.
fn question(subject: &ErasureSubject, store: &str) -> String {
    let whose = match subject {
        ErasureSubject::User(id) => format!("the user {id}"),
        ErasureSubject::Connection(id) => format!("the connection {id}"),
    };
    format!("Erase all about {whose} from {store}? This cannot be undone.")
}
