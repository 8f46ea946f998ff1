//! What is sold, and on which terms: the types that messages, rules, counts and payments share.

mod extra;
mod option;
mod settings;
mod tuple;

pub use extra::Extra;
pub use option::{Flow, PaymentOption};
pub(crate) use settings::default_max_age;
pub use settings::{BodyVersion, Cors, Settings, Unmatched};
pub use tuple::{Tuple, is_label};
