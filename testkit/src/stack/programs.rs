//! The programs of a stack: how each starts, whether all run, and their logs.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::fleet::Sibling;
use super::{Facilitator, Process, Shell, Stack, envoy, guard};

/// How long the whole may take to be ready. A cold machine under load compiles the filter in seconds.
const READY: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// Lines of each log shown with a failure.
const TAIL: usize = 30;

/// The programs of a stack that can be stopped and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The development facilitator.
    Facilitator,
    /// `farebox run`.
    Companion,
    /// Envoy or Traefik.
    Proxy,
}

// === impl Stack ===

impl Stack {
    /// Starts all programs of a prepared stack.
    pub async fn start_all(mut self) -> Result<Self> {
        match self.start_parts().await {
            Ok(()) => Ok(self),
            Err(error) => Err(self.explain(error)),
        }
    }

    async fn start_parts(&mut self) -> Result<()> {
        if let Facilitator::Development(_) = self.options.facilitator {
            self.start_part(Part::Facilitator)?;
            let record = format!("{}/dev/record", self.facilitator_url());
            self.until("the facilitator answers", async |stack| stack.is_ok(&record).await).await?;
        }
        self.start_part(Part::Companion)?;
        match self.options.shell {
            Shell::Envoy => {
                // Envoy does not start without the file it discovers its filter configuration from.
                self.until("the companion publishes", async |stack| stack.discovery().is_file()).await?;
                self.start_part(Part::Proxy)?;
                self.start_siblings()?;
            }
            Shell::Traefik => self.start_part(Part::Proxy)?,
            Shell::Gateway => {}
        }
        self.ready().await
    }

    /// Waits until the current rules are enforced, and the facilitator's kinds are known or the facilitator
    /// has failed.
    pub async fn ready(&self) -> Result<()> {
        self.until("the current rules are enforced", async |stack| stack.is_ready().await).await
    }

    async fn is_ready(&self) -> bool {
        let Ok(status) = self.status().await else { return false };
        let generation = status["config_generation"].as_u64();
        let facilitator = &status["facilitator"];
        let is_current =
            |number: usize| status["proxies"][number]["generation_confirmed"].as_u64() == generation;
        let are_current = match self.options.shell {
            Shell::Envoy => (0..=self.siblings.len()).all(is_current),
            Shell::Traefik => status["traefik"]["api"]["generation"].as_u64() == generation,
            Shell::Gateway => true,
        };
        generation.is_some()
            && are_current
            && (facilitator["ready"] == true || facilitator_error(&status).is_some())
    }

    /// Starts one program, without waiting for it.
    pub fn start_part(&mut self, part: Part) -> Result<()> {
        let command = match part {
            Part::Facilitator => self.facilitator_command()?,
            Part::Companion => self.companion_command(),
            Part::Proxy => match self.options.shell {
                Shell::Envoy => self.envoy_command(envoy::NAME, self.addresses.proxy)?,
                Shell::Traefik => self.traefik_command()?,
                Shell::Gateway => bail!("the companion is the proxy of this stack"),
            },
        };
        let name = part.name();
        let process = Process::spawn(name, command, &self.folder().join(format!("{name}.log")))?;
        *self.slot(part) = Some(process);
        Ok(())
    }

    /// Stops one program in an orderly way.
    pub fn stop_part(&mut self, part: Part) {
        drop(self.slot(part).take());
    }

    /// Ends one program as a crash would.
    pub fn kill_part(&mut self, part: Part) {
        if let Some(mut process) = self.slot(part).take() {
            process.kill();
        }
    }

    /// A program, while it is there.
    pub const fn part(&self, part: Part) -> Option<&Process> {
        match part {
            Part::Facilitator => self.facilitator.as_ref(),
            Part::Companion => self.companion.as_ref(),
            Part::Proxy => self.proxy.as_ref(),
        }
    }

    const fn slot(&mut self, part: Part) -> &mut Option<Process> {
        match part {
            Part::Facilitator => &mut self.facilitator,
            Part::Companion => &mut self.companion,
            Part::Proxy => &mut self.proxy,
        }
    }

