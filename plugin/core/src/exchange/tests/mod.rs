//! Whole stories of the exchange on a small host, with a store of payments or a relay with a store, a scripted
//! facilitator and a scripted upstream.

mod begin;
mod flow;
mod headers;
mod host;
mod life;
mod pages;
mod random;
mod relay;
mod script;
mod settle;
mod stranger;
mod world;
