//! `basiq-relay client`: manages API clients in the store.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use jiff::Timestamp;
use relay_domain::{
    Actor, ApiKey, Client, ClientName, ROTATION_OVERLAP, SigningSecret, clock::Clock,
};
use relay_store::{CallbackAuthChange, ClientStore};
use serde_json::{Value, json};

use crate::{
    app,
    cli::{
        ConfigArg,
        callback_auth::{self, CallbackAuthArgs},
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
    RotateSecret(Name),
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
struct New {
    #[command(flatten)]
    name: Name,
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
    output::line(text)?;
    Ok(())
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

pub(super) struct Answer {
    pub(super) text: String,
    pub(super) json: Value,
}

async fn answer(
    command: &Command,
    change: &CallbackAuthChange,
    admin: &ClientAdmin<'_>,
) -> anyhow::Result<Answer> {
    match command {
        Command::Add(New {
            name: Name { name },
            env_file: None,
        }) => add(admin, name).await,
        Command::Add(New {
            name: Name { name },
            env_file: Some(path),
        }) => add_to_file(admin, name, path).await,
        Command::List => list(admin).await,
        Command::RotateSecret(Name { name }) => rotate_secret(admin, name).await,
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

async fn create(
    admin: &ClientAdmin<'_>,
    name: &ClientName,
) -> anyhow::Result<(ApiKey, SigningSecret)> {
    let (key, secret) = (ApiKey::generate(), SigningSecret::generate());
    let ClientAdmin { store, actor, now } = admin;
    let hash = key.hash();
    let added = store.add_client(name, &hash, &secret, actor, *now).await;
    added
        .context("the client cannot be added")?
        .with_context(|| format!("the name `{name}` is taken; choose another"))?;
    Ok((key, secret))
}

async fn add(admin: &ClientAdmin<'_>, name: &ClientName) -> anyhow::Result<Answer> {
    let (key, secret) = create(admin, name).await?;
    Ok(Answer {
        text: format!(
            "Added `{name}`. These are shown this once:\n\n  API key         {}\n  signing secret  {}\n",
            key.expose(),
            secret.expose()
        ),
        json: json!({
            "name": name.as_str(), "apiKey": key.expose(), "signingSecret": secret.expose(),
        }),
    })
}

/// Does the same as `add`, but writes the secrets to a file. It creates the file first, so it never adds a client
/// whose secrets it cannot write.
async fn add_to_file(
    admin: &ClientAdmin<'_>,
    name: &ClientName,
    path: &Path,
) -> anyhow::Result<Answer> {
    let mut file = private_file(path)?;
    let added = create(admin, name).await;
    let (key, secret) = added.inspect_err(|_| {
        // The file is empty; if it stays behind, it does no harm.
        fs::remove_file(path).ok();
    })?;
    let lines = format!(
        "export BASIQ_RELAY_KEY='{}'\nexport BASIQ_RELAY_SIGNING_SECRET='{}'\n",
        key.expose(),
        secret.expose()
    );
    file.write_all(lines.as_bytes())
        .with_context(|| format!("`{name}` was added, but not written to {}", path.display()))?;
    Ok(Answer {
        text: format!(
            "Added `{name}`. Its API key and signing secret are in {}.",
            path.display()
        ),
        json: Value::Null,
    })
}

/// Creates a new file that only its owner may read.
fn private_file(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow!(
            "--env-file: {} is there already; it is not overwritten",
            path.display()
        ),
        _ => anyhow::Error::new(error)
            .context(format!("--env-file: cannot write {}", path.display())),
    })
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

async fn rotate_secret(admin: &ClientAdmin<'_>, name: &ClientName) -> anyhow::Result<Answer> {
    let secret = SigningSecret::generate();
    let ClientAdmin { store, actor, now } = admin;
    let until = now
        .checked_add(ROTATION_OVERLAP)
        .context("the clock is out of range")?;
    let rotated = store.rotate_secret(name, &secret, until, actor, *now).await;
    known(name, rotated.context("the secret cannot be rotated")?)?;
    Ok(Answer {
        text: format!(
            "New signing secret of `{name}`, shown this once; the old one signs as well until {}:\n\n  {}\n",
            Screen::detect().moment(until),
            secret.expose()
        ),
        json: json!({
            "name": name.as_str(), "signingSecret": secret.expose(), "previousUntil": until,
        }),
    })
}

async fn retire_secret(admin: &ClientAdmin<'_>, name: &ClientName) -> anyhow::Result<Answer> {
    let retired = admin
        .store
        .retire_previous_secret(name, &admin.actor, admin.now)
        .await
        .context("the secret cannot be retired")?
        .ok_or_else(|| unknown(name))?;
    let text = if retired {
        format!("The old signing secret of `{name}` signs no more; the new one signs alone.")
    } else {
        format!("Nothing to do: only one secret signs for `{name}`.")
    };
    Ok(Answer {
        text,
        json: json!({ "name": name.as_str(), "retired": retired }),
    })
}

async fn rotate_key(admin: &ClientAdmin<'_>, name: &ClientName) -> anyhow::Result<Answer> {
    let key = ApiKey::generate();
    let ClientAdmin { store, actor, now } = admin;
    let rotated = store.rotate_key(name, &key.hash(), actor, *now).await;
    known(name, rotated.context("the key cannot be rotated")?)?;
    Ok(Answer {
        text: format!(
            "New API key of `{name}`, shown this once; the old one no longer works:\n\n  {}\n",
            key.expose()
        ),
        json: json!({ "name": name.as_str(), "apiKey": key.expose() }),
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
    })
}

pub(super) fn known(name: &ClientName, found: bool) -> anyhow::Result<()> {
    if found { Ok(()) } else { Err(unknown(name)) }
}

fn unknown(name: &ClientName) -> anyhow::Error {
    anyhow!("there is no client `{name}`, or it is revoked; `basiq-relay client list` shows all")
}
