//! Alerts that operators were told.

use async_trait::async_trait;

use crate::{
    AlertStore, StoreError, ToldAlert,
    postgres::{PgSession, PgStore, row::plain},
    rows,
};

pub(super) const REMEMBER: &str = "INSERT INTO alerts (kind, subject, since) VALUES ($1, $2, $3) \
    ON CONFLICT (kind, subject) DO UPDATE SET since = excluded.since";

pub(super) const FORGET: &str = "DELETE FROM alerts WHERE kind = $1 AND subject = $2";

pub(super) const LIST: &str = "SELECT kind, subject, since FROM alerts";

#[async_trait]
impl AlertStore for PgStore {
    async fn remember_alert(&self, told: &ToldAlert) -> Result<(), StoreError> {
        self.write(told, |connection, told| {
            Box::pin(remember(connection, told))
        })
        .await
    }

    async fn forget_alert(&self, told: &ToldAlert) -> Result<(), StoreError> {
        self.write(told, |connection, told| Box::pin(forget(connection, told)))
            .await
    }

    async fn list_told_alerts(&self) -> Result<Vec<ToldAlert>, StoreError> {
        let rows = sqlx::query(LIST)
            .fetch_all(&mut self.read().await?.session())
            .await?;
        rows.iter().map(|row| rows::told_alert(row)).collect()
    }
}

async fn remember(connection: &mut PgSession<'_>, told: &ToldAlert) -> Result<(), StoreError> {
    sqlx::query(REMEMBER)
        .bind(plain(&told.kind))
        .bind(plain(&told.subject))
        .bind(told.since.as_millisecond())
        .execute(connection)
        .await?;
    Ok(())
}

async fn forget(connection: &mut PgSession<'_>, told: &ToldAlert) -> Result<(), StoreError> {
    sqlx::query(FORGET)
        .bind(plain(&told.kind))
        .bind(plain(&told.subject))
        .execute(connection)
        .await?;
    Ok(())
}
