//! Moves a relay's data from its SQLite file to PostgreSQL, while no relay runs on the file.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use relay_store::{
    Sealer, UpkeepStore,
    postgres::{LeaseClock, PgStore},
    transfer::{TransferProgress, TransferResult, transfer},
};
use sqlx::postgres::PgConnectOptions;

use crate::{
    app::{
        database::{connect_options, unopened},
        lock,
    },
    config::{DatabaseUrl, PostgresUrl, Settings, StoreConfig},
};

/// A checked request to move a relay's data from SQLite to PostgreSQL.
#[derive(Debug, Clone)]
pub struct StoreMove {
    from: PathBuf,
    options: PgConnectOptions,
}

impl StoreMove {
    /// Prepares a move from one address to another. Data can move only from SQLite to PostgreSQL. The error does not
    /// repeat the addresses, which may hold a password.
    pub fn between(from: &str, to: &str) -> Result<Self> {
        let from = match DatabaseUrl::parse(from) {
            Ok(DatabaseUrl::Sqlite(path)) => path,
            Ok(DatabaseUrl::Postgres(_)) | Err(_) => bail!(
                "--from: sqlite://PATH is allowed, the file of a relay; data moves only from SQLite to \
                 PostgreSQL"
            ),
        };
        let to = PostgresUrl::parse(to).map_err(|allowed| anyhow!("--to: {allowed}"))?;
        let options = connect_options(&to, "--to")?;
        Ok(Self { from, options })
    }

    /// Returns the path of the SQLite file.
    #[must_use]
    pub fn from(&self) -> String {
        self.from.display().to_string()
    }

    /// Makes the move. Fails if the file does not exist, if a relay runs on it, or if the target database is not
    /// empty.
    pub async fn make(
        &self,
        progress: &mut (dyn FnMut(TransferProgress) + Send),
    ) -> Result<TransferResult> {
        let from = self.from.display();
        if !self.from.is_file() {
            bail!("there is no database file {from}");
        }
        let file = StoreConfig {
            database: DatabaseUrl::Sqlite(self.from.clone()),
            ..Settings::default().store
        };
        let lock = lock::hold(&file)?;
        // secrets are copied in their stored form, so no key is needed
        let store = PgStore::open(
            self.options.clone(),
            Sealer::default(),
            LeaseClock::Database,
        )
        .await;
        let store = store.map_err(|failure| unopened(failure, "--to"))?;
        let moved = transfer(&self.from, &store, progress).await;
        store.close().await;
        drop(lock);
        moved.with_context(|| format!("{from} cannot be moved to PostgreSQL"))
    }
}
