//! Makes one attempt: posts a signed event to its callback and returns the result.

mod failure;
mod message;
mod reply;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::Request;
use jiff::Timestamp;
use relay_domain::{AllowedNetworks, Attempt, AttemptError, Fleet, SecretHeaders};
use relay_store::DueDelivery;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

pub use self::message::{PresentedAuth, SignedMessage};
use self::{
    failure::{AttemptFailure, Failure, is_resource_exhaustion},
    reply::CallbackReply,
};
use crate::{
    config::DeliveryConfig,
    delivery::{
        AddressGuard, DeliveryError, NameResolver, NoAddress,
        addresses::AddressLoad,
        connections::{CallbackConnections, RequestBody},
        dialer::{Destination, Dialer},
        tls,
    },
};

/// Whether an attempt was made, and its result.
#[derive(Debug)]
pub enum AttemptOutcome {
    /// The attempt was made, with this result: a response or a failure such as a time-out.
    Answered(CallbackResponse),
    /// The attempt was not made, because too many attempts to the same address are in flight.
    NoPermit,
    /// The attempt could not be made, because the relay has no file handle, thread or memory left. The text is the
    /// cause, for the log.
    NoResources(String),
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackResponse {
    /// The attempt, as the store records it.
    pub attempt: Attempt,
    /// The response's `Retry-After` header, not parsed.
    pub retry_after: Option<String>,
    /// Whether TLS failed because of the client's certificate, or because the receiver got none, or the client's stored
    /// credentials cannot be read.
    pub certificate_failed: bool,
}

impl CallbackResponse {
    /// Returns the result of an attempt that failed inside the relay.
    #[must_use]
    pub fn internal_error(due: &DueDelivery, started_at: Timestamp) -> Self {
        let failed = AttemptFailure::from(AttemptError::Internal);
        Self::of(due, started_at, Duration::ZERO, Err(failed))
    }

    fn of(
        due: &DueDelivery,
        started_at: Timestamp,
        duration: Duration,
        outcome: Result<CallbackReply, AttemptFailure>,
    ) -> Self {
        let certificate_failed = matches!(&outcome, Err(failed) if failed.certificate_failed);
        let (reply, error, error_detail) = match outcome {
            Ok(reply) => {
                let error = reply.error();
                (Some(reply), error, None)
            }
            Err(failed) => (None, Some(failed.error), failed.detail),
        };
        let (status, retry_after, response) = reply.map_or((None, None, None), |reply| {
            (Some(reply.status.as_u16()), reply.retry_after, reply.body)
        });
        Self {
            attempt: Attempt {
                number: due.attempts.saturating_add(1),
                started_at,
                duration,
                status,
                error,
                error_detail,
                response,
            },
            retry_after,
            certificate_failed,
        }
    }
}

/// What became of one message that was posted outside the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageResult {
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// Why the message was not accepted; none after a 2xx.
    pub error: Option<AttemptError>,
    /// The error text of the layer that failed, if there was no response.
    pub detail: Option<String>,
    /// Whether TLS failed because of the client's certificate, or because the receiver got none, or the client's stored
    /// credentials cannot be read.
    pub certificate_failed: bool,
    /// How long the message took.
    pub duration: Duration,
    /// The address that responded, or else the first one that was tried. None if no address may be connected to.
    pub address: Option<IpAddr>,
}

/// Posts events to callbacks.
#[derive(Clone)]
pub struct CallbackSender {
    connections: CallbackConnections,
    guard: AddressGuard,
    addresses: AddressLoad,
    allow_http: bool,
    time_limit: Duration,
}

impl CallbackSender {
    /// Creates a sender that resolves names with `resolver`. Fails if TLS cannot be set up with `config`.
    pub fn new(
        config: &DeliveryConfig,
        resolver: Arc<dyn NameResolver>,
    ) -> Result<Self, DeliveryError> {
        let allowed = AllowedNetworks::new(config.allow_networks.clone());
        let dialer = Dialer::new(tls::client_config(config)?, config.proxy.as_ref());
        Ok(Self {
            connections: CallbackConnections::new(dialer, config),
            guard: AddressGuard::new(resolver, allowed),
            addresses: AddressLoad::new(config),
            allow_http: config.allow_http,
            time_limit: config.timeout,
        })
    }

    /// Divides the slots of each address among the relays of `fleet`.
    pub(super) fn join_fleet(&mut self, fleet: Fleet) {
        self.addresses.join_fleet(fleet);
    }

    /// Returns the hosts whose address has no free slot for another attempt.
    #[must_use]
    pub fn full_hosts(&self) -> Vec<String> {
        self.addresses.full_hosts()
    }

