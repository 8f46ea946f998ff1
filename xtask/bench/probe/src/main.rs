//! Times the core by itself. The same program runs natively and, built as the filters are, on
//! WebAssembly engines, so its figures compare one with the other.
//!
//! * `probe recover N`: one signer recovery, in nanoseconds, over N recoveries.
//! * `probe rules N < PUSH.json`: what a push costs: time to compile it and memory then held; and for
//!   requests spread over its routes, the time to read and match a path and the time to decide about an
//!   unpaid request, in nanoseconds, over N of each.
//!
//! The answer is one JSON object on standard output.
#![forbid(unsafe_code)]

mod recover;
mod rules;

use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let measured = match arguments[..] {
        ["recover", count] => count.parse().ok().map(recover::measure),
        ["rules", count] => count.parse().ok().map(rules::measure),
        _ => None,
    };
    match measured {
        Some(Ok(figures)) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("usage: probe recover N | probe rules N < PUSH.json");
            ExitCode::FAILURE
        }
    }
}

/// Calls timed together: too many for the clock to matter, and over before another program gets a turn.
const BATCH: u32 = 50;

/// Nanoseconds of one call: the lower quartile of batches, which are those nothing else interrupted. A tenth
/// of the calls go before, untimed: engines optimise what runs often.
fn nanoseconds(count: u32, mut call: impl FnMut(u32)) -> Value {
    (0..count / 10).for_each(&mut call);
    let mut batches: Vec<u64> = (0..count.div_ceil(BATCH).max(1))
        .map(|batch| {
            let started = Instant::now();
            (batch * BATCH..(batch + 1) * BATCH).for_each(&mut call);
            started.elapsed().as_nanos() as u64
        })
        .collect();
    batches.sort_unstable();
    (batches[batches.len() / 4] as f64 / f64::from(BATCH)).into()
}
