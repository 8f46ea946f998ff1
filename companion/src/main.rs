//! The Farebox companion.
fn main() {}
