//! The way of a reply from the task that finds it to the call that waits for it, either of which may be gone.
//! What a reply gives into the hands of a request is given back if it does not arrive.

use farebox_core::payment::{End, Event, Holder, PaymentKey};
use farebox_core::protocol::RelayReply;
use tokio::sync::oneshot;

use super::Relay;
use crate::ledger::Ledger;

/// The end that is waited at.
#[derive(Debug)]
pub(super) struct Told {
    receiver: oneshot::Receiver<RelayReply>,
    back: Back,
}

/// The end that is to answer.
#[derive(Debug)]
pub(super) struct Waiting {
    sender: oneshot::Sender<RelayReply>,
    back: Back,
}

/// How a payment is given back.
#[derive(Debug, Clone)]
struct Back {
    ledger: Ledger,
    key: PaymentKey,
    holder: Holder,
}

// === impl Relay ===

impl Relay {
    /// Both ends of the way of one reply to a request with this payment.
    pub(super) fn waiting(&self, key: &PaymentKey, holder: Holder) -> (Waiting, Told) {
        let (sender, receiver) = oneshot::channel();
        let back = Back { ledger: self.ledger.clone(), key: key.clone(), holder };
        (Waiting { sender, back: back.clone() }, Told { receiver, back })
    }

    /// The request is over, and not a byte of an answer was sent. If it cannot be noted, the lease ends its hold.
    pub(super) fn give_up(&self, key: &PaymentKey, holder: Holder) {
        self.ledger.note(key, Event::Over(holder, End::Unheard), None);
    }
}

// === impl Waiting ===

impl Waiting {
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// Completes when nobody waits any more.
    pub(super) async fn gone(&mut self) {
        self.sender.closed().await;
    }

    pub(super) fn send(self, reply: RelayReply) {
        if let Err(reply) = self.sender.send(reply) {
            self.back.take(&reply);
        }
    }
}

// === impl Told ===

impl Told {
    /// The reply. `None` if there will be none.
    pub(super) async fn reply(&mut self) -> Option<RelayReply> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(reply) = self.receiver.try_recv() {
            self.back.take(&reply);
        }
    }
}

// === impl Back ===

impl Back {
    fn take(&self, reply: &RelayReply) {
        let holds =
            matches!(reply, RelayReply::Valid | RelayReply::Redeem { .. } | RelayReply::Settled { .. });
        if holds {
            self.ledger.note(&self.key, Event::Over(self.holder, End::Unheard), None);
        }
    }
}
