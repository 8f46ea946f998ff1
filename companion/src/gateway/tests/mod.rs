//! The gateway with real connections, a development facilitator and a scripted upstream.

mod counting;
mod flow;
mod life;
mod streams;
mod upgrades;
mod wire;
mod world;
