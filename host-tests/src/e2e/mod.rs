//! What the end-to-end tests share: a client that sends exactly the bytes it is told to, payments,
//! the development facilitator's controls, the numbers of an offer, and the health of the workers.

mod facilitator;
mod health;
mod numbers;
mod purchase;
mod raw;

pub use facilitator::DevFacilitator;
pub use health::assert_workers_live;
pub use numbers::{Calls, Tally};
pub use purchase::Payment;
pub use raw::{Answer, Request, exchange, text};
