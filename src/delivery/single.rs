//! Posts single messages outside the outbox, within the limits of their hosts.

use std::sync::Arc;

use jiff::Timestamp;
use relay_domain::Fleet;
use relay_store::{HostLimits, Slots};

use crate::{
    config::DeliveryConfig,
    delivery::{CallbackSender, DeliveryError, MessageResult, SignedMessage, SystemResolver},
};

/// The maximum number of such messages in flight, for each relay.
const MOST: usize = 8;

/// Posts messages that nothing stores. Each counts as an attempt to its host and to its address, so the limits hold
/// for both together. A pause of the host is ignored.
#[derive(Clone)]
pub struct SingleSender {
    sender: CallbackSender,
    slots: Slots,
    per_host: usize,
    fleet: Fleet,
}

impl SingleSender {
    /// Creates a sender whose messages are counted by host together with the permits of `slots`.
    pub(super) fn new(
        sender: CallbackSender,
        slots: &Slots,
        per_host: usize,
        fleet: Fleet,
    ) -> Self {
        Self {
            sender,
            slots: slots.beside(MOST),
            per_host,
            fleet,
        }
    }

    /// Creates a sender with limits of its own. Fails if TLS cannot be set up with `config`.
    pub fn alone(config: &DeliveryConfig) -> Result<Self, DeliveryError> {
        let sender = CallbackSender::new(config, Arc::new(SystemResolver))?;
        let (slots, fleet) = (Slots::new(0), Fleet::alone());
        Ok(Self::new(
            sender,
            &slots,
            config.concurrency_per_host,
            fleet,
        ))
    }

    /// Posts a message once. Returns none if the limits leave no room: then nothing was sent.
    pub async fn send(&self, message: &SignedMessage<'_>, at: Timestamp) -> Option<MessageResult> {
        let limits = HostLimits {
            per_host: self.fleet.of(self.per_host),
            taken: self.slots.by_host(),
        };
        let mut slots = self.slots.set_aside(1).within(limits);
        let _permit = slots.permit_for(message.url.host())?;
        self.sender.send(message, at).await
    }
}
