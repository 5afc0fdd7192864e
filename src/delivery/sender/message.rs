//! A message as it is posted: signed headers and the exact body.

use http::{HeaderMap, HeaderValue, Request, header};
use jiff::Timestamp;
use relay_domain::{
    AttemptError, CallbackAuth, CallbackUrl, SecretHeaders, TraceContext,
    signing::{self, SignatureHeaders},
};
use relay_store::{DeliverySigner, DueDelivery};
use tracing::Span;

use super::failure::AttemptFailure;
use crate::{
    delivery::{client_identity::ClientIdentity, connections::RequestBody},
    telemetry,
};

/// A message to post, with all that its request needs.
#[derive(Debug)]
pub struct SignedMessage<'a> {
    /// The URL to post to.
    pub url: &'a CallbackUrl,
    /// The `webhook-id`.
    pub id: String,
    /// The exact body.
    pub body: &'a [u8],
    /// Who signs the body.
    pub signer: &'a DeliverySigner,
    /// The credentials that the request presents. None for a message of no client.
    pub auth: Option<PresentedAuth<'a>>,
    /// The trace to send if the message is posted in no span.
    pub trace: Option<TraceContext>,
}

/// The credentials that a request presents for its client.
#[derive(Debug, Clone, Copy)]
pub struct PresentedAuth<'a> {
    /// The client's name. Connections that prove a client's identity are used for this client alone.
    pub client: &'a str,
    /// The certificate and the headers.
    pub auth: &'a CallbackAuth,
}

impl<'a> SignedMessage<'a> {
    /// Returns the message of a delivery.
    pub(super) fn of(due: &'a DueDelivery) -> Self {
        Self {
            url: &due.callback_url,
            id: due.event_id.to_string(),
            body: &due.body,
            signer: &due.signer,
            auth: due.client.as_deref().map(|client| PresentedAuth {
                client,
                auth: &due.auth,
            }),
            trace: due.trace,
        }
    }

    /// Returns the identity that the connection proves by TLS, if the client has a certificate.
    pub(super) fn identity(&self) -> Option<ClientIdentity> {
        let PresentedAuth { client, auth } = self.auth?;
        let certificate = auth.certificate.as_ref()?;
        Some(ClientIdentity::new(client, certificate))
    }

    /// Returns the client's headers, whose values are secrets.
    pub(super) fn secret_headers(&self) -> Option<&'a SecretHeaders> {
        let PresentedAuth { auth, .. } = self.auth?;
        Some(&auth.headers)
    }

    /// Builds the request. The signature carries the time `at`. Fails if the client's credentials cannot be read: a
    /// request without them could only be refused.
    pub(super) fn request(&self, at: Timestamp) -> Result<Request<RequestBody>, AttemptFailure> {
        let parts = self.auth.map(|shown| shown.auth.unreadable.as_slice());
        if let Some(part) = parts.and_then(<[_]>::first) {
            return Err(AttemptFailure::unreadable_auth(*part));
        }
        let mut request = Request::post(self.url.as_str())
            .body(RequestBody::from(self.body.to_vec()))
            .map_err(|_| AttemptError::Internal)?;
        *request.headers_mut() = self.headers(at)?;
        Ok(request)
    }

    /// Returns the request's headers, among them the signature and the trace. The previous secret of a client signs
    /// too while it is valid.
    fn headers(&self, at: Timestamp) -> Result<HeaderMap, AttemptError> {
        let signed = self.signature(at)?;
        let mut headers = HeaderMap::new();
        // first, so that none of them could replace one of the relay's
        for (name, value) in self
            .auth
            .iter()
            .flat_map(|shown| shown.auth.headers.expose())
        {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("basiq-relay/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in signed.entries() {
            let value = HeaderValue::from_str(value).map_err(|_| AttemptError::Internal)?;
            headers.insert(name, value);
        }
        // an attempt without a span sends the trace that is stored with the delivery
        if let Some(trace) = telemetry::context_of(&Span::current()).or(self.trace) {
            let value =
                HeaderValue::from_str(&trace.to_string()).map_err(|_| AttemptError::Internal)?;
            headers.insert("traceparent", value);
        }
        Ok(headers)
    }

    /// Returns the headers that sign the body: the relay's, as of `at`, or Basiq's own.
    fn signature(&self, at: Timestamp) -> Result<SignatureHeaders, AttemptError> {
        let (secret, previous) = match self.signer {
            DeliverySigner::Relay { secret, previous } => (secret, previous),
            DeliverySigner::Basiq(headers) => return Ok(headers.clone()),
        };
        let mut secrets = vec![secret];
        if let Some((previous, until)) = previous
            && at < *until
        {
            secrets.push(previous);
        }
        signing::sign(&self.id, at, self.body, &secrets).map_err(|_| AttemptError::Internal)
    }
}
