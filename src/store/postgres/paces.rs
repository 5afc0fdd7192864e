//! How long jobs take, by bank and kind.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::{PgConnection, Row};
use tracing::warn;

use crate::{
    domain::{JobContext, JobId},
    store::{
        Look, PaceFound, PaceStore, StoreError,
        common::{Finds, FoundEach, Lessons, MOST_KINDS, PaceKey, Taught, paces_found},
        postgres::{PgStore, Pool, row::columns, timely},
    },
};

/// The commit need not wait for the disk.
pub(super) const QUICK: &str = "SET LOCAL synchronous_commit = off";

pub(super) const FIND: &str = "SELECT q.place - 1 AS place, p.institution_id, p.pace, p.averages, \
    p.averages_at, b.institution_id AS bank \
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) WITH ORDINALITY \
        q (institution_id, slot, connection_id, job_type, place) \
    CROSS JOIN LATERAL (SELECT coalesce(q.institution_id, (SELECT c.institution_id \
        FROM connection_banks c WHERE c.slot = q.slot AND c.connection_id = q.connection_id)) \
        AS institution_id) b \
    LEFT JOIN paces p ON p.job_type = q.job_type \
        AND p.institution_id = ANY(ARRAY[b.institution_id, ''])";

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
        self.0.paces.find(context.into()).await
    }
}

/// Finds paces for many looks at once.
pub(super) struct Finder(pub(super) Pool);

#[async_trait]
impl Finds for Finder {
    type Key = PaceKey;
    type Found = PaceFound;

    async fn find_all(&self, keys: &[PaceKey]) -> Result<FoundEach<PaceFound>, StoreError> {
        // in a transaction, whose settings keep it from reading all paces
        let mut transaction = self.0.read().await?;
        let rows = sqlx::query(FIND)
            .bind(columns(keys, |key| key.institution_id.as_deref()))
            .bind(columns(keys, |key| key.slot))
            .bind(columns(keys, |key| key.connection_id.as_deref()))
            .bind(columns(keys, |key| key.job_type.as_str()))
            .fetch_all(&mut *transaction);
        paces_found(&timely(rows).await?, keys.len())
    }
}

impl PgStore {
    /// Learns what the looks at these jobs taught, in a transaction of its own: all relays learn in the same
    /// few rows, which nobody should hold while a commit reaches the disk. A lesson that is lost is missed
    /// by nobody.
    pub(super) async fn learn(&self, looks: &[Look], recorded: &[JobId]) {
        let recorded: HashSet<&JobId> = recorded.iter().collect();
        let looks = looks.iter().filter(|look| recorded.contains(&look.job_id));
        let lessons = Lessons::of(&looks.collect::<Vec<_>>());
        if lessons.kinds.is_empty() && lessons.banks.is_empty() {
            return;
        }
        let learned = self.write(&lessons, |connection, lessons| {
            Box::pin(learn(connection, lessons))
        });
        if let Err(error) = learned.await {
            warn!(%error, "what looks taught is lost");
        }
    }
}

/// Rows are taken in one order, since all relays learn in the same ones.
async fn learn(connection: &mut PgConnection, lessons: &Lessons<'_>) -> Result<(), StoreError> {
    sqlx::query(QUICK).execute(&mut *connection).await?;
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
    connection: &mut PgConnection,
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
