//! Decides about watches to register, and builds the rows of the new ones.

use relay_domain::{JobMemory, LeaseId, Operation, Phase, SubscriptionId, Watch, WatchId};
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    DueJob, NewWatch, Permit, Registration, StoreError, WatchDetails,
    dispatch::NewWorkClaim,
    error::unwritable,
    rows::{AnyRow, ColumnReader, IdBytes},
};

/// What makes two registrations the same watch: job, client and callback.
pub(crate) struct OpenRow<'n> {
    pub(crate) job_id: &'n str,
    pub(crate) client_id: i64,
    pub(crate) callback_url: &'n str,
}

/// Returns the key of each watch to register.
pub(crate) fn open_rows(new: &[NewWatch]) -> Vec<OpenRow<'_>> {
    let rows = new.iter().map(|new| OpenRow {
        job_id: new.request.job_id.as_str(),
        client_id: new.client_id.0,
        callback_url: new.request.callback_url.as_str(),
    });
    rows.collect()
}

/// Returns the ids of the clients that register, each once.
pub(crate) fn clients_of(new: &[NewWatch]) -> Vec<i64> {
    let mut ids: Vec<i64> = new.iter().map(|new| new.client_id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The facts about a client that decide whether it may register.
pub(crate) struct ClientStanding {
    revoked: bool,
    open: u64,
}

/// Whether each client may register more watches, by the client's id.
pub(crate) type ClientStandings = HashMap<i64, ClientStanding>;

pub(crate) fn standings<R: AnyRow>(rows: &[R]) -> Result<ClientStandings, StoreError> {
    let standings = rows.iter().map(|row| {
        let cells = ColumnReader::of("clients", "name", row);
        let standing = ClientStanding {
            revoked: cells.get("revoked")?,
            open: cells.number("open")?,
        };
        Ok((cells.get("client_id")?, standing))
    });
    standings.collect()
}

/// Whether a client could reach its cap while others register at the same time.
pub(crate) fn is_near_cap(new: &[NewWatch], standings: &ClientStandings, near: u64) -> bool {
    new.iter().any(|new| {
        let open = standings
            .get(&new.client_id.0)
            .map_or(0, |client| client.open);
        open.saturating_add(near) >= new.max_open
    })
}

/// Reads the open watch of each registration that has one. A row's `place` is the registration's index plus `first`.
pub(crate) fn existing_watches<R: AnyRow>(
    rows: &[R],
    count: usize,
    first: usize,
) -> Result<Vec<Option<WatchId>>, StoreError> {
    let mut existing = vec![None; count];
    for row in rows {
        let cells = ColumnReader::of("watches", "watch_id", row);
        let place: usize = cells.number("place")?;
        let place = place.checked_sub(first);
        if let Some(found) = place.and_then(|place| existing.get_mut(place)) {
            *found = Some(cells.id("watch_id")?);
        }
    }
    Ok(existing)
}

/// The decision about a watch to register.
pub(crate) enum RegistrationDecision {
    /// The result is final, and nothing is added.
    Final(Registration),
    /// The same watch exists already.
    Existing(WatchId),
    /// The watch must be added, or another registration adds it.
    New,
}

/// Decides about each watch, and returns those to add.
pub(crate) fn decide<'n>(
    new: &'n [NewWatch],
    existing: &[Option<WatchId>],
    mut standings: ClientStandings,
) -> (Vec<RegistrationDecision>, Vec<&'n NewWatch>) {
    let (mut decisions, mut fresh) = (Vec::with_capacity(new.len()), Vec::new());
    let mut added = HashSet::new();
    for (new, existing) in new.iter().zip(existing) {
        let client = standings.get_mut(&new.client_id.0);
        decisions.push(match (client, existing) {
            (Some(client), _) if client.revoked => {
                RegistrationDecision::Final(Registration::Revoked)
            }
            (_, Some(id)) => RegistrationDecision::Existing(*id),
            // an earlier registration of the batch adds the same watch
            (_, None) if added.contains(&key(new)) => RegistrationDecision::New,
            (Some(client), None) if client.open >= new.max_open => {
                RegistrationDecision::Final(Registration::AtCap)
            }
            (client, None) => {
                added.insert(key(new));
                if let Some(client) = client {
                    client.open += 1;
                }
                fresh.push(new);
                RegistrationDecision::New
            }
        });
    }
    (decisions, fresh)
}

/// Returns the client, the job and the callback. No two open watches have all three in common.
fn key(new: &NewWatch) -> (i64, &str, &str) {
    let request = &new.request;
    (
        new.client_id.0,
        request.job_id.as_str(),
        request.callback_url.as_str(),
    )
}

/// Returns the result of a decision if nothing must be looked up. Otherwise returns the existing watch to look up, or
/// none if another registration was quicker.
pub(crate) fn result_of(
    new: &NewWatch,
    decision: RegistrationDecision,
    added: &HashSet<WatchId>,
) -> Result<Registration, Option<WatchId>> {
    match decision {
        RegistrationDecision::Final(answer) => Ok(answer),
        RegistrationDecision::New if added.contains(&new.id) => {
            Ok(Registration::Created(Box::new(begun(new))))
        }
        RegistrationDecision::New => Err(None),
        RegistrationDecision::Existing(id) => Err(Some(id)),
    }
}

/// Returns the registration result for a watch that was looked up.
pub(crate) fn existing_result(
    new: &NewWatch,
    details: Option<WatchDetails>,
) -> Result<Registration, StoreError> {
    details
        .map(|details| Registration::Existing(Box::new(details)))
        .ok_or_else(|| not_there(new))
}

/// The error that a watch could not be added but does not exist either.
pub(crate) fn not_there(new: &NewWatch) -> StoreError {
    StoreError::Inconsistent {
        table: "watches",
        column: "job_id",
        row: new.request.job_id.to_string(),
    }
}

/// Returns the new watch in its first state.
fn begun(new: &NewWatch) -> Watch {
    Watch {
        trace: new.trace,
        subscription_id: new.subscription_id,
        ..Watch::begun(new.id, new.client_id, new.request.clone(), new.now)
    }
}

/// A watch to register, as the columns of `watches`.
pub(crate) struct WatchRow<'n> {
    pub(crate) watch_id: IdBytes,
    pub(crate) client_id: i64,
    pub(crate) job_id: &'n str,
    pub(crate) callback_url: &'n str,
    pub(crate) callback_host: &'n str,
    pub(crate) operation: Option<&'static str>,
    pub(crate) events: i64,
    pub(crate) until_step: Option<&'n str>,
    pub(crate) locale: &'n str,
    pub(crate) metadata: String,
    pub(crate) state: &'static str,
    pub(crate) progress: String,
    pub(crate) created_at: i64,
    pub(crate) traceparent: Option<String>,
    pub(crate) subscription_id: Option<IdBytes>,
}

