//! Opens the store that the settings name.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use relay_domain::clock::Clock;
use relay_store::{
    ClientStore, Sealer, Store, StoreError,
    postgres::{LeaseClock, OpenError, PgStore},
    sqlite::SqliteStore,
};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use crate::config::{DatabaseUrl, PostgresUrl, StoreConfig};

/// The setting that names the store.
pub(super) const SETTING: &str = "RELAY_DATABASE_URL";

/// An open store.
#[derive(Clone)]
pub struct OpenStore {
    /// The store, as every part of the relay uses it.
    pub store: Arc<dyn Store>,
    /// The same store, if other relays may share it.
    pub shared: Option<PgStore>,
}

/// Opens the store that the settings name, and brings it up to date. PostgreSQL decides by its own clock, and `clock`
/// follows that. If `clock` stands still for a test, the store decides by `clock`.
pub async fn open_store(config: &StoreConfig, clock: &Clock) -> Result<OpenStore> {
    let sealer = sealer(config)?;
    match &config.database {
        DatabaseUrl::Sqlite(path) => {
            check_folder(path)?;
            let store = SqliteStore::open_sealed(path, sealer).await;
            let store = store
                .with_context(|| format!("the database {} cannot be opened", path.display()))?;
            Ok(OpenStore {
                store: Arc::new(store),
                shared: None,
            })
        }
        DatabaseUrl::Postgres(url) => {
            let lease_clock = if clock.can_follow() {
                LeaseClock::Database
            } else {
                LeaseClock::Caller
            };
            // boxed because the future is large, and each caller's future would contain it
            let opening = PgStore::open(connect_options(url, SETTING)?, sealer, lease_clock);
            let store = Box::pin(opening).await;
            let store = store.map_err(|failure| unopened(failure, SETTING))?;
            Ok(OpenStore {
                store: Arc::new(store.clone()),
                shared: Some(store),
            })
        }
    }
}

/// Fails if the settings name a SQLite file that does not exist. A command that works on existing data must not create
/// it: with a mistyped path it would say that there is nothing, and leave an empty database behind.
pub fn check_database_exists(database: &DatabaseUrl) -> Result<()> {
    match database {
        DatabaseUrl::Sqlite(path) if !path.is_file() => {
            bail!("there is no database file {}", path.display())
        }
        DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_) => Ok(()),
    }
}

/// Checks that the secrets of all clients can be decrypted, except those of revoked clients.
pub async fn check_secrets<S: ClientStore + ?Sized>(store: &S) -> Result<()> {
    let clients = store.list_clients().await;
    clients.map(drop).map_err(|failure| {
        let why = match failure {
            StoreError::Unavailable(_) | StoreError::Damaged(_) => "the clients cannot be read",
            StoreError::Refused(_) | StoreError::Inconsistent { .. } => {
                "the clients cannot be read; are RELAY_ENCRYPTION_KEY and RELAY_ENCRYPTION_PREVIOUS_KEY \
                 those that their secrets were encrypted with?"
            }
        };
        anyhow::Error::new(failure).context(why)
    })
}

/// Fails if the folder of a SQLite file does not exist. The file itself need not exist: it is created.
pub(super) fn check_folder(database: &Path) -> Result<()> {
    match database.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => bail!(
            "the database {} cannot be opened: the directory {} does not exist; create it, or set {SETTING} to \
             another file",
            database.display(),
            folder.display()
        ),
        Some(_) | None => Ok(()),
    }
}

/// Describes why a PostgreSQL database cannot be opened. If the configuration is the reason, names the setting to
/// change. Never contains the address, which may hold a password.
pub(super) fn unopened(failure: OpenError, setting: &str) -> anyhow::Error {
    let what = if failure.is_configuration() {
        format!("{setting}: the PostgreSQL database cannot be used")
    } else {
        format!("the PostgreSQL database cannot be opened (set by {setting})")
    };
    anyhow::Error::new(failure).context(what)
}

/// Parses the address of a PostgreSQL database. The parser's message may repeat a value of the address, so it is not
/// passed on.
pub(super) fn connect_options(url: &PostgresUrl, setting: &str) -> Result<PgConnectOptions> {
    let options: Result<PgConnectOptions, _> = url.expose().as_str().parse();
    options.map_err(|_| {
        anyhow!("{setting}: the address cannot be used; is each value in it percent-encoded?")
    })
}

/// Creates the sealer that encrypts secrets at rest with the keys of the settings. Fails if a key cannot be used.
pub fn sealer(config: &StoreConfig) -> Result<Sealer> {
    let text = |key: &Option<SecretString>| key.as_ref().map(|key| key.expose_secret().to_owned());
    let (current, previous) = (
        text(&config.encryption_key),
        text(&config.encryption_previous_key),
    );
    if current.is_none() && previous.is_some() {
        bail!(
            "RELAY_ENCRYPTION_PREVIOUS_KEY: needs RELAY_ENCRYPTION_KEY, which encrypts; without it, new secrets \
             would be stored unencrypted"
        );
    }
    Sealer::new(current.as_deref(), None).context("RELAY_ENCRYPTION_KEY")?;
    Sealer::new(current.as_deref(), previous.as_deref()).context("RELAY_ENCRYPTION_PREVIOUS_KEY")
}
