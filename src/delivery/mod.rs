//! Sends due deliveries to their callbacks and records each attempt.
//!
//! * [`retry`] decides what follows an attempt. It is pure.
//! * `address_guard` keeps attempts away from private networks.
//! * `dialer` connects only to vetted addresses.
//! * `client_certificate` and `client_identity` read and present the TLS certificates of clients.
//! * `connections` keeps connections for later requests.
//! * `sender` makes one attempt.
//! * `single` posts messages that are not in the outbox.
//! * `worker` makes many attempts at a time.

mod address_guard;
mod addresses;
mod client_certificate;
mod client_identity;
mod connections;
mod dialer;
#[cfg(test)]
mod fakes;
mod hosts;
pub mod retry;
mod sender;
mod single;
mod tls;
mod worker;

pub use self::{
    address_guard::{AddressGuard, NameResolver, NoAddress, SystemResolver},
    client_certificate::{ClientCertificateError, read_client_certificate},
    sender::{
        AttemptOutcome, CallbackResponse, CallbackSender, MessageResult, PresentedAuth,
        SignedMessage,
    },
    single::SingleSender,
    tls::{DeliveryError, further_certificates},
    worker::DeliveryWorker,
};
