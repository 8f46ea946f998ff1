//! Two stacks that share facilitator, upstream and ledger.

use std::process::Command;

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::paths;
use farebox_testkit::stack::{Durability, Facilitator, Options, Postgres, Stack};
use serde_json::{Value, json};

use crate::support::until;

/// Both stacks, and the database of their ledger.
#[derive(Debug)]
pub(super) struct Shop {
    stacks: [Stack; 2],
    // Dropped after the stacks that use it.
    pub(super) database: Postgres,
}

pub(super) fn pricing(price: &str) -> String {
    format!(
        "wallet: \"0x00000000000000000000000000000000000000a0\"\nchain: base-sepolia\nroutes:\n\
         - {{ pattern: /goods/*, price: {price}, offerNamespace: shop, offerName: goods }}\n"
    )
}

// === impl Shop ===

impl Shop {
    pub(super) async fn open() -> Self {
        let database = Postgres::start(Durability::Careless).unwrap();
        let options = |name: &str| Options {
            settings: json!({
                "facilitator": { "settlement": "relay" },
                "relay": { "ledger": database.url(), "companion": name },
            }),
            ..Options::priced(pricing("0.001"))
        };
        let first = Stack::start(options("one")).await.unwrap();
        let second = Stack::start(Options {
            facilitator: Facilitator::At(first.facilitator_url()),
            upstream: Some(first.upstream_url()),
            ..options("two")
        });
        Self { stacks: [first, second.await.unwrap()], database }
    }

    pub(super) const fn stack(&self, at: usize) -> &Stack {
        &self.stacks[at]
    }

    pub(super) const fn stack_mut(&mut self, at: usize) -> &mut Stack {
        &mut self.stacks[at]
    }

    pub(super) fn facilitator(&self) -> DevFacilitator {
        DevFacilitator::of(&self.stacks[0])
    }

    /// Requests the upstream has had.
    pub(super) fn origin_hits(&self) -> u64 {
        self.stacks[0].origin().expect("it is the first stack's").hits().total()
    }

    /// Payments charged, by the metrics of each companion: both show all of them.
    pub(super) async fn charged(&self) -> u128 {
        let mut charged = Vec::new();
        for stack in &self.stacks {
            let page = stack.metrics().await.unwrap();
            let counted = page.sum("obol_x402_verifier_charged_requests_total", &[("offer_name", "goods")]);
            charged.push(counted.unwrap());
        }
        assert!(charged.windows(2).all(|pair| pair[0] == pair[1]), "{charged:?}");
        charged[0]
    }

    /// What `farebox ledger export` shows.
    pub(super) fn ledger(&self, which: &[&str]) -> Vec<Value> {
        let mut command = Command::new(paths::dev_farebox().unwrap());
        command.args(["ledger", "export", "--format", "jsonl", "--ledger", &self.database.url()]).args(which);
        let output = command.output().expect("farebox runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("JSON is text");
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Waits until a companion is not ready for this reason.
    pub(super) async fn until_not_ready(&self, at: usize, why: &str) {
        until("the companion is not ready", async || {
            let (status, cause) = self.readiness(at).await;
            status == 503 && cause.contains(why)
        })
        .await;
    }

    pub(super) async fn until_ready(&self, at: usize) {
        until("the companion is ready", async || self.readiness(at).await.0 == 200).await;
    }

    async fn readiness(&self, at: usize) -> (u16, String) {
        let stack = &self.stacks[at];
        let answer = stack.client().get(format!("{}/readyz", stack.companion_url())).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Generation and hash of the rules a companion has in force.
    pub(super) async fn pushed(&self, at: usize) -> Value {
        let status = self.stacks[at].status().await.unwrap();
        json!({ "config_generation": status["config_generation"], "config_hash": status["config_hash"] })
    }

    /// Waits until both enforce the same.
    pub(super) async fn until_agreed(&self) {
        until("both companions push the same", async || {
            let [first, second] = &self.stacks;
            let same = self.pushed(0).await == self.pushed(1).await;
            same && first.enforced().await.ok() == second.enforced().await.ok()
        })
        .await;
    }

    /// What a companion published for its proxy.
    pub(super) fn published(&self, at: usize) -> String {
        let path = self.stacks[at].folder().join("discovery/filter.yaml");
        std::fs::read_to_string(path).expect("it is published")
    }
}
