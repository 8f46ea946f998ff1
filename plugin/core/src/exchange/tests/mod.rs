//! Whole stories of the exchange, played on a small host: a replay table, a scripted facilitator and a
//! scripted upstream.

mod begin;
mod flow;
mod headers;
mod host;
mod random;
mod settle;
mod world;
