//! A published facilitator of another project, with a simulated chain that can lose its answers.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Folder, Port, Process};
use crate::{http, node, paths, tools};

/// The implementation of the facilitator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// npm `@x402/core` and `@x402/evm`, the reference in TypeScript.
    TypeScript,
    /// PyPI `x402`, the reference in Python.
    Python,
}

/// A running facilitator, and its chain: Base Sepolia, where every payer has enough USDC.
#[derive(Debug)]
pub struct Reference {
    // Stopped in this order.
    facilitator: Process,
    chain: Process,
    ports: [Port; 2],
    client: reqwest::Client,
    _folder: Folder,
}

/// USDC of Base Sepolia.
const TOKEN: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const CHAIN: u32 = 84_532;
/// The publicly known second development account of Anvil and Hardhat, which sends the transactions.
const SENDER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
/// How long the chain may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Node may be slow to start.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

// === impl Reference ===

impl Reference {
    /// Starts both, and waits until the facilitator says what it supports.
    pub async fn start(implementation: Implementation) -> Result<Self> {
        let folder = Folder::create()?;
        let ports = [Port::take()?, Port::take()?];
        let [chain, facilitator] = [0, 1].map(|at: usize| ports[at].address());
        let order =
            json!({ "port": chain.port(), "chain": CHAIN, "token": TOKEN, "name": "USDC", "version": "2" });
        let chain_command = run("chain", &order)?;
        let order = json!({
            "port": facilitator.port(),
            "rpc": format!("http://{chain}"),
            "key": SENDER,
            "timeout": PATIENCE.as_millis(),
        });
        let facilitator_command = match implementation {
            Implementation::TypeScript => run("facilitator", &order)?,
            Implementation::Python => {
                let mut command = Command::new("python3");
                command.env("PYTHONPATH", tools::python_packages()?);
                command.arg(paths::workspace().join("testkit/python/facilitator.py")).arg(order.to_string());
                command
            }
        };
        let log = |name: &str| folder.path().join(format!("{name}.log"));
        let reference = Self {
            chain: Process::spawn("chain", chain_command, &log("chain"))?,
            facilitator: Process::spawn("reference facilitator", facilitator_command, &log("facilitator"))?,
            ports,
            client: http::client_builder().timeout(READY).build()?,
            _folder: folder,
        };
        let began = Instant::now();
        while reference.supported().await.is_err() {
            let ended =
                [&reference.chain, &reference.facilitator].iter().any(|process| process.ended().is_some());
            if ended || began.elapsed() > READY {
                bail!("the reference facilitator does not start:\n{}", reference.tails());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(reference)
    }

    /// The facilitator's.
    pub fn url(&self) -> String {
        format!("http://{}", self.ports[1].address())
    }

    /// The chain applies the next transactions and gives no answer.
    pub async fn lose_sent(&self, count: u64) -> Result<()> {
        self.lose(&json!({ "sent": count })).await
    }

    /// The next questions for the code of an account fail.
    pub async fn lose_code(&self, count: u64) -> Result<()> {
        self.lose(&json!({ "code": count })).await
    }

    /// How often a nonce moved money, and by which transaction.
    pub async fn transfers(&self, nonce: &str) -> Result<Vec<Value>> {
        let url = format!("http://{}/transfers", self.ports[0].address());
        let all: Vec<Value> = serde_json::from_slice(&self.client.get(url).send().await?.bytes().await?)?;
        Ok(all.into_iter().filter(|transfer| transfer["nonce"] == nonce).collect())
    }

    /// Its log of each call.
    pub fn tails(&self) -> String {
        const LINES: usize = 40;
        [&self.chain, &self.facilitator].map(|process| process.tail(LINES)).join("\n")
    }

    async fn supported(&self) -> Result<()> {
        let answer = self.client.get(format!("{}/supported", self.url())).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    async fn lose(&self, what: &Value) -> Result<()> {
        let url = format!("http://{}/lose", self.ports[0].address());
        self.client.post(url).body(what.to_string()).send().await?.error_for_status()?;
        Ok(())
    }
}

fn run(script: &str, order: &Value) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(node::script(script)?).arg(order.to_string());
    Ok(command)
}