    // --- while they run ---

    /// Waits for a condition, and fails when the programs end or the time is over.
    pub async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            if holds(self).await {
                return Ok(());
            }
            self.check_alive()?;
            if Instant::now() >= deadline {
                bail!("waited {READY:?} in vain until {what}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stays up until a signal ends this process, which then succeeds, or a program ends by itself.
    pub async fn stay(&self) -> anyhow::Error {
        guard::await_signal();
        loop {
            tokio::time::sleep(LOOK * 8).await;
            if let Err(error) = self.check_alive() {
                return self.explain(error);
            }
        }
    }

    /// Fails when a program that should run has ended.
    pub fn check_alive(&self) -> Result<()> {
        for process in self.processes() {
            if let Some(status) = process.ended() {
                bail!("{} ended: {status}", process.name());
            }
        }
        Ok(())
    }

    /// The end of every log.
    pub fn tails(&self) -> String {
        let tails = self.processes().map(|process| {
            format!("--- {} ({})\n{}\n", process.name(), process.log().display(), process.tail(TAIL))
        });
        tails.collect()
    }

    /// Adds the end of every log to an error, while they are there.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        anyhow!("{error:#}\n{}", self.tails())
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        let siblings = self.siblings.iter().filter_map(Sibling::process);
        [&self.facilitator, &self.companion, &self.proxy].into_iter().flatten().chain(siblings)
    }

    // --- how each is started ---

    fn facilitator_command(&self) -> Result<Command> {
        let Facilitator::Development(arguments) = &self.options.facilitator else {
            bail!("the facilitator of this stack is not its own");
        };
        let mut command = Command::new(&self.programs.farebox);
        command.arg("facilitator").arg("--listen").arg(self.addresses.facilitator.to_string());
        command.args(arguments);
        Ok(command)
    }

    fn companion_command(&self) -> Command {
        let mut command = Command::new(&self.programs.farebox);
        command.arg("run").current_dir(self.folder());
        command.arg("--settings").arg(self.folder().join("farebox.yaml"));
        command.arg("--pricing").arg(self.pricing());
        command.arg("--listen").arg(self.addresses.companion.to_string());
        command.arg("--facilitator").arg(self.facilitator_url());
        if self.options.settings["relay"]["listen"].is_null() {
            command.arg("--relay-listen").arg(self.addresses.relay.to_string());
        }
        if self.options.shell == Shell::Envoy {
            command.arg("--envoy-wasm").arg(&self.programs.guest);
            command.arg("--envoy-publish").arg(self.discovery());
        }
        command
    }

    /// `farebox.yaml`: the options' own settings, with the addresses of what the shell needs.
    pub(super) fn settings(&self) -> Value {
        let mut settings = self.options.settings.clone();
        if settings["shutdown"].is_null() {
            // A stack has no load balancer in front.
            settings["shutdown"] = json!({ "delay": "0s" });
        }
        let mut fill = |section: &str, members: Value| {
            let members = members.as_object().cloned().unwrap_or_default();
            if let Some(section) = settings[section].as_object_mut() {
                section.extend(members);
            } else {
                settings[section] = members.into();
            }
        };
        if self.options.shell != Shell::Envoy {
            fill("gateway", json!({ "listen": self.addresses.gateway, "upstream": self.upstream_url() }));
        }
        if self.options.shell == Shell::Traefik {
            fill("traefik", self.traefik_settings());
        }
        settings
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
        }
        // Fields drop in their order, programs before what they use.
    }
}

// === impl Part ===

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Facilitator => "facilitator",
            Self::Companion => "companion",
            Self::Proxy => "proxy",
        }
    }
}

/// Why a facilitator's kinds are not known, from a companion's `/status`.
pub fn facilitator_error(status: &Value) -> Option<&str> {
    let used = status["facilitator"]["used"].as_array()?;
    used.iter().find_map(|facilitator| facilitator["last_error"].as_str())
}
