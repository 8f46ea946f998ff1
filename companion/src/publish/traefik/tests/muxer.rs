//! How Traefik 3.7 chooses a router: its reading of a request target, and its rules.

use regex::Regex;
use serde_json::Value;

/// A router, read from a dynamic configuration.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) name: String,
    pub(super) priority: u64,
    pub(super) service: String,
    /// Whether it names the plugin, so that Traefik drops it if the plugin cannot be loaded.
    pub(super) plugin: bool,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Prefix(String),
    Expression(Regex),
}

/// The routers of a dynamic configuration, in the order of their priority.
pub(super) fn routers(body: &Value) -> Vec<Router> {
    let all = body["http"]["routers"].as_object().unwrap();
    let mut routers: Vec<_> = all
        .iter()
        .map(|(name, router)| Router {
            name: name.clone(),
            priority: router["priority"].as_u64().unwrap(),
            service: router["service"].as_str().unwrap().to_owned(),
            plugin: router.get("middlewares").is_some(),
            rule: Rule::read(router["rule"].as_str().unwrap()),
        })
        .collect();
    routers.sort_by_key(|router| std::cmp::Reverse(router.priority));
    // Routers of free routes exclude each other.
    let in_order = |two: &[Router]| two[0].priority > two[1].priority || two[1].name.contains("-free-");
    assert!(routers.windows(2).all(in_order), "{routers:?}");
    routers
}

/// The path that an entry point makes of a raw path, as plugin and upstream see it. `None` is answered
/// 400. `sanitize` is the entry point's `sanitizePath`.
pub(super) fn entry(raw: &str, sanitize: bool) -> Option<String> {
    let mut normal = String::new();
    let mut rest = raw;
    while let Some(char) = rest.chars().next() {
        if char != '%' {
            normal.push(char);
            rest = &rest[char.len_utf8()..];
            continue;
        }
        let byte = u8::from_str_radix(rest.get(1..3)?, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&rest[..3].to_ascii_uppercase());
        }
        rest = &rest[3..];
    }
    Some(if sanitize { clean(&normal) } else { normal })
}

fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    let slash = if folder && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}", kept.join("/"))
}

/// The text that rules match: the path with all but reserved characters decoded.
pub(super) fn routing_path(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let decoded = (*first == b'%')
            .then(|| u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap())
            .filter(|byte| !b":/?#[]@!$&'()*+,;=%".contains(byte));
        out.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

// === impl Router ===

impl Router {
    pub(super) fn takes(&self, routing_path: &str) -> bool {
        self.rule.takes(routing_path)
    }
}

// === impl Rule ===

impl Rule {
    fn read(text: &str) -> Self {
        let mut rest = text;
        let rule = Self::any(&mut rest);
        assert_eq!(rest, "", "of {text}");
        rule
    }

    fn any(rest: &mut &str) -> Self {
        let mut rules = vec![Self::all(rest)];
        while eat(rest, " || ") {
            rules.push(Self::all(rest));
        }
        Self::Any(rules)
    }

    fn all(rest: &mut &str) -> Self {
        let mut rules = vec![Self::one(rest)];
        while eat(rest, " && ") {
            rules.push(Self::one(rest));
        }
        Self::All(rules)
    }

    fn one(rest: &mut &str) -> Self {
        if eat(rest, "!") {
            return Self::Not(Box::new(Self::one(rest)));
        }
        if eat(rest, "(") {
            let rule = Self::any(rest);
            assert!(eat(rest, ")"), "{rest}");
            return rule;
        }
        let (name, after) = rest.split_once("(`").unwrap();
        let (argument, after) = after.split_once("`)").unwrap();
        *rest = after;
        match name {
            "PathPrefix" => Self::Prefix(argument.to_owned()),
            "PathRegexp" => Self::Expression(Regex::new(argument).unwrap()),
            _ => panic!("{name}"),
        }
    }

    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Any(rules) => rules.iter().any(|rule| rule.takes(path)),
            Self::All(rules) => rules.iter().all(|rule| rule.takes(path)),
            Self::Not(rule) => !rule.takes(path),
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Expression(expression) => expression.is_match(path),
        }
    }
}

fn eat(rest: &mut &str, token: &str) -> bool {
    let after = rest.strip_prefix(token);
    *rest = after.unwrap_or(rest);
    after.is_some()
}
