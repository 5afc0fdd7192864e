//! Clients and their secrets.

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use relay_domain::{Actor, ApiKeyHash, AuditAct, Client, ClientId, ClientName, SigningSecret};
use sqlx::postgres::PgRow;

use crate::{
    AuditEntry, CallbackAuthChange, ClientStore, Sealer, StoreError,
    audit::{ALL_CLIENTS, AuditedAct},
    batch::{EachResult, LoadBatch},
    error::is_connection_lost,
    postgres::{PgSession, PgStore, pool::ConnectionPool, subscription_ends, watches},
    rows::{self, SealedAuthChange},
};

macro_rules! list {
    () => {
        "SELECT client_id, name, key_hash, secret, previous_secret, previous_until, callback_certificate, callback_headers, created_at, \
         revoked_at FROM clients ORDER BY name"
    };
}

pub(super) const FIND_BY_KEY: &str = "SELECT client_id, name, key_hash, secret, previous_secret, \
    previous_until, callback_certificate, callback_headers, created_at, revoked_at FROM clients \
    WHERE key_hash = $1 AND revoked_at IS NULL";

/// Finds the clients of several requests at once.
pub(super) struct PostgresClientLoader {
    pub(super) pool: ConnectionPool,
    pub(super) sealer: Sealer,
}

#[async_trait]
impl LoadBatch for PostgresClientLoader {
    type Key = Vec<u8>;
    type Found = Option<Client>;

    async fn find_all(&self, keys: &[Vec<u8>]) -> Result<EachResult<Option<Client>>, StoreError> {
        Ok(join_all(keys.iter().map(|key| self.find(key))).await)
    }
}

impl PostgresClientLoader {
    async fn row(&self, key: &[u8]) -> Result<Option<PgRow>, sqlx::Error> {
        sqlx::query(FIND_BY_KEY)
            .bind(key)
            .fetch_optional(&self.pool)
            .await
    }

    /// Returns the client whose key has this hash, unless the client is revoked.
    async fn find(&self, key: &[u8]) -> Result<Option<Client>, StoreError> {
        let found = match self.pool.timely(self.row(key)).await {
            // every request runs this query, so one lost connection should not fail it
            Err(failure) if is_connection_lost(&failure) => self.pool.timely(self.row(key)).await,
            found => found,
        };
        let row = found?;
        row.as_ref()
            .map(|row| rows::client(row, &self.sealer))
            .transpose()
    }
}

#[async_trait]
impl ClientStore for PgStore {
    async fn add_client(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        secret: &SigningSecret,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<ClientId>, StoreError> {
        let secret = self.0.sealer.seal(secret, name.as_str())?;
        let entry = AuditEntry::new(by, AuditAct::ClientAdded, name.as_str(), now);
        self.write_act(
            AuditedAct::new(entry, Option::is_some),
            (name, key, secret, now),
            |connection, (name, key, secret, now)| {
                Box::pin(add(connection, name, key, secret, *now))
            },
        )
        .await
    }

    async fn list_clients(&self) -> Result<Vec<Client>, StoreError> {
        let rows = sqlx::query(list!())
            .fetch_all(&mut self.read().await?.session())
            .await?;
        rows.iter()
            .map(|row| rows::client(row, &self.0.sealer))
            .collect()
    }

    async fn find_client_by_key(&self, key: &ApiKeyHash) -> Result<Option<Client>, StoreError> {
        self.0.clients.submit(key.as_bytes().to_vec()).await
    }

    async fn rotate_secret(
        &self,
        name: &ClientName,
        secret: &SigningSecret,
        previous_until: Timestamp,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let secret = self.0.sealer.seal(secret, name.as_str())?;
        let entry = AuditEntry::new(by, AuditAct::SecretRotated, name.as_str(), now);
        let act = AuditedAct::new(entry, |rotated| *rotated);
        let input = (name, secret, previous_until);
        self.write_act(act, input, |connection, (name, secret, until)| {
            Box::pin(replace_secret(connection, name, secret, *until))
        })
        .await
    }

    async fn retire_previous_secret(
        &self,
        name: &ClientName,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::SecretRetired, name.as_str(), now);
        let act = AuditedAct::new(entry, |retired| *retired == Some(true));
        self.write_act(act, (name, now), |connection, (name, now)| {
            Box::pin(retire_previous(connection, name, *now))
        })
        .await
    }

    async fn rotate_key(
        &self,
        name: &ClientName,
        key: &ApiKeyHash,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::KeyRotated, name.as_str(), now);
        let act = AuditedAct::new(entry, |rotated| *rotated);
        self.write_act(act, (name, key), |connection, (name, key)| {
            Box::pin(replace_key(connection, name, key))
        })
        .await
    }

    async fn change_callback_auth(
        &self,
        name: &ClientName,
        change: &CallbackAuthChange,
        by: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sealed = rows::seal_change(change, &self.0.sealer, name.as_str())?;
        let entry = AuditEntry::new(by, change.act(), name.as_str(), now);
        let act = AuditedAct::new(entry, |changed| *changed);
        self.write_act(act, (name, sealed), |connection, (name, sealed)| {
            Box::pin(change_auth(connection, name, sealed))
        })
        .await
    }

    async fn reseal_secrets(&self, by: &Actor, now: Timestamp) -> Result<u64, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::SecretsReencrypted, ALL_CLIENTS, now);
        let act = AuditedAct::always(entry);
        self.write_act(act, &self.0.sealer, |connection, sealer| {
            Box::pin(reseal(connection, sealer))
        })
        .await
    }

    async fn revoke_client(
        &self,
        name: &ClientName,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let entry = AuditEntry::new(by, AuditAct::ClientRevoked, name.as_str(), now);
        let act = AuditedAct::new(entry, Option::is_some);
        self.write_act(act, (name, now), |connection, (name, now)| {
            Box::pin(revoke(connection, name, *now))
        })
        .await
    }
}

