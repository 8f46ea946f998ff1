//! nginx, an upstream with its own reading of paths.

use anyhow::Result;

use super::debian::{Packaged, Program};
use super::tool::{Source, Tool};

const NGINX: Packaged =
    Packaged { package: "nginx", names: &["nginx"], place: "usr/sbin/nginx", version: "-v" };

pub(super) const TOOL: Tool = Tool {
    name: "nginx",
    source: Source::Apt(NGINX.package),
    wanted: "any",
    megabytes: 2,
    gone: || NGINX.gone(),
    here: || NGINX.here(),
    ask: || NGINX.ask(),
    fetch: || nginx().map(drop),
};

/// The server.
pub fn nginx() -> Result<Program> {
    NGINX.program(&TOOL)
}
