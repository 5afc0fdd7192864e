//! Collects duration samples of looks: how long jobs take, by bank and job type.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use jiff::Timestamp;
use relay_domain::{BasiqAverages, DurationStats, JobContext, JobEnd, KnownDurations};
use sha2::{Digest, Sha256};

use crate::{
    DurationSample, DurationsFound, Look, StoreError,
    batch::EachResult,
    error::unwritable,
    rows::{AnyRow, ColumnReader},
};

/// The maximum number of kinds of jobs whose durations are kept. The one unused for longest is forgotten. Basiq has
/// about 200 banks.
pub(crate) const MOST_KINDS: i64 = 2000;

/// The number of slots for the banks of connections. A connection replaces another one in the same slot.
const SLOTS: u64 = 1 << 18;

/// The institution id that stands for all banks.
const ALL_BANKS: &str = "";

/// The samples of one kind of jobs.
#[derive(Default)]
struct KindSamples {
    ends: Vec<JobEnd>,
    /// Basiq's averages, and when the relay asked for them.
    averages: Option<(BasiqAverages, Timestamp)>,
    at: Timestamp,
}

/// How long the jobs of a batch of looks took. They are sorted, so that all relays write, and so lock, rows in the same
/// order.
#[derive(Default)]
pub(crate) struct DurationSamples<'l> {
    /// By bank and job type.
    kinds: BTreeMap<KindRow<'l>, KindSamples>,
    /// Connections and their banks, by slot.
    banks: BTreeMap<i64, BankRow<'l>>,
}

/// One row to store: at which bank a connection is. Jobs of that connection then use the durations of that bank.
#[derive(Clone, Copy)]
pub(crate) struct BankRow<'l> {
    pub(crate) slot: i64,
    pub(crate) connection_id: &'l str,
    pub(crate) institution_id: &'l str,
}

/// A bank and a job type, whose durations are counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KindRow<'l> {
    pub(crate) institution_id: &'l str,
    pub(crate) job_type: &'l str,
}

/// The stored durations of kinds as JSON, by bank and job type.
pub(crate) type KnownDurationRows = HashMap<(String, String), String>;

/// Reads the stored durations of kinds from rows.
pub(crate) fn known_kinds<R: AnyRow>(rows: &[R]) -> Result<KnownDurationRows, StoreError> {
    let known = rows.iter().map(|row| {
        let cells = ColumnReader::of("paces", "institution_id", row);
        let kind = (cells.get("institution_id")?, cells.get("job_type")?);
        Ok((kind, cells.get("pace")?))
    });
    known.collect()
}

/// The durations to store for one bank and job type.
pub(crate) struct DurationRow<'l> {
    pub(crate) institution_id: &'l str,
    pub(crate) job_type: &'l str,
    pub(crate) pace: String,
    pub(crate) averages: Option<String>,
    pub(crate) averages_at: Option<i64>,
    pub(crate) at: i64,
}

impl<'l> DurationSamples<'l> {
    /// Collects the samples of these looks: each counts for its own bank and for all banks.
    pub(crate) fn of(looks: &[&'l Look]) -> Self {
        let mut collected = Self::default();
        let samples = looks
            .iter()
            .filter_map(|look| Some((look.sample.as_ref()?, look.at)));
        for (sample, at) in samples {
            collected.add(sample, at);
        }
        collected
    }

    /// Whether there are no samples.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.banks.is_empty()
    }

    /// Returns connections and their banks, sorted by slot.
    pub(crate) fn bank_rows(&self) -> Vec<BankRow<'l>> {
        self.banks.values().copied().collect()
    }

    /// Returns the keys of the kinds that have samples.
    pub(crate) fn kind_rows(&self) -> Vec<KindRow<'l>> {
        self.kinds.keys().copied().collect()
    }

    /// Adds the samples to the stored durations.
    pub(crate) fn pace_rows(
        &self,
        mut known: KnownDurationRows,
    ) -> Result<Vec<DurationRow<'l>>, StoreError> {
        let rows = self.kinds.iter().map(|(kind, samples)| {
            let key = (kind.institution_id.to_owned(), kind.job_type.to_owned());
            samples.add_to(known.remove(&key).as_deref(), *kind)
        });
        rows.collect()
    }

    fn add(&mut self, sample: &'l DurationSample, at: Timestamp) {
        let kind = |institution_id: &'l str| KindRow {
            institution_id,
            job_type: &sample.job_type,
        };
        if let (Some(connection_id), Some(bank)) = (&sample.connection_id, &sample.institution_id) {
            let row = BankRow {
                slot: slot(connection_id),
                connection_id,
                institution_id: bank,
            };
            self.banks.insert(row.slot, row);
        }
        if let Some(bank) = &sample.institution_id {
            let kind = self.kinds.entry(kind(bank)).or_default();
            kind.add(sample, at);
            let asked = sample.averages.map(|averages| (averages, at));
            kind.averages = asked.or(kind.averages);
        }
        if sample.end.is_some() {
            let kind = self.kinds.entry(kind(ALL_BANKS)).or_default();
            kind.add(sample, at);
        }
    }
}