async fn add(
    connection: &mut PgSession<'_>,
    name: &ClientName,
    key: &ApiKeyHash,
    secret: &str,
    now: Timestamp,
) -> Result<Option<ClientId>, StoreError> {
    let id = sqlx::query_scalar(
        "INSERT INTO clients (name, key_hash, secret, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (name) DO NOTHING RETURNING client_id",
    )
    .bind(name.as_str())
    .bind(key.as_bytes())
    .bind(secret)
    .bind(now.as_millisecond())
    .fetch_optional(connection)
    .await?;
    Ok(id.map(ClientId))
}

async fn replace_secret(
    connection: &mut PgSession<'_>,
    name: &ClientName,
    secret: &str,
    previous_until: Timestamp,
) -> Result<bool, StoreError> {
    let rotated = sqlx::query(
        "UPDATE clients SET previous_secret = secret, previous_until = $2, secret = $3 \
         WHERE name = $1 AND revoked_at IS NULL",
    )
    .bind(name.as_str())
    .bind(previous_until.as_millisecond())
    .bind(secret)
    .execute(connection)
    .await?;
    Ok(rotated.rows_affected() == 1)
}

async fn replace_key(
    connection: &mut PgSession<'_>,
    name: &ClientName,
    key: &ApiKeyHash,
) -> Result<bool, StoreError> {
    let rotated =
        sqlx::query("UPDATE clients SET key_hash = $2 WHERE name = $1 AND revoked_at IS NULL")
            .bind(name.as_str())
            .bind(key.as_bytes())
            .execute(connection)
            .await?;
    Ok(rotated.rows_affected() == 1)
}

async fn change_auth(
    connection: &mut PgSession<'_>,
    name: &ClientName,
    sealed: &SealedAuthChange,
) -> Result<bool, StoreError> {
    let changed = sqlx::query(
        "UPDATE clients SET \
         callback_certificate = CASE WHEN $2 THEN $3 ELSE callback_certificate END, \
         callback_headers = CASE WHEN $4 THEN $5 ELSE callback_headers END \
         WHERE name = $1 AND revoked_at IS NULL",
    )
    .bind(name.as_str())
    .bind(sealed.changes_certificate)
    .bind(&sealed.certificate)
    .bind(sealed.changes_headers)
    .bind(&sealed.headers)
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}

async fn retire_previous(
    connection: &mut PgSession<'_>,
    name: &ClientName,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let until: Option<Option<i64>> = sqlx::query_scalar(
        "SELECT previous_until FROM clients WHERE name = $1 AND revoked_at IS NULL FOR UPDATE",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(until) = until else {
        return Ok(None);
    };
    sqlx::query("UPDATE clients SET previous_secret = NULL, previous_until = NULL WHERE name = $1")
        .bind(name.as_str())
        .execute(connection)
        .await?;
    Ok(Some(
        until.is_some_and(|until| until > now.as_millisecond()),
    ))
}

async fn revoke(
    connection: &mut PgSession<'_>,
    name: &ClientName,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let revoked: Option<i64> = sqlx::query_scalar(
        "UPDATE clients SET revoked_at = $2, callback_certificate = NULL, callback_headers = NULL \
         WHERE name = $1 AND revoked_at IS NULL \
         RETURNING client_id",
    )
    .bind(name.as_str())
    .bind(now.as_millisecond())
    .fetch_optional(&mut *connection)
    .await?;
    match revoked {
        None => Ok(None),
        Some(id) => {
            let client = ClientId(id);
            let cancelled = watches::cancel_all(connection, client, now).await?;
            subscription_ends::end_all(connection, client, now).await?;
            Ok(Some(cancelled))
        }
    }
}

async fn reseal(connection: &mut PgSession<'_>, sealer: &Sealer) -> Result<u64, StoreError> {
    let rows = sqlx::query(concat!(list!(), " FOR UPDATE"))
        .fetch_all(&mut *connection)
        .await?;
    for secrets in rows::resealed(&rows, sealer)? {
        sqlx::query(
            "UPDATE clients SET secret = $2, previous_secret = $3, callback_certificate = $4, \
             callback_headers = $5 WHERE client_id = $1",
        )
        .bind(secrets.client.0)
        .bind(secrets.current)
        .bind(secrets.previous)
        .bind(secrets.certificate)
        .bind(secrets.headers)
        .execute(&mut *connection)
        .await?;
    }
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}
