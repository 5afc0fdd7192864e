//! `basiq-relay client`: manages API clients in the store.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Subcommand;
use jiff::Timestamp;
use relay_domain::{Actor, Client, ClientName, clock::Clock};
use relay_store::{CallbackAuthChange, ClientStore};
use serde_json::{Value, json};

use crate::{
    app,
    cli::{
        ConfigArg,
        callback_auth::{self, CallbackAuthArgs},
        client_secrets::{add, add_to_file, retire_secret, rotate_key, rotate_secret},
        confirm::confirm,
        exit::CommandFailure,
        operator::command_line_actor,
        output::{self, counted},
        progress,
        terminal::Screen,
    },
    config::Settings,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: basiq-relay client add my-backend --json",
    arg_required_else_help = true
)]
pub(super) struct ClientArgs {
    #[command(subcommand)]
    command: Command,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a client, and show its API key and signing secret this one time.
    #[command(after_help = "Example: basiq-relay client add my-backend\n\
        Example: basiq-relay client add my-backend --env-file client.env && . ./client.env")]
    Add(New),
    /// List all clients.
    #[command(after_help = "Example: basiq-relay client list --json")]
    List,
    /// Give a client a new signing secret; the old one also signs for 24 more hours.
    #[command(after_help = "Example: basiq-relay client rotate-secret my-backend")]
    RotateSecret(Rotation),
    /// End a rotation early: the old signing secret stops signing.
    #[command(after_help = "Example: basiq-relay client retire-secret my-backend")]
    RetireSecret(Name),
    /// Give a client a new API key; the old one stops working at once.
    #[command(after_help = "Example: basiq-relay client rotate-key my-backend")]
    RotateKey(Name),
    /// Set the TLS client certificate and the static headers that the relay presents to the client's callbacks.
    #[command(after_help = callback_auth::HELP)]
    SetCallbackAuth(CallbackAuthArgs),
    /// Encrypt all secrets of clients with RELAY_ENCRYPTION_KEY, including secrets that are not encrypted yet or are
    /// encrypted with RELAY_ENCRYPTION_PREVIOUS_KEY.
    #[command(
        after_help = "Example: RELAY_ENCRYPTION_KEY=… RELAY_ENCRYPTION_PREVIOUS_KEY=… \
        basiq-relay client reencrypt\n\nThen restart the relay, without the previous key."
    )]
    Reencrypt,
    /// Revoke a client: its key stops working at once, and its open watches are cancelled. On a terminal, this asks
    /// first.
    #[command(after_help = "Example: basiq-relay client revoke my-backend\n\
        Example: basiq-relay client revoke my-backend --yes")]
    Revoke(Revocation),
}

#[derive(Debug, clap::Args)]
struct Revocation {
    #[command(flatten)]
    name: Name,
    /// Do not ask, even on a terminal.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Name of the client: 1 to 64 of `A-Z a-z 0-9 . _ -`
    name: ClientName,
}

#[derive(Debug, clap::Args)]
struct Rotation {
    #[command(flatten)]
    name: Name,
    /// Go on although the stored secrets cannot be decrypted, because the key that encrypted them is lost. The old
    /// secret stops signing at once.
    #[arg(long)]
    lost_key: bool,
}

#[derive(Debug, clap::Args)]
struct New {
    /// Name of the client: 1 to 64 of `A-Z a-z 0-9 . _ -`, but not `.` or `..` alone
    #[arg(value_parser = ClientName::parse_new)]
    name: ClientName,
    /// Write the key and the secret to this new file, as a shell script, and do not print them. The file sets
    /// BASIQ_RELAY_KEY, which `watch` reads, and BASIQ_RELAY_SIGNING_SECRET, which `listen` reads.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    env_file: Option<PathBuf>,
}

pub(super) async fn run(args: ClientArgs) -> Result<(), CommandFailure> {
    let settings = Settings::load(args.config.config.as_deref()).map_err(CommandFailure::usage)?;
    let sealer = app::sealer(&settings.store).map_err(CommandFailure::usage)?;
    if matches!(args.command, Command::Reencrypt) && !sealer.seals() {
        let missing = anyhow!("RELAY_ENCRYPTION_KEY: not set; secrets are encrypted with it");
        return Err(CommandFailure::usage(missing));
    }
    if !matches!(args.command, Command::Add(_)) {
        app::check_database_exists(&settings.store.database)?;
    }
    if let Command::Revoke(revocation) = &args.command {
        revocation.confirm()?;
    }
    let clock = Clock::system();
    let change = match &args.command {
        Command::SetCallbackAuth(auth) => auth.change(clock.now())?,
        _ => CallbackAuthChange::default(),
    };
    let work = async {
        let store = app::open_store(&settings.store, &clock).await?.store;
        if args.command.stores_secrets() {
            app::check_secrets(&*store).await?;
        }
        let admin = ClientAdmin {
            store: &*store,
            actor: command_line_actor(),
            now: clock.now(),
        };
        let result = answer(&args.command, &change, &admin).await;
        store.close().await;
        result
    };
    let answer = progress::shown("working on the store", work).await?;
    let text = if args.json {
        answer.json.to_string()
    } else {
        answer.text
    };
    match (output::line_if_read(text), answer.if_unread) {
        (Ok(true), _) | (Ok(false), None) => Ok(()),
        (Err(error), None) => Err(error.into()),
        (Ok(false), Some(advice)) => Err(anyhow!("nobody read the output; {advice}").into()),
        (Err(error), Some(advice)) => Err(error.context(advice).into()),
    }
}

