//! Traefik as the proxy of a stack.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Stack, shipped};
use crate::paths;

// === impl Stack ===

impl Stack {
    /// `traefik:` of the companion's settings.
    pub(super) fn traefik_settings(&self) -> Value {
        json!({
            "gateway": format!("http://{}", self.addresses.gateway),
            "upstream": self.upstream_url(),
            "spool": { "folder": self.spool(), "file": "/spool/farebox" },
            "api": self.api_url(),
        })
    }

    /// Traefik's own API.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// The gateway behind Traefik, which only Traefik should call.
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.addresses.gateway)
    }

    /// The folder in which Traefik's plugin counts.
    pub fn spool(&self) -> PathBuf {
        self.folder().join("spool")
    }

    /// The plugin as Traefik loads it, this stack's own copy.
    pub fn plugin(&self) -> PathBuf {
        paths::traefik_module(&self.folder().join("plugins-local"))
    }

    pub(super) fn traefik_command(&self) -> Result<Command> {
        let folder = self.folder();
        std::fs::create_dir_all(self.spool())?;
        if !self.plugin().exists() {
            copy(&self.programs.guest, &folder.join("plugins-local"))?;
        }
        let mut rendered = shipped("traefik/traefik.yaml")?;
        let spool = self.spool();
        let places: [(&str, Value); 4] = [
            ("/entryPoints/web/address", self.addresses.proxy.to_string().into()),
            ("/entryPoints/traefik/address", self.addresses.api.to_string().into()),
            ("/providers/http/endpoint", format!("{}/traefik", self.companion_url()).into()),
            (
                "/experimental/localPlugins/farebox/settings/mounts/0",
                format!("{}:/spool", spool.display()).into(),
            ),
        ];
        for (place, value) in places {
            *rendered.pointer_mut(place).with_context(|| format!("traefik/traefik.yaml has no {place}"))? =
                value;
        }
        // A short interval, so that every change is seen at once.
        rendered["providers"]["http"]["pollInterval"] = "500ms".into();
        (self.options.tweak)(&mut rendered);
        let path = folder.join("traefik.yaml");
        std::fs::write(&path, serde_json::to_vec_pretty(&rendered)?)?;
        let mut command = Command::new(&self.programs.proxy);
        if let Some(bytes) = self.options.traefik_memory {
            command.env("GOMEMLIMIT", bytes.to_string());
        }
        // Local plugins are looked for in the working directory.
        command.arg(format!("--configFile={}", path.display())).current_dir(folder);
        Ok(command)
    }
}

/// Copies a folder with its content.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
