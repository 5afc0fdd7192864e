//! How long jobs take, by bank and kind.

use async_trait::async_trait;
use rusqlite::{Connection, params};
use sqlx::SqlitePool;

use crate::{
    domain::JobContext,
    store::{
        PaceFound, PaceStore, StoreError,
        common::{Finds, FoundEach, Lessons, MOST_KINDS, PaceKey, known_kinds, paces_found},
        sqlite::{
            SqliteStore,
            row::json_rows,
            statement::{execute, fetch_all},
        },
    },
};

macro_rules! remember_banks {
    () => {
        "INSERT INTO connection_banks (slot, connection_id, institution_id) \
         SELECT value ->> 'slot', value ->> 'connection_id', value ->> 'institution_id' \
         FROM jsonb_each(?1) WHERE TRUE ON CONFLICT (slot) DO UPDATE SET \
         connection_id = excluded.connection_id, institution_id = excluded.institution_id \
         WHERE connection_id <> excluded.connection_id OR institution_id <> excluded.institution_id"
    };
}

macro_rules! keep {
    () => {
        "INSERT INTO paces (institution_id, job_type, pace, averages, averages_at, used_at) \
         SELECT value ->> 'institution_id', value ->> 'job_type', value ->> 'pace', \
         value ->> 'averages', iif(value ->> 'averages' IS NULL, NULL, value ->> 'at'), value ->> 'at' \
         FROM jsonb_each(?2) WHERE TRUE ON CONFLICT (institution_id, job_type) DO UPDATE SET \
         pace = excluded.pace, averages = ifnull(excluded.averages, averages), \
         averages_at = ifnull(excluded.averages_at, averages_at), used_at = excluded.used_at"
    };
}

pub(super) const FIND: &str = "WITH kinds AS (SELECT key AS place, value ->> 'job_type' AS job_type, \
        ifnull(value ->> 'institution_id', (SELECT c.institution_id FROM connection_banks c \
            WHERE c.slot = value ->> 'slot' AND c.connection_id = value ->> 'connection_id')) AS bank \
        FROM jsonb_each(?1)) \
    SELECT k.place, k.bank, p.institution_id, p.pace, p.averages, p.averages_at FROM kinds k \
    LEFT JOIN paces p ON p.institution_id IN (k.bank, '') AND p.job_type = k.job_type";

pub(super) const KNOWN: &str = "SELECT p.institution_id, p.job_type, p.pace \
    FROM jsonb_each(?1) k CROSS JOIN paces p ON p.institution_id = k.value ->> 'institution_id' \
    AND p.job_type = k.value ->> 'job_type'";

/// Banks of connections, and paces.
pub(super) const LEARN: &str = concat!(remember_banks!(), "; ", keep!());

pub(super) const FORGET: &str = "DELETE FROM paces WHERE (institution_id, job_type) IN \
    (SELECT institution_id, job_type FROM paces ORDER BY used_at \
    LIMIT max(0, (SELECT count(*) FROM paces) - ?1))";

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
pub(super) fn learn(connection: &Connection, lessons: &Lessons<'_>) -> Result<(), StoreError> {
    if lessons.is_empty() {
        return Ok(());
    }
    let kinds = lessons.kind_rows();
    let known = fetch_all(connection, KNOWN, params![json_rows(&kinds)?])?;
    let paces = lessons.pace_rows(known_kinds(&known)?)?;
    execute(
        connection,
        LEARN,
        params![json_rows(&lessons.bank_rows())?, json_rows(&paces)?],
    )?;
    if known.len() < kinds.len() {
        execute(connection, FORGET, params![MOST_KINDS])?;
    }
    Ok(())
}
