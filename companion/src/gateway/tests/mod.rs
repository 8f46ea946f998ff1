//! The gateway between real connections, a development facilitator and an upstream that does as it is told.

mod counting;
mod flow;
mod life;
mod streams;
mod upgrades;
mod wire;
mod world;
