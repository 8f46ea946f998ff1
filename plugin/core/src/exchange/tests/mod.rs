//! Whole stories of the exchange, played on a small host: a store of payments or a relay that has one, a scripted
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