/// Builds the rows of new watches.
pub(crate) fn watch_rows<'n>(new: &[&'n NewWatch]) -> Result<Vec<WatchRow<'n>>, StoreError> {
    let rows = new.iter().map(|new| {
        let (request, watch) = (&new.request, begun(new));
        let options = &request.options;
        Ok(WatchRow {
            watch_id: new.id.to_bytes(),
            client_id: new.client_id.0,
            job_id: request.job_id.as_str(),
            callback_url: request.callback_url.as_str(),
            callback_host: request.callback_url.host(),
            operation: options.operation.map(Operation::as_str),
            events: i64::from(options.events.bits()),
            until_step: options.until.as_deref(),
            locale: options.locale.as_str(),
            metadata: options.metadata.as_str().to_owned(),
            state: watch.state.as_str(),
            progress: serde_json::to_string(&watch.progress).map_err(unwritable)?,
            created_at: new.now.as_millisecond(),
            traceparent: new.trace.map(|trace| trace.to_string()),
            subscription_id: new.subscription_id.map(SubscriptionId::to_bytes),
        })
    });
    rows.collect()
}

/// The row of a job to look at.
pub(crate) struct DueRow<'n> {
    pub(crate) job_id: &'n str,
    pub(crate) at: i64,
    pub(crate) memory: String,
    /// The lease and the permit under which the job goes to the tracker at once, if it is new.
    pub(crate) claimed: Option<(IdBytes, Permit)>,
}

