//! A page in a real browser that buys from another origin. What it does is in `testkit/node/page.mjs`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Purchase;
use crate::stack::Port;
use crate::{node, tools};

/// A browser starts in seconds, unless the machine is busy.
const DEADLINE: Duration = Duration::from_secs(120);

/// Where a page comes from. Its address is taken before it is there, so that a shop can name it.
#[derive(Debug)]
pub struct Page {
    port: Port,
}

/// What a page was answered, as far as its browser let it know.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Seen {
    /// An answer it could read.
    Answer {
        /// Its status.
        status: u16,
        /// The decoded receipt, `null` where there is none or the browser hides it.
        receipt: Value,
        /// The body as text.
        body: String,
    },
    /// The browser refused.
    Refused {
        /// In its words.
        error: String,
    },
}

// === impl Page ===

impl Page {
    /// Takes an address.
    pub fn new() -> Result<Self> {
        Ok(Self { port: Port::take()? })
    }

    /// Where the page is from, as its browser tells others.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address())
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Lets the page buy each of some URLs with the publicly known development key.
    pub async fn buy(&self, urls: &[String]) -> Result<Vec<Seen>> {
        let browser = tools::chromium()?;
        let order = json!({
            "port": self.address().port(),
            "browser": browser.found()?,
            "libraries": browser.libraries(),
            "key": Purchase::of("").key,
            "urls": urls,
        });
        node::run(&node::script("page")?, &order.to_string(), DEADLINE, "the page").await
    }
}
