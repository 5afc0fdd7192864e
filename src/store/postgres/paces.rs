//! How long jobs take, by bank and kind.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row};

use crate::{
    domain::{Averages, JobContext, KnownPace, Pace, StageLeft},
    store::{
        Lesson, PaceFound, PaceStore, StoreError,
        common::{Cells, unwritable},
        postgres::PgStore,
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
    FROM (SELECT coalesce($1, (SELECT institution_id FROM connection_banks \
        WHERE slot = $2 AND connection_id = $3)) AS institution_id) b \
    LEFT JOIN paces p ON p.job_type = $4 AND p.institution_id IN (b.institution_id, '') \
    ORDER BY p.institution_id DESC";

pub(super) const ONE: &str = "SELECT institution_id, pace FROM paces \
    WHERE institution_id = $1 AND job_type = $2 FOR UPDATE";

pub(super) const KEEP: &str = "INSERT INTO paces AS p \
    (institution_id, job_type, pace, averages, averages_at, used_at) \
    VALUES ($1, $2, $3, $4, CASE WHEN $4::text IS NULL THEN NULL ELSE $5::bigint END, $5) \
    ON CONFLICT (institution_id, job_type) DO UPDATE SET pace = excluded.pace, \
    averages = coalesce(excluded.averages, p.averages), \
    averages_at = coalesce(excluded.averages_at, p.averages_at), used_at = excluded.used_at";

pub(super) const FORGET: &str = "DELETE FROM paces WHERE (institution_id, job_type) IN \
    (SELECT institution_id, job_type FROM paces ORDER BY used_at \
    LIMIT greatest(0, (SELECT count(*) FROM paces) - $1))";

pub(super) const REMEMBER_BANK: &str = "INSERT INTO connection_banks AS b \
    (slot, connection_id, institution_id) VALUES ($1, $2, $3) \
    ON CONFLICT (slot) DO UPDATE SET connection_id = excluded.connection_id, \
    institution_id = excluded.institution_id \
    WHERE b.connection_id <> excluded.connection_id OR b.institution_id <> excluded.institution_id";

#[async_trait]
impl PaceStore for PgStore {
    async fn pace_of(&self, context: &JobContext) -> Result<PaceFound, StoreError> {
        let connection_id = context.connection_id.as_deref();
        let rows = sqlx::query(OF_CONTEXT)
            .bind(&context.institution_id)
            .bind(connection_id.map(slot))
            .bind(connection_id)
            .bind(context.job_type.as_deref().unwrap_or_default())
            .fetch_all(self.pool())
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

/// What is taught about one kind of jobs.
#[derive(Default)]
struct Taught {
    stages: Vec<StageLeft>,
    averages: Option<Averages>,
    at: Timestamp,
}

/// Learns what looks taught: for their banks, and for all. Rows are taken in one order, since all relays
/// learn in the same ones.
pub(super) async fn learn<'l>(
    connection: &mut PgConnection,
    lessons: impl Iterator<Item = (&'l Lesson, Timestamp)>,
) -> Result<(), StoreError> {
    let mut kinds: BTreeMap<(&str, &str), Taught> = BTreeMap::new();
    let mut banks = BTreeMap::new();
    for (lesson, at) in lessons {
        if let (Some(connection_id), Some(bank)) = (&lesson.connection_id, &lesson.institution_id) {
            banks.insert(slot(connection_id), (connection_id, bank));
        }
        let own = lesson.institution_id.as_deref();
        let all = (!lesson.stages.is_empty()).then_some(ALL_BANKS);
        for bank in own.into_iter().chain(all) {
            let taught = kinds.entry((bank, &lesson.job_type)).or_default();
            taught.stages.extend(lesson.stages.iter().cloned());
            taught.at = taught.at.max(at);
            if bank != ALL_BANKS {
                taught.averages = lesson.averages.or(taught.averages);
            }
        }
    }
    for (slot, (connection_id, bank)) in banks {
        sqlx::query(REMEMBER_BANK)
            .bind(slot)
            .bind(connection_id)
            .bind(bank)
            .execute(&mut *connection)
            .await?;
    }
    for ((bank, job_type), taught) in kinds {
        add(connection, (bank, job_type), &taught).await?;
    }
    Ok(())
}

async fn add(
    connection: &mut PgConnection,
    (bank, job_type): (&str, &str),
    taught: &Taught,
) -> Result<(), StoreError> {
    let row = sqlx::query(ONE)
        .bind(bank)
        .bind(job_type)
        .fetch_optional(&mut *connection)
        .await?;
    // what cannot be read is learned anew
    let text = row.as_ref().map(|row| row.try_get::<&str, _>("pace"));
    let text = text.transpose()?;
    let mut pace = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| KnownPace::default().pace);
    pace.add(&taught.stages);
    let averages = taught
        .averages
        .map(|averages| serde_json::to_string(&averages));
    sqlx::query(KEEP)
        .bind(bank)
        .bind(job_type)
        .bind(serde_json::to_string(&pace).map_err(unwritable)?)
        .bind(averages.transpose().map_err(unwritable)?)
        .bind(taught.at.as_millisecond())
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
