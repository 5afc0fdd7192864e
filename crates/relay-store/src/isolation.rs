//! Records a batch so that a row which the database refuses does not stop the other rows.

use std::sync::Arc;

use relay_domain::{ErrorChain, JobId};
use tracing::error;

use crate::{
    AttemptResult, BankLook, BankStore, DiscoveryStore, JobListResult, JobStore, Look, OutboxStore,
    RecordedLists, StoreError,
};

/// Records looks, one by one if the database refuses the batch. A look that is refused on its own is left out. Its
/// lease then expires, and the job is looked at again.
pub async fn record_looks(
    store: &dyn JobStore,
    looks: &Arc<[Look]>,
) -> Result<Vec<JobId>, StoreError> {
    let recorded = isolate(
        store.record_looks(Arc::clone(looks)).await,
        looks,
        |look| store.record_looks(Arc::from([look])),
        |look, error| error!(job.id = %look.job_id, %error, "a look cannot be recorded"),
    );
    Ok(recorded.await?.concat())
}

/// Records attempts, one by one if the database refuses the batch. An attempt that is refused on its own is left out.
/// Its lease then expires, and the event is posted again.
pub async fn record_attempts(
    store: &dyn OutboxStore,
    results: Vec<AttemptResult>,
) -> Result<(), StoreError> {
    let recorded = isolate(
        store.record_attempts(results.clone()).await,
        &results,
        |result| store.record_attempts(vec![result]),
        |result, error| {
            error!(delivery.id = %result.delivery_id, %error, "an attempt cannot be recorded");
        },
    );
    recorded.await.map(drop)
}

/// Records lists, one by one if the database refuses the batch. A list that is refused on its own is left out. Its
/// lease then expires, and the person's jobs are listed again.
pub async fn record_lists(
    store: &dyn DiscoveryStore,
    lists: Vec<JobListResult>,
) -> Result<RecordedLists, StoreError> {
    let recorded = isolate(
        store.record_lists(lists.clone()).await,
        &lists,
        |list| store.record_lists(vec![list]),
        |list, error| {
            error!(user.id = %list.user_id, %error, "a list of jobs cannot be recorded");
        },
    );
    Ok(recorded.await?.into_iter().sum())
}

/// Records looks at banks, one by one if the database refuses the batch. A look that is refused on its own is left out.
/// Its lease then expires, and the bank is looked at again. Returns how many jobs are due because of the looks.
pub async fn record_bank_looks(
    store: &dyn BankStore,
    looks: Vec<BankLook>,
) -> Result<u64, StoreError> {
    let recorded = isolate(
        store.record_bank_looks(looks.clone()).await,
        &looks,
        |look| store.record_bank_looks(vec![look]),
        |look, error| {
            let bank = &look.bank.institution_id;
            error!(institution.id = %bank, %error, "a look at a bank cannot be recorded");
        },
    );
    Ok(recorded.await?.into_iter().sum())
}

/// Records each row of a batch alone if the database refused the batch as a whole. `report` gets each row that is refused
/// alone. Returns the results of what was recorded. If the store becomes unavailable meanwhile, rows stay recorded: their
/// leases are used up, so a retry skips them.
async fn isolate<T, R, F>(
    whole: Result<R, StoreError>,
    batch: &[T],
    record: impl Fn(T) -> F + Send,
    report: impl Fn(&T, ErrorChain<'_>) + Send,
) -> Result<Vec<R>, StoreError>
where
    T: Clone + Sync,
    R: Send,
    F: Future<Output = Result<R, StoreError>> + Send,
{
    match whole {
        Err(failure) if !failure.is_unavailable() => {}
        done => return done.map(|all| vec![all]),
    }
    let mut recorded = Vec::with_capacity(batch.len());
    for row in batch {
        match record(row.clone()).await {
            Ok(one) => recorded.push(one),
            Err(failure) if failure.is_unavailable() => return Err(failure),
            Err(failure) => report(row, ErrorChain(&failure)),
        }
    }
    Ok(recorded)
}