impl KindSamples {
    fn add(&mut self, sample: &DurationSample, at: Timestamp) {
        self.ends.extend(sample.end.clone());
        self.at = self.at.max(at);
    }

    /// Adds these samples to the stored durations, if there are any. Starts again with none if the stored ones cannot
    /// be read.
    fn add_to<'l>(
        &self,
        known: Option<&str>,
        kind: KindRow<'l>,
    ) -> Result<DurationRow<'l>, StoreError> {
        let known = known.and_then(|text| serde_json::from_str(text).ok());
        let mut pace = known.unwrap_or_else(|| KnownDurations::default().observed);
        for end in &self.ends {
            pace.add(end);
        }
        let averages = self
            .averages
            .map(|(averages, _)| serde_json::to_string(&averages));
        Ok(DurationRow {
            institution_id: kind.institution_id,
            job_type: kind.job_type,
            pace: serde_json::to_string(&pace).map_err(unwritable)?,
            averages: averages.transpose().map_err(unwritable)?,
            averages_at: self.averages.map(|(_, at)| at.as_millisecond()),
            at: self.at.as_millisecond(),
        })
    }
}

/// The key by which the durations of a kind of jobs are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DurationKey {
    pub(crate) institution_id: Option<String>,
    pub(crate) connection_id: Option<String>,
    pub(crate) slot: Option<i64>,
    pub(crate) job_type: String,
}

impl From<&JobContext> for DurationKey {
    fn from(context: &JobContext) -> Self {
        Self {
            institution_id: context.institution_id.clone(),
            connection_id: context.connection_id.clone(),
            slot: context.connection_id.as_deref().map(slot),
            job_type: context.job_type.clone().unwrap_or_default(),
        }
    }
}

/// Reads the durations for `count` keys. Each row has the index of its key in the column `place`.
pub(crate) fn durations_found_for_all<R: AnyRow>(
    rows: &[R],
    count: usize,
) -> Result<EachResult<DurationsFound>, StoreError> {
    let mut of_keys: Vec<Vec<ColumnReader<'_>>> = vec![Vec::new(); count];
    for row in rows {
        let cells = ColumnReader::of("paces", "institution_id", row);
        let place = usize::try_from(cells.get::<i64>("place")?).unwrap_or(count);
        if let Some(of_key) = of_keys.get_mut(place) {
            of_key.push(cells);
        }
    }
    Ok(of_keys.into_iter().map(durations_found).collect())
}

/// Reads the durations for one key from its rows. The bank's own row takes precedence over that of all banks.
fn durations_found(mut rows: Vec<ColumnReader<'_>>) -> Result<DurationsFound, StoreError> {
    rows.sort_by_key(|cells| Reverse(cells.opt::<&str>("institution_id").ok().flatten()));
    let mut found = DurationsFound::default();
    for cells in rows {
        found.institution_id = cells.opt("bank")?;
        let of: Option<String> = cells.opt("institution_id")?;
        if of.is_some() && of == found.institution_id {
            found.averages_at = cells.time_opt("averages_at")?;
            found.known.averages = cells.json_opt("averages")?;
        }
        if found.known.observed == DurationStats::default() {
            found.known.observed = cells.json_opt("pace")?.unwrap_or_default();
            if found.institution_id.is_some() && of != found.institution_id {
                found.known = found.known.without_hints();
            }
        }
    }
    Ok(found)
}

/// Returns the slot in which a connection's bank is remembered.
pub(crate) fn slot(connection_id: &str) -> i64 {
    let hash: [u8; 32] = Sha256::digest(connection_id.as_bytes()).into();
    let [a, b, c, d, ..] = hash;
    let slot = u64::from(u32::from_be_bytes([a, b, c, d])) % SLOTS;
    i64::try_from(slot).unwrap_or(0)
}
