//! The Farebox filter for Envoy: a thin proxy-wasm shell around `farebox-core`.
#![forbid(unsafe_code)]
