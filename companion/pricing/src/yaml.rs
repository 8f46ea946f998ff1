//! A YAML document: nested keys and values with their lines, and scalars as source text.
//!
//! Nothing is interpreted here, so `price: 0.001` and an unquoted `0x…` address never become a
//! number. Size and depth are limited. Anchors and aliases are refused because a small file could
//! become a large one, and tags because they change the meaning of values.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Largest file, bytes. Ten thousand routes take a few million.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting. The pricing file needs five levels.
const MAX_DEPTH: usize = 16;

/// A value and where it starts.
pub(super) struct Node {
    /// 1-based.
    pub(super) line: usize,
    /// What it is.
    pub(super) value: Value,
}

/// The three kinds of YAML values.
pub(super) enum Value {
    /// Source text, and whether it is without quotes.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in file order, with duplicates.
    Map(Vec<Entry>),
}

/// A key and its value.
pub(super) struct Entry {
    /// The key's text.
    pub(super) key: String,
    /// Line of the key, 1-based.
    pub(super) line: usize,
    /// Its value.
    pub(super) value: Node,
}

/// Why there is no document.
pub(super) struct Broken {
    /// 1-based.
    pub(super) line: usize,
    /// What is wrong there.
    pub(super) message: String,
}

/// A collection being read.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<Entry>, Option<(String, usize)>),
}

/// Reads the only document of a file; `None` if the file has only comments.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Broken> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, the limit is {MAX_BYTES}", text.len());
        return Err(Broken { line: 1, message });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.is_empty() && !text.ends_with('\n') {
        let message =
            "the last line has no end, so more of it may be missing; end the file with a line break"
                .to_owned();
        return Err(Broken { line: text.lines().count(), message });
    }
    let mut root = None;
    let mut documents = 0;
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Broken {
            line: error.marker().line(),
            message: format!("not valid YAML: {}", error.info()),
        })?;
        let line = span.start.line();
        let broken = |message: &str| Err(Broken { line, message: message.to_owned() });
        let anchored = match &event {
            Event::Alias(_) => return broken("aliases (*name) are not supported; write the value out"),
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag.is_some()),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        if anchored.0 != 0 {
            return broken("anchors (&name) are not supported");
        }
        if anchored.1 {
            return broken("tags (!name) are not supported");
        }
        let done = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return broken("a second document (---) is not supported");
                }
                continue;
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(line, Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(line, Vec::new(), None));
                None
            }
            Event::Scalar(text, style, _, _) => {
                let plain = style == ScalarStyle::Plain;
                Some(Node { line, value: Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(Open::close),
            _ => continue,
        };
        if open.len() > MAX_DEPTH {
            return broken("the file is nested too deeply");
        }
        let Some(node) = done else { continue };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, pending)) => match (pending.take(), node.value) {
                (Some((key, line)), value) => {
                    entries.push(Entry { key, line, value: Node { line: node.line, value } });
                }
                (None, Value::Scalar { text, .. }) => *pending = Some((text, node.line)),
                (None, _) => return broken("a key must be plain text"),
            },
        }
    }
    Ok(root.filter(|node: &Node| !node.is_null()))
}

// === impl Open ===

impl Open {
    fn close(self) -> Node {
        match self {
            Self::List(line, items) => Node { line, value: Value::List(items) },
            Self::Map(line, entries, _) => Node { line, value: Value::Map(entries) },
        }
    }
}

// === impl Node ===

impl Node {
    /// Whether the value means "not set".
    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The kind of the value, for messages. Never its text.
    pub(super) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> (usize, String) {
        match parse(text) {
            Err(broken) => (broken.line, broken.message),
            Ok(_) => panic!("accepted: {text}"),
        }
    }

    #[test]
    fn scalars_keep_their_source_text_and_their_lines() {
        let node = parse("# prices\na: 0.001\nb:\n  - 0x00E1\n  - \"2\"\nc:\n").ok().flatten().unwrap();
        let Value::Map(entries) = node.value else { panic!("not a mapping") };
        let place: Vec<(&str, usize)> = entries.iter().map(|e| (e.key.as_str(), e.line)).collect();
        assert_eq!(place, [("a", 2), ("b", 3), ("c", 6)]);
        assert!(matches!(&entries[0].value.value, Value::Scalar { text, plain: true } if text == "0.001"));
        let Value::List(items) = &entries[1].value.value else { panic!("not a list") };
        assert!(matches!(&items[0].value, Value::Scalar { text, plain: true } if text == "0x00E1"));
        assert!(matches!(&items[1].value, Value::Scalar { text, plain: false } if text == "2"));
        assert_eq!((items[0].line, items[1].line), (4, 5));
        assert!(entries[2].value.is_null());
    }

    #[test]
    fn files_without_content_are_no_document() {
        for text in ["", "# only a comment\n", "null\n", "~\n", "---\n", "---\n...\n", "\u{feff}"] {
            assert!(matches!(parse(text), Ok(None)), "{text:?}");
        }
    }

    #[test]
    fn what_hides_or_multiplies_values_is_refused_with_its_line() {
        assert_eq!(broken("a: &x 1\nb: *x\n"), (1, "anchors (&name) are not supported".into()));
        assert_eq!(broken("a: 1\nb: !!str 2\n"), (2, "tags (!name) are not supported".into()));
        assert_eq!(broken("a: 1\n---\nb: 1\n"), (2, "a second document (---) is not supported".into()));
        assert_eq!(broken("{a: 1}: 2\n").1, "a key must be plain text");
    }

    #[test]
    fn size_and_depth_are_bounded() {
        assert_eq!(broken(&("[".repeat(MAX_DEPTH + 1) + "\n")), (1, "the file is nested too deeply".into()));
        assert_eq!(broken(&("[".repeat(100_000) + "\n")).0, 1);
        assert_eq!(broken(&("- ".repeat(100_000) + "\n")).0, 1);
        assert_eq!(broken(&" ".repeat(MAX_BYTES + 1)).0, 1);
    }

    #[test]
    fn a_last_line_without_its_end_may_be_half_a_line() {
        let (line, message) = broken("gate: free\npattern: /v1/*");
        assert_eq!(line, 2);
        assert!(message.starts_with("the last line has no end, so more of it may be missing"), "{message}");
        assert!(matches!(parse("price: 1\r\n"), Ok(Some(_))));
    }

    #[test]
    fn broken_yaml_names_its_line() {
        assert_eq!(broken("a: 1\nb: [1, 2\nc: 3\n").0, 3);
        assert!(broken("a: \"x\n").1.starts_with("not valid YAML: "));
    }
}
