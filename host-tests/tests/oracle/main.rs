//! One core, run in three ways: natively, in the plugin for Traefik, and as a component. They agree on every
//! request, byte for byte.

mod component;
mod three;

mod edges;
mod generated;
mod vectors;
