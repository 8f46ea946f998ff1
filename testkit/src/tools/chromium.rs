//! Chromium, the browser that buys from a page.

use anyhow::Result;

use super::debian::{Packaged, Program};
use super::tool::{Source, Tool};

/// The package without a window is a third of the one with, and has the same rules about origins.
const CHROMIUM: Packaged = Packaged {
    package: "chromium-headless-shell",
    names: &["chromium-headless-shell", "chromium"],
    place: "usr/lib/chromium/chromium-headless-shell",
    version: "--version",
};

pub(super) const TOOL: Tool = Tool {
    name: "Chromium",
    source: Source::Apt(CHROMIUM.package),
    wanted: "any",
    megabytes: 269,
    gone: || CHROMIUM.gone(),
    here: || CHROMIUM.here(),
    ask: || CHROMIUM.ask(),
    fetch: || chromium().map(drop),
};

/// The browser.
pub fn chromium() -> Result<Program> {
    CHROMIUM.program(&TOOL)
}
