//! Gives clients their API keys and signing secrets.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use anyhow::{Context, anyhow};
use relay_domain::{ApiKey, ClientName, ROTATION_OVERLAP, SigningSecret};
use serde_json::{Value, json};

use crate::cli::{
    client::{Answer, ClientAdmin, known, unknown},
    terminal::Screen,
};

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

pub(super) async fn add(admin: &ClientAdmin<'_>, name: &ClientName) -> anyhow::Result<Answer> {
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
        if_unread: Some(format!(
            "`{name}` was added, and nobody has seen its key and secret: run `basiq-relay client rotate-key {name}` \
             and `basiq-relay client rotate-secret {name}`"
        )),
    })
}

/// Does the same as `add`, but writes the secrets to a file. It creates the file first, so it never adds a client
/// whose secrets it cannot write.
pub(super) async fn add_to_file(
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
        if_unread: None,
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

/// Gives a client a new signing secret. If the key of the old one is lost, the old one stops signing.
pub(super) async fn rotate_secret(
    admin: &ClientAdmin<'_>,
    name: &ClientName,
    lost_key: bool,
) -> anyhow::Result<Answer> {
    let secret = SigningSecret::generate();
    let ClientAdmin { store, actor, now } = admin;
    let until = now
        .checked_add(ROTATION_OVERLAP)
        .context("the clock is out of range")?;
    let rotated = store.rotate_secret(name, &secret, until, actor, *now).await;
    known(name, rotated.context("the secret cannot be rotated")?)?;
    let mut until = Some(until);
    if lost_key {
        let retired = store.retire_previous_secret(name, actor, *now).await;
        retired.context("the secret was rotated, but the old one cannot be retired")?;
        until = None;
    }
    let old = until.map_or("no more".to_owned(), |until| {
        format!("as well until {}", Screen::detect().moment(until))
    });
    Ok(Answer {
        text: format!(
            "New signing secret of `{name}`, shown this once; the old one signs {old}:\n\n  {}\n",
            secret.expose()
        ),
        json: json!({
            "name": name.as_str(), "signingSecret": secret.expose(), "previousUntil": until,
        }),
        if_unread: Some(format!(
            "the signing secret of `{name}` was rotated, and nobody has seen the new one: run the command again"
        )),
    })
}

pub(super) async fn retire_secret(
    admin: &ClientAdmin<'_>,
    name: &ClientName,
) -> anyhow::Result<Answer> {
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
        if_unread: None,
    })
}

pub(super) async fn rotate_key(
    admin: &ClientAdmin<'_>,
    name: &ClientName,
) -> anyhow::Result<Answer> {
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
        if_unread: Some(format!(
            "the API key of `{name}` was rotated, and nobody has seen the new one: run the command again"
        )),
    })
}
