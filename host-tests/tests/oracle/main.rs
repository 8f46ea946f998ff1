//! One core, three ways to run it: natively, in the plugin for Traefik, and as a component. They agree on every
//! request, byte for byte.

mod component;
mod three;

mod edges;
mod generated;
mod vectors;
