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
    match store.record_looks(Arc::clone(looks)).await {
        Err(failure) if !failure.is_unavailable() => {}
        done => return done,
    }
    let mut recorded = Vec::with_capacity(looks.len());
    for look in looks.iter() {
        match store.record_looks(Arc::from([look.clone()])).await {
            Ok(jobs) => recorded.extend(jobs),
            // the looks recorded so far stay recorded: their leases are used up, so a retry skips them
            Err(failure) if failure.is_unavailable() => return Err(failure),
            Err(failure) => {
                let error = ErrorChain(&failure);
                error!(job.id = %look.job_id, %error, "a look cannot be recorded");
            }
        }
    }
    Ok(recorded)
}

/// Records attempts, one by one if the database refuses the batch. An attempt that is refused on its own is left out.
/// Its lease then expires, and the event is posted again.
pub async fn record_attempts(
    store: &dyn OutboxStore,
    results: Vec<AttemptResult>,
) -> Result<(), StoreError> {
    match store.record_attempts(results.clone()).await {
        Err(failure) if !failure.is_unavailable() => {}
        done => return done,
    }
    for result in results {
        let delivery = result.delivery_id;
        match store.record_attempts(vec![result]).await {
            Ok(()) => {}
            Err(failure) if failure.is_unavailable() => return Err(failure),
            Err(failure) => {
                let error = ErrorChain(&failure);
                error!(delivery.id = %delivery, %error, "an attempt cannot be recorded");
            }
        }
    }
    Ok(())
}

/// Records lists, one by one if the database refuses the batch. A list that is refused on its own is left out. Its
/// lease then expires, and the person's jobs are listed again.
pub async fn record_lists(
    store: &dyn DiscoveryStore,
    lists: Vec<JobListResult>,
) -> Result<RecordedLists, StoreError> {
    match store.record_lists(lists.clone()).await {
        Err(failure) if !failure.is_unavailable() => {}
        done => return done,
    }
    let mut recorded = RecordedLists::default();
    for list in lists {
        let user = list.user_id.clone();
        match store.record_lists(vec![list]).await {
            Ok(one) => recorded.add(one),
            Err(failure) if failure.is_unavailable() => return Err(failure),
            Err(failure) => {
                let error = ErrorChain(&failure);
                error!(user.id = %user, %error, "a list of jobs cannot be recorded");
            }
        }
    }
    Ok(recorded)
}

/// Records looks at banks, one by one if the database refuses the batch. A look that is refused on its own is left out.
/// Its lease then expires, and the bank is looked at again. Returns how many jobs are due because of the looks.
pub async fn record_bank_looks(
    store: &dyn BankStore,
    looks: Vec<BankLook>,
) -> Result<u64, StoreError> {
    match store.record_bank_looks(looks.clone()).await {
        Err(failure) if !failure.is_unavailable() => {}
        done => return done,
    }
    let mut due = 0;
    for look in looks {
        let bank = look.bank.institution_id.clone();
        match store.record_bank_looks(vec![look]).await {
            Ok(jobs) => due += jobs,
            Err(failure) if failure.is_unavailable() => return Err(failure),
            Err(failure) => {
                let error = ErrorChain(&failure);
                error!(institution.id = %bank, %error, "a look at a bank cannot be recorded");
            }
        }
    }
    Ok(due)
}
