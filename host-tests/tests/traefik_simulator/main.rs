//! The real plugin in a simulated Traefik.

mod shop;

mod failing;
mod lean;
mod parity;
mod passing;
mod random;
mod spool;
