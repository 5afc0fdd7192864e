//! Alerts that operators were told.

use async_trait::async_trait;
use rusqlite::params;

use crate::{
    AlertStore, StoreError, ToldAlert, rows,
    sqlite::{SqliteStore, statement::execute},
};

pub(super) const REMEMBER: &str = "INSERT INTO alerts (kind, subject, since) VALUES (?1, ?2, ?3) \
    ON CONFLICT (kind, subject) DO UPDATE SET since = excluded.since";

pub(super) const FORGET: &str = "DELETE FROM alerts WHERE kind = ?1 AND subject = ?2";

pub(super) const LIST: &str = "SELECT kind, subject, since FROM alerts";

#[async_trait]
impl AlertStore for SqliteStore {
    async fn remember_alert(&self, told: &ToldAlert) -> Result<(), StoreError> {
        let told = told.clone();
        self.write(move |connection| {
            let values = params![told.kind, told.subject, told.since.as_millisecond()];
            execute(connection, REMEMBER, values)?;
            Ok(())
        })
        .await
    }

    async fn forget_alert(&self, told: &ToldAlert) -> Result<(), StoreError> {
        let told = told.clone();
        self.write(move |connection| {
            execute(connection, FORGET, params![told.kind, told.subject])?;
            Ok(())
        })
        .await
    }

    async fn list_told_alerts(&self) -> Result<Vec<ToldAlert>, StoreError> {
        let rows = sqlx::query(LIST)
            .fetch_all(&mut *self.read().await?)
            .await?;
        rows.iter().map(|row| rows::told_alert(row)).collect()
    }
}
