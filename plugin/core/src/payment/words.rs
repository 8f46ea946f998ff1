//! The machine's answers as replies of a relay. A proxy that keeps payments itself uses them, too.

use super::Answer;
use crate::protocol::RelayReply;

impl From<Answer> for RelayReply {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Redeem { transaction } => Self::Redeem { transaction },
            Answer::InFlight | Answer::Begun => Self::InFlight,
            Answer::OtherTerms => Self::OtherTerms,
            Answer::OtherPayment => Self::OtherPayment,
            Answer::Open { transaction } => Self::Open { transaction },
            Answer::PaidFor { terms, transaction } => {
                Self::PaidFor { offer: terms.offer, route: terms.route, transaction }
            }
            Answer::Used => Self::Used,
            Answer::Twin { transaction } => Self::Twin { transaction },
            Answer::New => Self::New { now: None },
            Answer::Settled { transaction } => Self::Settled { transaction },
            Answer::NotHeld => Self::NotBegun,
            // After these the request continues.
            Answer::Reserved | Answer::Noted => Self::Valid,
            Answer::Call { transaction, .. } => Self::Open { transaction },
        }
    }
}