impl DueRow<'_> {
    pub(crate) fn lease_id(&self) -> Option<&[u8]> {
        self.claimed.as_ref().map(|(lease, _)| lease.as_slice())
    }
}

/// Builds the rows of the jobs of new watches, each once and sorted by id. Claims new jobs while there are permits.
///
/// `known` has the memory of each job that exists already, or none if the job is being watched now.
pub(crate) fn due_rows<'n>(
    new: &[&'n NewWatch],
    mut known: HashMap<String, Option<String>>,
    claim: Option<&NewWorkClaim<DueJob>>,
) -> Result<Vec<DueRow<'n>>, StoreError> {
    let mut due: BTreeMap<&str, i64> = BTreeMap::new();
    for new in new {
        let at = new.now.as_millisecond();
        let due = due.entry(new.request.job_id.as_str()).or_insert(at);
        *due = at.min(*due);
    }
    let unknown = serde_json::to_string(&JobMemory::default()).map_err(unwritable)?;
    let rows = due.into_iter().map(|(job_id, at)| {
        let known = known.remove(job_id);
        let claimed = claim
            .filter(|_| known.is_none())
            .and_then(|claim| Some((claim.lease.to_bytes(), claim.permit()?)));
        let memory = match known.flatten() {
            Some(memory) => afresh(&memory)?,
            None => unknown.clone(),
        };
        Ok(DueRow {
            job_id,
            at,
            memory,
            claimed,
        })
    });
    rows.collect()
}

/// Returns the jobs that were claimed as they were added, each with its newly added watches and its permit.
pub(crate) fn claimed_jobs(
    new: &[&NewWatch],
    added: &HashSet<WatchId>,
    mut claimed: HashMap<&str, Permit>,
    lease: LeaseId,
) -> Vec<(DueJob, Permit)> {
    let mut jobs: BTreeMap<&str, (DueJob, Permit)> = BTreeMap::new();
    for new in new.iter().filter(|new| added.contains(&new.id)) {
        let id = new.request.job_id.as_str();
        if let Some(permit) = claimed.remove(id) {
            jobs.insert(id, (new_job(new, lease), permit));
        }
        if let Some((job, _)) = jobs.get_mut(id) {
            job.due_at = job.due_at.min(new.now);
            job.watches.push(begun(new));
        }
    }
    jobs.into_values().collect()
}

/// Returns a job without memory, before it has watches.
fn new_job(new: &NewWatch, lease: LeaseId) -> DueJob {
    DueJob {
        job_id: new.request.job_id.clone(),
        lease,
        due_at: new.now,
        memory: Box::default(),
        watches: Vec::new(),
        bank_is_back: false,
        hinted_at: None,
    }
}

/// Returns the memory of a job that is watched again later. It keeps the facts about the job, but not the state in
/// which the relay waited. A memory that cannot be read becomes empty.
fn afresh(memory: &str) -> Result<String, StoreError> {
    let memory: JobMemory = serde_json::from_str(memory).unwrap_or_default();
    let memory = JobMemory {
        phase: Phase::Running,
        errors_in_a_row: 0,
        missing_since: None,
        forbidden_since: None,
        ..memory
    };
    serde_json::to_string(&memory).map_err(unwritable)
}

/// Reads the memories of jobs, by id.
pub(crate) fn memories_by_job<R: AnyRow>(
    rows: &[R],
) -> Result<HashMap<String, Option<String>>, StoreError> {
    let memories = rows.iter().map(|row| {
        let cells = ColumnReader::of("jobs", "job_id", row);
        Ok((cells.get("job_id")?, cells.opt("memory")?))
    });
    memories.collect()
}
