//! Records work that came in a batch so that one row that the database refuses takes no other with it.

use std::sync::Arc;

use tracing::error;

use crate::{
    domain::{ErrorChain, JobId},
    store::{AttemptResult, JobStore, Look, OutboxStore, StoreError},
};

/// Records looks, each by itself if the database refuses them together. One that is refused alone is left out:
/// its lease runs out, and the job is looked at again.
pub async fn record_looks(
    store: &dyn JobStore,
    looks: &Arc<[Look]>,
) -> Result<Vec<JobId>, StoreError> {
    match store.record_looks(Arc::clone(looks)).await {
        Err(StoreError::Refused(_) | StoreError::Damaged(_) | StoreError::Inconsistent { .. }) => {}
        done => return done,
    }
    let mut recorded = Vec::with_capacity(looks.len());
    for look in looks.iter() {
        match store.record_looks(Arc::from([look.clone()])).await {
            Ok(jobs) => recorded.extend(jobs),
            Err(
                failure @ (StoreError::Refused(_)
                | StoreError::Damaged(_)
                | StoreError::Inconsistent { .. }),
            ) => {
                let error = ErrorChain(&failure);
                error!(job.id = %look.job_id, %error, "a look cannot be recorded");
            }
            // what was recorded before is recorded: another try finds its leases used up
            Err(failure @ StoreError::Unavailable(_)) => return Err(failure),
        }
    }
    Ok(recorded)
}

/// Records attempts, each by itself if the database refuses them together. One that is refused alone is left
/// out: its lease runs out, and the event is posted again.
pub async fn record_attempts(
    store: &dyn OutboxStore,
    results: Vec<AttemptResult>,
) -> Result<(), StoreError> {
    match store.record_attempts(results.clone()).await {
        Err(StoreError::Refused(_) | StoreError::Damaged(_) | StoreError::Inconsistent { .. }) => {}
        done => return done,
    }
    for result in results {
        let delivery = result.delivery_id;
        match store.record_attempts(vec![result]).await {
            Ok(()) => {}
            Err(
                failure @ (StoreError::Refused(_)
                | StoreError::Damaged(_)
                | StoreError::Inconsistent { .. }),
            ) => {
                let error = ErrorChain(&failure);
                error!(delivery.id = %delivery, %error, "an attempt cannot be recorded");
            }
            Err(failure @ StoreError::Unavailable(_)) => return Err(failure),
        }
    }
    Ok(())
}
