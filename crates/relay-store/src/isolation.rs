//! Records a batch so that a row which the database refuses does not stop the other rows.

use std::sync::Arc;

use relay_domain::{ErrorChain, JobId};
use tracing::error;

use crate::{AttemptResult, JobStore, Look, OutboxStore, StoreError};

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
