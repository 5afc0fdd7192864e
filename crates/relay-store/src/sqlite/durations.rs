//! How long jobs take, by bank and kind.

use async_trait::async_trait;
use relay_domain::JobContext;
use rusqlite::{Connection, params};

use crate::{
    DurationStore, DurationsFound, StoreError,
    batch::{EachResult, LoadBatch},
    rules::{DurationKey, DurationSamples, MOST_KINDS, durations_found_for_all, known_kinds},
    sqlite::{
        SqliteStore,
        reader::Reader,
        statement::{execute, execute_each, fetch_each},
    },
};

pub(super) const FIND: &str = "SELECT ?1 AS place, k.bank, \
    p.institution_id, p.pace, p.averages, p.averages_at \
    FROM (SELECT ifnull(?2, (SELECT c.institution_id FROM connection_banks c \
        WHERE c.slot = ?3 AND c.connection_id = ?4)) AS bank) k \
    LEFT JOIN paces p ON p.institution_id IN (k.bank, '') AND p.job_type = ?5";

pub(super) const KNOWN: &str =
    "SELECT institution_id, job_type, pace FROM paces WHERE institution_id = ?1 AND job_type = ?2";

pub(super) const REMEMBER_BANK: &str = "INSERT INTO connection_banks (slot, connection_id, institution_id) VALUES (?1, ?2, ?3) \
    ON CONFLICT (slot) DO UPDATE SET \
    connection_id = excluded.connection_id, institution_id = excluded.institution_id \
    WHERE connection_id <> excluded.connection_id OR institution_id <> excluded.institution_id";

pub(super) const KEEP: &str = "INSERT INTO paces (institution_id, job_type, pace, averages, averages_at, used_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT (institution_id, job_type) DO UPDATE SET \
    pace = excluded.pace, averages = ifnull(excluded.averages, averages), \
    averages_at = ifnull(excluded.averages_at, averages_at), used_at = excluded.used_at";

pub(super) const FORGET: &str = "DELETE FROM paces WHERE (institution_id, job_type) IN \
    (SELECT institution_id, job_type FROM paces ORDER BY used_at \
    LIMIT max(0, (SELECT count(*) FROM paces) - ?1))";

#[async_trait]
impl DurationStore for SqliteStore {
    async fn durations_of(&self, context: &JobContext) -> Result<DurationsFound, StoreError> {
        self.0.paces.submit(context.into()).await
    }
}

/// Finds durations for many looks at once.
pub(super) struct SqliteDurationLoader(pub(super) Reader);

#[async_trait]
impl LoadBatch for SqliteDurationLoader {
    type Key = DurationKey;
    type Found = DurationsFound;

    async fn find_all(
        &self,
        keys: &[DurationKey],
    ) -> Result<EachResult<DurationsFound>, StoreError> {
        let keys = keys.to_vec();
        let found = self.0.read(move |connection| {
            let values = keys.iter().zip(0_i64..).map(|(key, place)| {
                (
                    place,
                    &key.institution_id,
                    key.slot,
                    &key.connection_id,
                    &key.job_type,
                )
            });
            durations_found_for_all(&fetch_each(connection, FIND, values)?, keys.len())
        });
        found.await
    }
}

/// Adds duration samples to the stored statistics, and remembers the banks of connections.
pub(super) fn learn(
    connection: &Connection,
    lessons: &DurationSamples<'_>,
) -> Result<(), StoreError> {
    if lessons.is_empty() {
        return Ok(());
    }
    let kinds = lessons.kind_rows();
    let names = kinds
        .iter()
        .map(|kind| (kind.institution_id, kind.job_type));
    let known = fetch_each(connection, KNOWN, names)?;
    let banks = lessons.bank_rows();
    let banks = banks
        .iter()
        .map(|bank| (bank.slot, bank.connection_id, bank.institution_id));
    execute_each(connection, REMEMBER_BANK, banks)?;
    let paces = lessons.pace_rows(known_kinds(&known)?)?;
    let paces = paces.iter().map(|pace| {
        (
            pace.institution_id,
            pace.job_type,
            &pace.pace,
            &pace.averages,
            pace.averages_at,
            pace.at,
        )
    });
    execute_each(connection, KEEP, paces)?;
    if known.len() < kinds.len() {
        execute(connection, FORGET, params![MOST_KINDS])?;
    }
    Ok(())
}
