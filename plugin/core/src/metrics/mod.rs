//! Metric families of the contract, and the names under which a proxy counts for the companion.

mod codec;
mod family;
mod spool_line;
mod stamp;

pub use codec::{
    HostSeries, decode_host_name, histogram_bucket, host_name, parse_tuple_text, series_of, tuple_text,
};
pub use family::{DURATION_BUCKETS, Family, Kind, PREFIX};
pub use spool_line::{LineTooLong, MAX_SPOOL_LINE, SpoolLine};
pub use stamp::{
    BlockedReason, CallOutcome, FailureReason, LateResult, ReplayState, Stamp, TupleCounter, UnchargedReason,
};
