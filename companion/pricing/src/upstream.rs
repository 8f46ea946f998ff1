//! The upstream of a route, for a shell that itself sends requests on. It is never pushed, because another
//! proxy has upstreams in its own configuration.

use super::HttpUrl;

/// The upstream of one route in a pricing file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteUpstream {
    /// `upstreamURL`.
    pub url: Option<HttpUrl>,
    /// `stripPrefix`, without trailing slash.
    pub strip_prefix: Option<String>,
    /// `upstreamAuth`.
    pub credential: Option<Credential>,
    /// Whether the offer is for chat completions (`offerType` `inference` or `agent`).
    pub chat: bool,
}

/// The source of the `Authorization` for a route's upstream. An HTTP authentication scheme has no colon, so a
/// reference is never mistaken for a value.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The value itself, from the file.
    Value(String),
    /// `file:PATH`: the content of a file.
    File(String),
    /// `env:NAME`: an environment variable.
    Env(String),
}

/// The path of chat completions.
const CHAT: &str = "/v1/chat/completions";

// === impl RouteUpstream ===

impl RouteUpstream {
    /// The target for the upstream. `target` is a path with its query, as the exchange forwards it. The prefix
    /// is removed at a segment boundary, then the chat rewrite applies. The result starts with `/`.
    pub fn target(&self, method: &str, target: &str) -> String {
        let end = target.find('?').unwrap_or(target.len());
        let (path, query) = target.split_at_checked(end).unwrap_or((target, ""));
        let path = self.stripped(path);
        let plain = path.trim_end_matches('/');
        let is_chat = self.chat && method == "POST" && matches!(plain, "" | "/v1" | "/chat/completions");
        let path = if is_chat { CHAT } else { path };
        let slash = if path.starts_with('/') { "" } else { "/" };
        [slash, path, query].concat()
    }

    fn stripped<'a>(&self, path: &'a str) -> &'a str {
        let rest = self.strip_prefix.as_deref().and_then(|prefix| path.strip_prefix(prefix));
        rest.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path)
    }
}

// === impl Credential ===

impl Credential {
    /// Reads `upstreamAuth`. `None` if it is not a header value, or a reference without a name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let reference = |kind: &str| text.strip_prefix(kind).map(str::to_owned);
        let credential = reference("file:")
            .map(Self::File)
            .or_else(|| reference("env:").map(Self::Env))
            .unwrap_or_else(|| Self::Value(text.to_owned()));
        let (Self::Value(text) | Self::File(text) | Self::Env(text)) = &credential;
        let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        (printable && !text.trim().is_empty()).then_some(credential)
    }
}

/// Hides the value, because a secret must not get into logs.
impl core::fmt::Debug for Credential {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripping(prefix: &str, chat: bool) -> RouteUpstream {
        RouteUpstream { strip_prefix: Some(prefix.into()), chat, ..RouteUpstream::default() }
    }

    #[test]
    fn a_prefix_is_stripped_at_a_segment_boundary_and_the_query_is_kept() {
        let route = stripping("/services/o", false);
        for (asked, sent) in [
            ("/services/o", "/"),
            ("/services/o?a=/b", "/?a=/b"),
            ("/services/o/", "/"),
            ("/services/o/v1/x?y", "/v1/x?y"),
            ("/services/other", "/services/other"),
            ("/elsewhere?p=/services/o/x", "/elsewhere?p=/services/o/x"),
        ] {
            assert_eq!(route.target("GET", asked), sent, "{asked}");
        }
        assert_eq!(RouteUpstream::default().target("GET", "/services/o?x"), "/services/o?x");
    }

    #[test]
    fn posts_to_the_root_of_a_chat_offer_become_chat_completions() {
        let route = stripping("/s", true);
        for asked in ["/s", "/s/", "/s/v1", "/s/v1/", "/s/chat/completions", "/s/chat/completions/"] {
            assert_eq!(route.target("POST", &format!("{asked}?q")), "/v1/chat/completions?q", "{asked}");
        }
        assert_eq!(route.target("GET", "/s"), "/");
        assert_eq!(route.target("POST", "/s/v1/embeddings"), "/v1/embeddings");
        assert_eq!(stripping("/s", false).target("POST", "/s"), "/");
    }

    #[test]
    fn a_reference_is_told_from_a_value_and_a_value_is_not_shown() {
        assert_eq!(Credential::parse("file:/run/key"), Some(Credential::File("/run/key".into())));
        assert_eq!(Credential::parse("env:KEY"), Some(Credential::Env("KEY".into())));
        let value = Credential::parse("Bearer hush").unwrap();
        assert_eq!(value, Credential::Value("Bearer hush".into()));
        assert!(!format!("{value:?}").contains("hush"));
        for bad in ["", " ", "env:", "file:", "Bearer a\nb", "Bearer \u{e9}"] {
            assert_eq!(Credential::parse(bad), None, "{bad:?}");
        }
    }
}
