//! How long jobs take, by bank and kind.

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::{
    domain::JobContext,
    store::{
        PaceFound, PaceStore, StoreError,
        common::{Finds, FoundEach, Lessons, MOST_KINDS, PaceKey, Taught, paces_found},
        sqlite::{SqliteStore, row::json_rows},
    },
};

pub(super) const FIND: &str = "WITH kinds AS (SELECT key AS place, value ->> 'job_type' AS job_type, \
        ifnull(value ->> 'institution_id', (SELECT c.institution_id FROM connection_banks c \
            WHERE c.slot = value ->> 'slot' AND c.connection_id = value ->> 'connection_id')) AS bank \
        FROM jsonb_each(?1)) \
    SELECT k.place, k.bank, p.institution_id, p.pace, p.averages, p.averages_at FROM kinds k \
    LEFT JOIN paces p ON p.institution_id IN (k.bank, '') AND p.job_type = k.job_type";

pub(super) const ONE: &str = "SELECT institution_id, pace FROM paces \
    WHERE institution_id = ?1 AND job_type = ?2";

pub(super) const KEEP: &str = "INSERT INTO paces \
    (institution_id, job_type, pace, averages, averages_at, used_at) \
    VALUES (?1, ?2, ?3, ?4, iif(?4 IS NULL, NULL, ?5), ?5) \
    ON CONFLICT (institution_id, job_type) DO UPDATE SET pace = excluded.pace, \
    averages = ifnull(excluded.averages, averages), \
    averages_at = ifnull(excluded.averages_at, averages_at), used_at = excluded.used_at";

pub(super) const FORGET: &str = "DELETE FROM paces WHERE (institution_id, job_type) IN \
    (SELECT institution_id, job_type FROM paces ORDER BY used_at \
    LIMIT max(0, (SELECT count(*) FROM paces) - ?1))";

pub(super) const REMEMBER_BANK: &str = "INSERT INTO connection_banks \
    (slot, connection_id, institution_id) VALUES (?1, ?2, ?3) \
    ON CONFLICT (slot) DO UPDATE SET connection_id = excluded.connection_id, \
    institution_id = excluded.institution_id \
    WHERE connection_id <> excluded.connection_id OR institution_id <> excluded.institution_id";

#[async_trait]
impl PaceStore for SqliteStore {
    async fn pace_of(&self, context: &JobContext) -> Result<PaceFound, StoreError> {
        self.0.paces.find(context.into()).await
    }
}

/// Finds paces for many looks at once.
pub(super) struct Finder(pub(super) SqlitePool);

#[async_trait]
impl Finds for Finder {
    type Key = PaceKey;
    type Found = PaceFound;

    async fn find_all(&self, keys: &[PaceKey]) -> Result<FoundEach<PaceFound>, StoreError> {
        let rows = sqlx::query(FIND)
            .bind(json_rows(keys)?)
            .fetch_all(&self.0)
            .await?;
        paces_found(&rows, keys.len())
    }
}

/// Learns what looks taught.
pub(super) async fn learn(
    connection: &mut SqliteConnection,
    lessons: &Lessons<'_>,
) -> Result<(), StoreError> {
    for (slot, (connection_id, bank)) in &lessons.banks {
        sqlx::query(REMEMBER_BANK)
            .bind(slot)
            .bind(connection_id)
            .bind(bank)
            .execute(&mut *connection)
            .await?;
    }
    for (kind, taught) in &lessons.kinds {
        add(connection, *kind, taught).await?;
    }
    Ok(())
}

async fn add(
    connection: &mut SqliteConnection,
    (bank, job_type): (&str, &str),
    taught: &Taught,
) -> Result<(), StoreError> {
    let row = sqlx::query(ONE)
        .bind(bank)
        .bind(job_type)
        .fetch_optional(&mut *connection)
        .await?;
    let known = row.as_ref().map(|row| row.try_get::<&str, _>("pace"));
    let kept = taught.add_to(known.transpose()?)?;
    sqlx::query(KEEP)
        .bind(bank)
        .bind(job_type)
        .bind(kept.pace)
        .bind(kept.averages)
        .bind(kept.at)
        .execute(&mut *connection)
        .await?;
    if row.is_none() {
        sqlx::query(FORGET)
            .bind(MOST_KINDS)
            .execute(connection)
            .await?;
    }
    Ok(())
}
