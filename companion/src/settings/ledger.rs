//! The URL of the ledger's database. The URL may have a password, which should be neither on a command line nor in a
//! file that other users can read.

use std::path::{Path, PathBuf};

use super::SettingsError;

/// Prefix for a URL that is in a file.
const FILE: &str = "file:";
/// Prefix for a URL that is in an environment variable.
const ENV: &str = "env:";

/// Reads the URL from `text`, or from the place that `text` names: `file:PATH` or `env:NAME`. No error shows the URL.
pub fn ledger_url(text: &str) -> Result<String, SettingsError> {
    let found = if let Some(path) = text.strip_prefix(FILE) {
        std::fs::read_to_string(path)
            .map_err(|error| SettingsError(format!("the ledger's URL: {path} cannot be read: {error}")))?
    } else if let Some(name) = text.strip_prefix(ENV) {
        std::env::var(name)
            .map_err(|_| SettingsError(format!("the ledger's URL: {name} is not in the environment")))?
    } else {
        text.to_owned()
    };
    let url = found.trim();
    let known = ["sqlite:", "postgres://", "postgresql://"];
    if url.lines().count() != 1 || !known.iter().any(|scheme| url.starts_with(scheme)) {
        // A typed URL may have a password.
        let place = if found.as_str() == text { String::new() } else { format!(" in {text}") };
        return Err(SettingsError(format!(
            "the ledger's URL{place}: must be sqlite:FILE, such as sqlite:farebox.db, or \
             postgres://user:password@host/database, or say where that stands: file:PATH or env:NAME"
        )));
    }
    Ok(url.to_owned())
}

/// Makes a relative path start at the folder of the settings file.
pub(super) fn anchored(text: &str, folder: &Path) -> String {
    match text.strip_prefix(FILE) {
        Some(path) => format!("{FILE}{}", folder.join(PathBuf::from(path)).display()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_stands_itself_or_in_a_file_or_in_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "postgres://u:hush@db/farebox\n").unwrap();
        assert_eq!(ledger_url("sqlite:farebox.db").unwrap(), "sqlite:farebox.db");
        let text = format!("file:{}", path.display());
        assert_eq!(ledger_url(&text).unwrap(), "postgres://u:hush@db/farebox");
        assert_eq!(anchored("file:url", folder.path()), text);
        assert_eq!(anchored("sqlite:url", folder.path()), "sqlite:url");
        // The value of PATH on any machine is not the URL of a ledger.
        let error = ledger_url("env:PATH").unwrap_err().to_string();
        assert!(error.starts_with("the ledger's URL in env:PATH: must be sqlite:FILE"), "{error}");
        let error = ledger_url("env:FAREBOX_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.ends_with("FAREBOX_NO_SUCH_VARIABLE is not in the environment"), "{error}");
    }

    #[test]
    fn what_is_no_url_is_refused_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        for text in ["", "hush", "mysql://u:hush@db", "sqlite:a\nhush"] {
            std::fs::write(&path, text).unwrap();
            for typed in [format!("file:{}", path.display()), text.to_owned()] {
                let error = ledger_url(&typed).unwrap_err().to_string();
                assert!(error.contains("must be sqlite:FILE") && !error.contains("hush"), "{error}");
            }
        }
        let error = ledger_url("file:/nonexistent/url").unwrap_err().to_string();
        assert!(error.starts_with("the ledger's URL: /nonexistent/url cannot be read"), "{error}");
    }
}
