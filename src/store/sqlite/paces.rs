//! How long jobs take, by bank and kind.

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};

use crate::{
    domain::{JobContext, KnownPace, Pace},
    store::{
        Lesson, PaceFound, PaceStore, StoreError,
        common::{Cells, unwritable},
        sqlite::SqliteStore,
    },
};

/// How many kinds of jobs are kept: the longest unused is forgotten. Basiq has about 200 banks.
const MOST_KINDS: i64 = 2000;

/// How many connections' banks are remembered: one that falls on another's slot takes its place.
const SLOTS: u64 = 1 << 18;

/// What stands for all banks.
const ALL_BANKS: &str = "";

pub(super) const OF_CONTEXT: &str = "SELECT p.institution_id, p.pace, p.averages, p.averages_at, \
    b.institution_id AS bank \
    FROM (SELECT ifnull(?1, (SELECT institution_id FROM connection_banks \
        WHERE slot = ?2 AND connection_id = ?3)) AS institution_id) b \
    LEFT JOIN paces p ON p.job_type = ?4 AND p.institution_id IN (b.institution_id, '') \
    ORDER BY p.institution_id DESC";

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
        let connection_id = context.connection_id.as_deref();
        let rows = sqlx::query(OF_CONTEXT)
            .bind(&context.institution_id)
            .bind(connection_id.map(slot))
            .bind(connection_id)
            .bind(context.job_type.as_deref().unwrap_or_default())
            .fetch_all(&self.0.readers)
            .await?;
        let mut found = PaceFound::default();
        // the bank's own row comes first
        for row in &rows {
            let cells = Cells::of("paces", "institution_id", row);
            found.institution_id = cells.opt("bank")?;
            let of: Option<String> = cells.opt("institution_id")?;
            if of.is_some() && of == found.institution_id {
                found.averages_at = cells.time_opt("averages_at")?;
                found.known.averages = cells.json_opt("averages")?;
            }
            if found.known.pace == Pace::default() {
                found.known.pace = cells.json_opt("pace")?.unwrap_or_default();
            }
        }
        Ok(found)
    }
}

/// Learns what a look taught: for its bank, and for all.
pub(super) async fn learn(
    connection: &mut SqliteConnection,
    lesson: &Lesson,
    at: Timestamp,
) -> Result<(), StoreError> {
    if let (Some(connection_id), Some(bank)) = (&lesson.connection_id, &lesson.institution_id) {
        sqlx::query(REMEMBER_BANK)
            .bind(slot(connection_id))
            .bind(connection_id)
            .bind(bank)
            .execute(&mut *connection)
            .await?;
    }
    if let Some(bank) = &lesson.institution_id {
        add(connection, lesson, bank, at).await?;
    }
    if !lesson.stages.is_empty() {
        let of_all = Lesson {
            averages: None,
            ..lesson.clone()
        };
        add(connection, &of_all, ALL_BANKS, at).await?;
    }
    Ok(())
}

async fn add(
    connection: &mut SqliteConnection,
    lesson: &Lesson,
    bank: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let row = sqlx::query(ONE)
        .bind(bank)
        .bind(&lesson.job_type)
        .fetch_optional(&mut *connection)
        .await?;
    // what cannot be read is learned anew
    let text = row.as_ref().map(|row| row.try_get::<&str, _>("pace"));
    let text = text.transpose()?;
    let mut pace = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| KnownPace::default().pace);
    pace.add(&lesson.stages);
    let averages = lesson
        .averages
        .map(|averages| serde_json::to_string(&averages));
    sqlx::query(KEEP)
        .bind(bank)
        .bind(&lesson.job_type)
        .bind(serde_json::to_string(&pace).map_err(unwritable)?)
        .bind(averages.transpose().map_err(unwritable)?)
        .bind(at.as_millisecond())
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

/// Where a connection's bank is remembered.
fn slot(connection_id: &str) -> i64 {
    let hash: [u8; 32] = Sha256::digest(connection_id.as_bytes()).into();
    let [a, b, c, d, ..] = hash;
    let slot = u64::from(u32::from_be_bytes([a, b, c, d])) % SLOTS;
    i64::try_from(slot).unwrap_or(0)
}