impl Command {
    /// Whether the command encrypts secrets. It must not do so with another key than the relay has.
    fn stores_secrets(&self) -> bool {
        match self {
            Self::Add(_) | Self::SetCallbackAuth(_) => true,
            Self::RotateSecret(rotation) => !rotation.lost_key,
            Self::List
            | Self::RetireSecret(_)
            | Self::RotateKey(_)
            | Self::Reencrypt
            | Self::Revoke(_) => false,
        }
    }
}

impl Revocation {
    /// Asks on a terminal whether to revoke the client.
    fn confirm(&self) -> Result<(), CommandFailure> {
        if self.yes {
            return Ok(());
        }
        let name = &self.name.name;
        let question = format!(
            "Revoke `{name}`? Its API key stops working at once, and its open watches are cancelled."
        );
        confirm(&question, &format!("`{name}` was not revoked"))
    }
}

/// What the commands work with.
pub(super) struct ClientAdmin<'a> {
    pub(super) store: &'a dyn ClientStore,
    /// Who runs the command.
    pub(super) actor: Actor,
    pub(super) now: Timestamp,
}

/// What a command prints.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) json: Value,
    /// What was changed all the same, and what to do about it, if the output cannot be written. None if the output can
    /// be asked for again.
    pub(super) if_unread: Option<String>,
}

async fn answer(
    command: &Command,
    change: &CallbackAuthChange,
    admin: &ClientAdmin<'_>,
) -> anyhow::Result<Answer> {
    match command {
        Command::Add(New {
            name,
            env_file: None,
        }) => add(admin, name).await,
        Command::Add(New {
            name,
            env_file: Some(path),
        }) => add_to_file(admin, name, path).await,
        Command::List => list(admin).await,
        Command::RotateSecret(Rotation {
            name: Name { name },
            lost_key,
        }) => rotate_secret(admin, name, *lost_key).await,
        Command::RetireSecret(Name { name }) => retire_secret(admin, name).await,
        Command::RotateKey(Name { name }) => rotate_key(admin, name).await,
        Command::SetCallbackAuth(auth) => auth.answer(admin, change).await,
        Command::Reencrypt => reencrypt(admin).await,
        Command::Revoke(Revocation {
            name: Name { name },
            ..
        }) => revoke(admin, name).await,
    }
}

async fn list(admin: &ClientAdmin<'_>) -> anyhow::Result<Answer> {
    let clients = admin
        .store
        .list_clients()
        .await
        .context("the clients cannot be listed")?;
    let screen = Screen::detect();
    let lines = clients.iter().map(|client| {
        let note = client
            .revoked_at
            .map(|at| format!("  revoked {}", screen.moment(at)))
            .unwrap_or_default();
        let shown = client.callback_auth.described(admin.now);
        let shown = shown.map(|text| format!("  callbacks get: {text}"));
        format!(
            "{:<32} added {}{note}{}",
            client.name.as_str(),
            screen.moment(client.created_at),
            shown.unwrap_or_default()
        )
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    if text.is_empty() {
        "No clients yet: `basiq-relay client add NAME` adds one.".clone_into(&mut text);
    }
    Ok(Answer {
        text,
        json: clients.iter().map(to_json).collect(),
        if_unread: None,
    })
}

fn to_json(client: &Client) -> Value {
    json!({
        "name": client.name.as_str(),
        "createdAt": client.created_at,
        "revokedAt": client.revoked_at,
        "callbackAuth": callback_auth::to_json(&client.callback_auth),
    })
}

async fn reencrypt(admin: &ClientAdmin<'_>) -> anyhow::Result<Answer> {
    let resealed = admin.store.reseal_secrets(&admin.actor, admin.now);
    let clients = resealed.await.context(
        "the secrets cannot be encrypted; is RELAY_ENCRYPTION_PREVIOUS_KEY the key before?",
    )?;
    Ok(Answer {
        text: format!("Encrypted the secrets of {}.", counted(clients, "client")),
        json: json!({ "clients": clients }),
        if_unread: None,
    })
}

async fn revoke(admin: &ClientAdmin<'_>, name: &ClientName) -> anyhow::Result<Answer> {
    let cancelled = admin
        .store
        .revoke_client(name, &admin.actor, admin.now)
        .await
        .context("the client cannot be revoked")?;
    let cancelled = cancelled.ok_or_else(|| unknown(name))?;
    Ok(Answer {
        text: format!(
            "Revoked `{name}`, and cancelled {}.",
            counted(cancelled, "open watch")
        ),
        json: json!({ "name": name.as_str(), "cancelledWatches": cancelled }),
        if_unread: None,
    })
}

pub(super) fn known(name: &ClientName, found: bool) -> anyhow::Result<()> {
    if found { Ok(()) } else { Err(unknown(name)) }
}

pub(super) fn unknown(name: &ClientName) -> anyhow::Error {
    anyhow!("there is no client `{name}`, or it is revoked; `basiq-relay client list` shows all")
}
