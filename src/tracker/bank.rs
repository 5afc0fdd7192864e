//! The state of the bank behind a job that the bank did not serve.

use std::time::Duration;

use basiq_client::{BasiqClient, BasiqError};
use relay_domain::{Bank, ErrorChain, JobContext};
use relay_store::{BankStore, StoreError};
use tracing::{debug, warn};

/// The time limit for fetching the bank's state. It limits how long an event is delayed.
pub(super) const BANK_TIME_LIMIT: Duration = Duration::from_secs(5);

/// The connection method that is assumed if Basiq reports none.
pub(super) const USUAL_METHOD: &str = "web";

/// The state of the bank behind a job, according to Basiq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BankState {
    /// The bank is in major outage. Basiq reported this just now or at the latest look at the bank.
    Out {
        /// The bank.
        bank: Bank,
        /// Whether the outage was known before.
        known: bool,
    },
    /// The bank is not in major outage.
    Serving,
    /// The state is not known.
    Unknown,
}

/// Fetches the state of the bank behind a job. The state is unknown after any error, or if the response takes
/// too long.
pub(super) async fn bank_state(
    client: &BasiqClient,
    store: &dyn BankStore,
    context: &JobContext,
) -> BankState {
    let limited = tokio::time::timeout(BANK_TIME_LIMIT, find_outage(client, store, context));
    match limited.await {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => {
            debug!(%error, "the bank's status is unknown");
            BankState::Unknown
        }
        Err(_) => {
            debug!("the bank's status took too long");
            BankState::Unknown
        }
    }
}

/// Fetches the state. A bank that is known to be out is not fetched here, because the bank worker looks at it
/// for all its jobs.
async fn find_outage(
    client: &BasiqClient,
    store: &dyn BankStore,
    context: &JobContext,
) -> Result<BankState, BasiqError> {
    let Some(bank) = find_bank(client, context).await? else {
        return Ok(BankState::Unknown);
    };
    let known = is_known_out(store.is_bank_out(&bank).await);
    if known || is_out(client, &bank).await? {
        return Ok(BankState::Out { bank, known });
    }
    Ok(BankState::Serving)
}

fn is_known_out(answer: Result<bool, StoreError>) -> bool {
    answer
        .inspect_err(|error| warn!(error = %ErrorChain(error), "known outages cannot be read"))
        .unwrap_or(false)
}

/// Returns whether Basiq reports the bank in major outage now.
pub(super) async fn is_out(client: &BasiqClient, bank: &Bank) -> Result<bool, BasiqError> {
    let connector = client.connector(&bank.institution_id, &bank.method).await?;
    connector
        .is_in_major_outage()
        .ok_or_else(|| BasiqError::Unreadable("the connector has no status".to_owned()))
}

async fn find_bank(client: &BasiqClient, context: &JobContext) -> Result<Option<Bank>, BasiqError> {
    if let (Some(user), Some(connection)) = (&context.user_id, &context.connection_id) {
        let connection = client.connection(user, connection).await?;
        let method = connection.method.unwrap_or_else(|| USUAL_METHOD.to_owned());
        return Ok(connection.institution_id.map(|institution_id| Bank {
            institution_id,
            method,
        }));
    }
    Ok(context.institution_id.clone().map(|institution_id| Bank {
        institution_id,
        method: USUAL_METHOD.to_owned(),
    }))
}
