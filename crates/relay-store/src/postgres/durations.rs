//! Durations of jobs, by bank and kind of job.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use relay_domain::{ErrorChain, JobContext, JobId};
use tracing::{debug, warn};

use crate::{
    DurationStore, DurationsFound, Look, StoreError,
    batch::{BatchWork, Callers, EachResult, LoadBatch},
    postgres::{
        ConnectionPool, PgSession, PgStore, erasure::is_erasing, indexes::each, row::columns,
    },
    rules::{
        DurationKey, DurationSamples, MOST_KINDS, connection_key, durations_found_for_all,
        known_kinds,
    },
};

/// Commits without waiting for the disk.
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

/// Locks rows in the order of the primary key. `|| ''` keeps PostgreSQL from reading that whole index for the
/// order.
pub(super) const KNOWN: &str = concat!(
    "SELECT p.institution_id, p.job_type, p.pace FROM paces p \
     JOIN unnest($1::text[], $2::text[]) k (institution_id, job_type) ON ",
    each!("p.institution_id", "k.institution_id"),
    " AND ",
    each!("p.job_type", "k.job_type"),
    " ORDER BY p.institution_id || '', p.job_type || '' FOR UPDATE OF p"
);

pub(super) const KEEP: &str = "INSERT INTO paces AS p \
    (institution_id, job_type, pace, averages, averages_at, used_at) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[]) \
    ON CONFLICT (institution_id, job_type) DO UPDATE SET pace = excluded.pace, \
    averages = coalesce(excluded.averages, p.averages), \
    averages_at = coalesce(excluded.averages_at, p.averages_at), used_at = excluded.used_at";

pub(super) const FORGET: &str = "DELETE FROM paces WHERE (institution_id, job_type) IN \
    (SELECT institution_id, job_type FROM paces ORDER BY used_at \
    LIMIT greatest(0, (SELECT count(*) FROM paces) - $1))";

/// Stores the banks of connections. A connection that was erased meanwhile is left out.
pub(super) const REMEMBER_BANKS: &str = concat!(
    "INSERT INTO connection_banks AS b \
    (slot, connection_id, institution_id) \
    SELECT n.slot, n.connection_id, n.institution_id \
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[]) n (slot, connection_id, institution_id, subject) \
    WHERE NOT ",
    is_erasing!(),
    " OR (SELECT 1 FROM erasures e WHERE e.subject = n.subject) IS NULL \
    ON CONFLICT (slot) DO UPDATE SET connection_id = excluded.connection_id, \
    institution_id = excluded.institution_id \
    WHERE b.connection_id <> excluded.connection_id OR b.institution_id <> excluded.institution_id"
);

#[async_trait]
impl DurationStore for PgStore {
    async fn durations_of(&self, context: &JobContext) -> Result<DurationsFound, StoreError> {
        self.0.paces.submit(context.into()).await
    }
}

/// Finds the durations for many looks at once.
pub(super) struct PostgresDurationLoader(pub(super) ConnectionPool);

#[async_trait]
impl LoadBatch for PostgresDurationLoader {
    type Key = DurationKey;
    type Found = DurationsFound;

    async fn find_all(
        &self,
        keys: &[DurationKey],
    ) -> Result<EachResult<DurationsFound>, StoreError> {
        // in a transaction, because its settings keep PostgreSQL from reading all of `paces`
        let mut view = self.0.read().await?;
        let mut session = view.session();
        let rows = sqlx::query(FIND)
            .bind(columns(keys, |key| key.institution_id.as_deref()))
            .bind(columns(keys, |key| key.slot))
            .bind(columns(keys, |key| key.connection_id.as_deref()))
            .bind(columns(keys, |key| key.job_type.as_str()))
            .fetch_all(&mut session);
        durations_found_for_all(&self.0.timely(rows).await?, keys.len())
    }
}

/// Looks, and the jobs whose looks were recorded.
pub(super) type RecordedLooks = (Arc<[Look]>, Vec<JobId>);

impl PgStore {
    /// Queues looks, so that the durations that they observed are recorded. If the queue is full, their samples are
    /// lost.
    pub(super) fn record_durations(&self, looks: Arc<[Look]>, recorded: Vec<JobId>) {
        if looks.iter().any(|look| look.sample.is_some())
            && !self.0.recorder.submit_unwatched((looks, recorded))
        {
            debug!("duration samples are dropped: too many wait");
        }
    }
}

/// Records the durations that looks observed, in the background and in transactions of its own. All relays update
/// the same few rows, and nobody should lock them while a commit reaches the disk. A lost sample does no harm.
pub(super) struct DurationRecorder(pub(super) ConnectionPool);

impl BatchWork for DurationRecorder {
    type Input = RecordedLooks;
    type Output = ();

    /// More batches of looks are not worth the memory.
    const MAX_INPUTS: usize = 64;

    async fn run(
        &self,
        batch: Vec<RecordedLooks>,
        _callers: &mut Callers<()>,
    ) -> Result<(), StoreError> {
        let together = batch.iter().flat_map(|(looks, recorded)| {
            let recorded: HashSet<&JobId> = recorded.iter().collect();
            let looks = looks.iter();
            looks.filter(move |look| recorded.contains(&look.job_id))
        });
        let samples = DurationSamples::of(&together.collect::<Vec<_>>());
        if !samples.is_empty() {
            let learned = self.0.write(&samples, |connection, samples| {
                Box::pin(learn(connection, samples))
            });
            if let Err(error) = learned.await {
                warn!(error = %ErrorChain(&error), "duration samples are lost");
            }
        }
        Ok(())
    }
}

/// Records samples. Rows are locked in one order, because all relays update the same ones.
async fn learn(
    connection: &mut PgSession<'_>,
    samples: &DurationSamples<'_>,
) -> Result<(), StoreError> {
    sqlx::query(QUICK).execute(&mut *connection).await?;
    let banks = samples.bank_rows();
    sqlx::query(REMEMBER_BANKS)
        .bind(columns(&banks, |row| row.slot))
        .bind(columns(&banks, |row| row.connection_id))
        .bind(columns(&banks, |row| row.institution_id))
        .bind(columns(&banks, |row| connection_key(row.connection_id)))
        .execute(&mut *connection)
        .await?;
    let kinds = samples.kind_rows();
    let known = sqlx::query(KNOWN)
        .bind(columns(&kinds, |row| row.institution_id))
        .bind(columns(&kinds, |row| row.job_type))
        .fetch_all(&mut *connection)
        .await?;
    let paces = samples.pace_rows(known_kinds(&known)?)?;
    sqlx::query(KEEP)
        .bind(columns(&paces, |row| row.institution_id))
        .bind(columns(&paces, |row| row.job_type))
        .bind(columns(&paces, |row| row.pace.as_str()))
        .bind(columns(&paces, |row| row.averages.as_deref()))
        .bind(columns(&paces, |row| row.averages_at))
        .bind(columns(&paces, |row| row.at))
        .execute(&mut *connection)
        .await?;
    if known.len() < kinds.len() {
        sqlx::query(FORGET)
            .bind(MOST_KINDS)
            .execute(connection)
            .await?;
    }
    Ok(())
}