    /// Posts a delivery once, if its address has a free slot. The signature carries the time `started_at`.
    pub async fn attempt(&self, due: &DueDelivery, started_at: Timestamp) -> AttemptOutcome {
        let begun = Instant::now();
        let message = SignedMessage::of(due);
        let until = begun + self.time_limit;
        let outcome = match self.post(&message, started_at, until).await {
            Ok(reply) => Ok(reply),
            Err(Failure::NoPermit) => return AttemptOutcome::NoPermit,
            Err(Failure::NoResources(cause)) => return AttemptOutcome::NoResources(cause),
            Err(Failure::Attempt(failed)) => Err(failed),
        };
        AttemptOutcome::Answered(CallbackResponse::of(
            due,
            started_at,
            begun.elapsed(),
            outcome,
        ))
    }

    /// Posts a message once, if its address has a free slot. Returns none without one: then nothing was sent.
    pub async fn send(&self, message: &SignedMessage<'_>, at: Timestamp) -> Option<MessageResult> {
        let begun = Instant::now();
        let until = begun + self.time_limit;
        let (mut address, sent) = match self.vet(message, until).await {
            Ok(vetted) => {
                let sent = self.post_to(&vetted, message, at, until).await;
                (vetted.first().copied(), sent)
            }
            Err(failure) => (None, Err(failure)),
        };
        let (status, failed) = match sent {
            Ok(reply) => {
                address = Some(reply.address);
                (
                    Some(reply.status.as_u16()),
                    reply.error().map(AttemptFailure::from),
                )
            }
            Err(Failure::NoPermit) => return None,
            Err(Failure::NoResources(cause)) => {
                (None, Some(AttemptFailure::out_of_resources(cause)))
            }
            Err(Failure::Attempt(failed)) => (None, Some(failed)),
        };
        let certificate_failed = failed.as_ref().is_some_and(|one| one.certificate_failed);
        let (error, detail) =
            failed.map_or((None, None), |failed| (Some(failed.error), failed.detail));
        Some(MessageResult {
            status,
            error,
            detail,
            certificate_failed,
            duration: begun.elapsed(),
            address,
        })
    }

    async fn post(
        &self,
        message: &SignedMessage<'_>,
        at: Timestamp,
        until: Instant,
    ) -> Result<CallbackReply, Failure> {
        let vetted = self.vet(message, until).await?;
        self.post_to(&vetted, message, at, until).await
    }

    /// Returns the addresses that the message may be sent to. There is at least one.
    async fn vet(
        &self,
        message: &SignedMessage<'_>,
        until: Instant,
    ) -> Result<Vec<IpAddr>, Failure> {
        let url = message.url;
        if url.url().scheme() != "https" && !self.allow_http {
            // the watch was registered while plain HTTP was allowed
            return Err(AttemptError::AddressRefused.into());
        }
        let vetted = timeout_at(until, self.guard.vet(url)).await;
        vetted.map_err(|_| AttemptError::Dns)?.map_err(|error| {
            debug!(event.id = message.id, ?error, "the callback has no address");
            match error {
                NoAddress::Refused => AttemptError::AddressRefused.into(),
                NoAddress::Unresolved(error) if is_resource_exhaustion(&error) => {
                    Failure::NoResources(error.to_string())
                }
                NoAddress::Unresolved(error) => {
                    Failure::from(AttemptFailure::by(AttemptError::Dns, &error))
                }
            }
        })
    }

    async fn post_to(
        &self,
        vetted: &[IpAddr],
        message: &SignedMessage<'_>,
        at: Timestamp,
        until: Instant,
    ) -> Result<CallbackReply, Failure> {
        let (url, request) = (message.url, message.request(at)?);
        let first = vetted.first().copied().ok_or(AttemptError::Internal)?;
        let permit = self.addresses.enter(url.host(), first);
        let permit = permit.ok_or(Failure::NoPermit)?;
        let to = Destination::of(url, message.identity());
        let secrets = message.secret_headers();
        let reply = self.exchange(request, to, vetted, until, secrets).await;
        match &reply {
            // no request was sent, so the failure says nothing about the address
            Err(failed) if failed.error == AttemptError::NoResources => drop(permit),
            Err(failed) => permit.ended(failed.certificate_failed),
            Ok(_) => permit.ended(true),
        }
        reply.map_err(|failed| {
            debug!(
                event.id = message.id,
                why = failed.detail,
                "the callback did not answer"
            );
            match failed.error {
                AttemptError::NoResources => {
                    Failure::NoResources(failed.detail.unwrap_or_default())
                }
                _ => Failure::Attempt(failed),
            }
        })
    }

    /// Sends a request and reads the response: status, `Retry-After` and the beginning of the body.
    async fn exchange(
        &self,
        request: Request<RequestBody>,
        to: Destination,
        vetted: &[IpAddr],
        until: Instant,
        secrets: Option<&SecretHeaders>,
    ) -> Result<CallbackReply, AttemptFailure> {
        let sent = timeout_at(until, self.connections.send(request, &to, vetted)).await;
        let (answer, connection) = match sent {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(AttemptFailure::of_sending(&error)),
            Err(_) => return Err(AttemptError::TimedOut.into()),
        };
        let reply = CallbackReply::read(connection.address(), answer, until, secrets).await;
        self.connections.keep(to, connection);
        Ok(reply)
    }
}

#[cfg(test)]
mod tests;
