//! Checks whether a database can hold the store.

use sqlx::Row;
use thiserror::Error;

use crate::{StoreError, error::is_pooled, postgres::pool::ConnectionPool};

/// Encodings that can hold every text. With any other encoding, PostgreSQL converts texts and refuses those with
/// characters that it lacks. With `SQL_ASCII` it keeps the bytes as they are.
const ENCODINGS: [&str; 2] = ["UTF8", "SQL_ASCII"];

const SERVER: &str = "SELECT current_setting('server_encoding') AS encoding, \
    pg_is_in_recovery() AS is_standby, current_setting('transaction_read_only') = 'on' AS is_read_only";

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The encoding of the database cannot hold every text.
    #[error(
        "its encoding {0} cannot hold every text; UTF8 is allowed, as by CREATE DATABASE relay \
         TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
    )]
    Encoding(String),
    /// The server is a standby.
    #[error("the server is a standby and takes no writes; the address of the primary is needed")]
    Standby,
    /// The database, the role or the server is set to take no writes.
    #[error(
        "it takes no writes: default_transaction_read_only is on for the database, the role or the server"
    )]
    ReadOnly,
    /// The database cannot be reached, or refused a statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Whether the operator has to change something, such as the address: waiting does not help.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Encoding(_) => true,
            // a standby may be promoted
            Self::Standby | Self::ReadOnly => false,
            Self::Store(error) => is_pooled(error),
        }
    }
}

/// Checks the encoding of the database, and that the server takes writes.
pub(super) async fn check(pool: &ConnectionPool) -> Result<(), OpenError> {
    let mut transaction = pool.begin().await?;
    let mut session = transaction.session();
    let row = sqlx::query(SERVER).fetch_one(&mut session).await;
    let row = row.map_err(StoreError::from)?;
    let get = |column| row.try_get::<bool, _>(column).map_err(StoreError::from);
    let encoding: String = row.try_get("encoding").map_err(StoreError::from)?;
    if !ENCODINGS.contains(&&*encoding) {
        return Err(OpenError::Encoding(encoding));
    }
    if get("is_standby")? {
        return Err(OpenError::Standby);
    }
    if get("is_read_only")? {
        return Err(OpenError::ReadOnly);
    }
    Ok(())
}
