//! Metric families of the contract, the stamps of a request, and the reports of a shell to the
//! companion.

mod codec;
mod counts;
mod family;
mod report;
mod spool_line;
mod stamp;

pub use codec::{
    MetricSeries, grow, histogram_bucket, parse_tuple_text, read_series_name, series_name, tuple_text,
};
pub use counts::{Counts, series_of};
pub use family::{DURATION_BUCKETS, Family, Kind, PREFIX};
pub use report::{Counted, Received, Standing, Written};
pub use spool_line::{LineTooLong, MAX_SPOOL_LINE, SpoolLine};
pub use stamp::{
    BlockedReason, CallOutcome, FailureReason, LateResult, ReplayState, Stamp, TupleCounter, UnchargedReason,
};
