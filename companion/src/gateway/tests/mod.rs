//! The gateway between real connections.
