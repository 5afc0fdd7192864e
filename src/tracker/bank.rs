//! What is known of a bank that did not serve a job.

use std::time::Duration;

use tracing::{debug, warn};

use crate::{
    basiq::{BasiqClient, BasiqError},
    domain::{Bank, ErrorChain, JobContext},
    store::{BankStore, StoreError},
};

/// The most that asking about the bank may delay an event.
pub(super) const BANK_TIME_LIMIT: Duration = Duration::from_secs(5);

/// How a bank is connected where nothing tells.
pub(super) const USUAL_METHOD: &str = "web";

/// What Basiq reports of the bank behind a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BankState {
    /// It is in major outage: so Basiq said just now, or when it was last asked about it.
    Out {
        /// The bank.
        bank: Bank,
        /// Whether that was known already.
        known: bool,
    },
    /// It is not.
    Serving,
    /// Nobody knows.
    Unknown,
}

/// How the bank behind a job does. Any fault on the way, and an answer that takes too long, mean
/// that nothing is known.
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

/// A bank that is known to be out is looked at for all its jobs together, so not here.
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

/// Whether Basiq reports the bank in major outage now.
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
