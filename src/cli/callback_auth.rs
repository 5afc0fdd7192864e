//! `basiq-relay client set-callback-auth`: the credentials that the relay presents to a client's callbacks.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use jiff::Timestamp;
use relay_domain::{CallbackAuth, ClientCertificate, ClientName, SecretHeaders};
use relay_store::{CallbackAuthChange, PartChange};
use serde_json::{Value, json};

use crate::{
    cli::{
        client::{Answer, ClientAdmin, known},
        exit::CommandFailure,
    },
    delivery::read_client_certificate,
};

/// The maximum size of a file with a certificate, a key or headers, in bytes.
const LARGEST: u64 = 64 * 1024;

/// The name that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// What the help says after the options.
pub(super) const HELP: &str = "Example: basiq-relay client set-callback-auth my-backend --certificate client.pem --key client.key\n\
    Example: basiq-relay client set-callback-auth my-backend --headers-file - < headers.txt\n\
    Example: basiq-relay client set-callback-auth my-backend --clear\n\
    Example: basiq-relay client set-callback-auth my-backend --clear=headers\n\n\
    The certificate and the headers are stored as signing secrets are: encrypted if RELAY_ENCRYPTION_KEY is set. \
    A running relay uses them from the next attempt on. What is not given stays as it is.";

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub(super) struct CallbackAuthArgs {
    /// Name of the client: 1 to 64 of `A-Z a-z 0-9 . _ -`
    name: ClientName,
    /// File with the client certificate in PEM, then the rest of its chain. It replaces the one before.
    #[arg(long, value_name = "FILE", requires = "key", group = "change")]
    certificate: Option<PathBuf>,
    /// File with the private key of the certificate in PEM, not encrypted.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// File with a line `Name: value` for each header, five at most; `-` reads standard input. They replace the ones
    /// before.
    #[arg(long, value_name = "FILE", group = "change")]
    headers_file: Option<PathBuf>,
    /// Remove the certificate and the headers, or only one of them.
    #[arg(
        long,
        value_name = "PART",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        conflicts_with_all = ["certificate", "headers_file"],
        group = "change"
    )]
    clear: Option<Part>,
}

/// What `--clear` removes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    All,
    Certificate,
    Headers,
}

impl CallbackAuthArgs {
    /// Reads the files and checks what they hold.
    pub(super) fn change(&self, now: Timestamp) -> Result<CallbackAuthChange, CommandFailure> {
        let change = match self.clear {
            Some(part) => Ok(cleared(part)),
            None => self.replacement(now),
        };
        change.map_err(CommandFailure::usage)
    }

    /// Stores the change and says what callbacks get now.
    pub(super) async fn answer(
        &self,
        admin: &ClientAdmin<'_>,
        change: &CallbackAuthChange,
    ) -> anyhow::Result<Answer> {
        let (name, ClientAdmin { store, actor, now }) = (&self.name, admin);
        let changed = store.change_callback_auth(name, change, actor, *now).await;
        known(name, changed.context("it cannot be stored")?)?;
        let clients = store.list_clients().await;
        let clients = clients.context("it was stored, but cannot be read again")?;
        let client = clients.into_iter().find(|client| client.name == *name);
        let auth = client
            .map(|client| client.callback_auth)
            .unwrap_or_default();
        Ok(Answer {
            text: match auth.described(*now) {
                Some(text) => format!("Callbacks of `{name}` get: {text}."),
                None => format!("Callbacks of `{name}` get no certificate and no headers."),
            },
            json: json!({ "name": name.as_str(), "callbackAuth": to_json(&auth) }),
            if_unread: None,
        })
    }

    fn replacement(&self, now: Timestamp) -> anyhow::Result<CallbackAuthChange> {
        let mut change = CallbackAuthChange::default();
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            let certificate = certificate_of(certificate, key, now)?;
            change.certificate = PartChange::Replace(certificate);
        }
        if let Some(path) = &self.headers_file {
            change.headers = PartChange::Replace(headers_of(path)?);
        }
        Ok(change)
    }
}

fn cleared(part: Part) -> CallbackAuthChange {
    let all = CallbackAuthChange::clear();
    match part {
        Part::All => all,
        Part::Certificate => CallbackAuthChange {
            headers: PartChange::Keep,
            ..all
        },
        Part::Headers => CallbackAuthChange {
            certificate: PartChange::Keep,
            ..all
        },
    }
}

fn certificate_of(
    certificate: &Path,
    key: &Path,
    now: Timestamp,
) -> anyhow::Result<ClientCertificate> {
    let chain = read("--certificate", certificate)?;
    let key_pem = read("--key", key)?;
    read_client_certificate(&chain, &key_pem, now).map_err(|error| {
        let (option, path) = if error.is_of_key() {
            ("--key", key)
        } else {
            ("--certificate", certificate)
        };
        anyhow!("{option}: {}: {error}", path.display())
    })
}

fn headers_of(path: &Path) -> anyhow::Result<SecretHeaders> {
    let option = "--headers-file";
    let text = String::from_utf8(read(option, path)?);
    // the error of the conversion holds the text
    let text = text.map_err(|_| anyhow!("{option}: {}: it is no text", path.display()))?;
    SecretHeaders::parse(&text).map_err(|error| anyhow!("{option}: {}: {error}", path.display()))
}

/// Reads a file, or standard input if the option is for headers.
fn read(option: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("{option}: cannot read {}", path.display());
    let source: Box<dyn Read> = if option == "--headers-file" && path == Path::new(STANDARD_INPUT) {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(failed)?)
    };
    let mut bytes = Vec::new();
    let mut limited = source.take(LARGEST + 1);
    limited.read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > LARGEST {
        let path = path.display();
        return Err(anyhow!(
            "{option}: {path} is larger than {LARGEST} bytes, which are allowed"
        ));
    }
    Ok(bytes)
}

/// Returns a client's credentials for callbacks as JSON, without secrets. Null stands for none.
pub(super) fn to_json(auth: &CallbackAuth) -> Value {
    if auth.is_empty() {
        return Value::Null;
    }
    let certificate = auth.certificate.as_ref();
    json!({
        "certificateExpiresAt": certificate.map(ClientCertificate::expires_at),
        "headers": auth.headers.names().collect::<Vec<_>>(),
        "unreadable": auth.unreadable,
    })
}
