//! A YAML text as a tree with line numbers, and the only file that names the YAML parser.
//!
//! Driven by the parser's events and not by its loader, so that scalars stay as written (a secret
//! that looks like a number stays a text) and depth and size stay bounded, aliases included.

use crate::config::complaint::quoted;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::BTreeMap;

/// Bytes of a configuration text. The largest real ones are a few kilobytes.
pub const MOST_BYTES: usize = 1 << 20;
/// Nesting; LiveKit's deepest key has six levels.
const MOST_DEPTH: usize = 32;
/// Nodes after aliases are replaced by what they stand for.
const MOST_NODES: usize = 20_000;

/// A node and the line it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// From 1.
    pub line: usize,
    /// What it is.
    pub body: Body,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing: an empty value, `~` or `null`.
    Null,
    /// A text, number or word as written, quotes removed.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// Names and values in the order written; no name twice.
    Map(Vec<Entry>),
}

/// One name of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    /// The value.
    pub value: Node,
}

/// A text that is no usable YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

fn error(line: usize, message: impl Into<String>) -> YamlError {
    YamlError {
        line,
        message: message.into(),
    }
}

/// Reads one document; an empty text is [`Body::Null`].
///
/// # Errors
/// Broken syntax, a name twice, a second document, or a limit.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    if text.len() > MOST_BYTES {
        return Err(error(
            1,
            format!("the text is larger than {MOST_BYTES} bytes"),
        ));
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| error(e.marker().line(), e.info()))?;
        builder.handle_event(event, span)?;
    }
    Ok(builder.root.unwrap_or(Node {
        line: 1,
        body: Body::Null,
    }))
}

/// A list or map still open.
struct Open {
    line: usize,
    anchor: usize,
    body: OpenBody,
}

enum OpenBody {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        name: Option<(String, usize)>,
    },
}

/// Builds the tree from events without recursion.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    fn handle_event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(error(line, "a second document begins; only one is read"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let body = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Body::Null,
                    text => Body::Scalar(text.to_owned()),
                };
                self.place(Node { line, body }, anchor, 1)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(error(line, "an alias inside what it stands for"));
                };
                let size = size(&node);
                self.place(Node { line, ..node }, 0, size)
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, OpenBody::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let entries = Vec::new();
                self.open(
                    line,
                    anchor,
                    OpenBody::Map {
                        entries,
                        name: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, body: OpenBody) -> Result<(), YamlError> {
        if self.open.len() >= MOST_DEPTH {
            return Err(error(
                line,
                format!("nested deeper than {MOST_DEPTH} levels"),
            ));
        }
        self.open.push(Open { line, anchor, body });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(Open { line, anchor, body }) = self.open.pop() else {
            return Ok(());
        };
        let body = match body {
            OpenBody::List(items) => Body::List(items),
            OpenBody::Map { entries, .. } => Body::Map(entries),
        };
        self.place(Node { line, body }, anchor, 1)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(size);
        if self.nodes > MOST_NODES {
            return Err(error(node.line, format!("more than {MOST_NODES} values")));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.body {
            OpenBody::List(items) => items.push(node),
            OpenBody::Map { entries, name } => match name.take() {
                Some((name, line)) => entries.push(Entry {
                    name,
                    line,
                    value: node,
                }),
                None => *name = Some(entry_name(node, entries)?),
            },
        }
        Ok(())
    }
}

/// A node that stands where a map's name must: a text that is not among `entries` yet.
fn entry_name(node: Node, entries: &[Entry]) -> Result<(String, usize), YamlError> {
    let Body::Scalar(name) = node.body else {
        return Err(error(node.line, "the name of a map's entry must be a text"));
    };
    if let Some(first) = entries.iter().find(|entry| entry.name == name) {
        let message = format!(
            "`{}` is set twice, first on line {}",
            quoted(&name),
            first.line
        );
        return Err(error(node.line, message));
    }
    Ok((name, node.line))
}

/// Nodes of a tree, itself included.
fn size(node: &Node) -> usize {
    1 + match &node.body {
        Body::Null | Body::Scalar(_) => 0,
        Body::List(items) => items.iter().map(size).sum(),
        Body::Map(entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(text: &str) -> Vec<Entry> {
        match parse(text).expect(text).body {
            Body::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn entries_know_their_lines_and_scalars_stay_as_written() {
        let entries = map("# top\nport: 7880\nkeys:\n  a: 0123\n  b: 'true'\n");
        assert_eq!((entries[0].name.as_str(), entries[0].line), ("port", 2));
        assert_eq!(entries[0].value.body, Body::Scalar("7880".into()));
        let Body::Map(keys) = &entries[1].value.body else {
            panic!("{entries:?}");
        };
        assert_eq!((keys[0].line, keys[1].line), (4, 5));
        assert_eq!(keys[0].value.body, Body::Scalar("0123".into()));
    }

    #[test]
    fn nothing_is_null() {
        for text in ["", "# only a comment\n", "---\n", "~"] {
            assert_eq!(parse(text).expect(text).body, Body::Null, "{text:?}");
        }
        assert_eq!(map("rtc:\n")[0].value.body, Body::Null);
        assert_eq!(map("a: ''\n")[0].value.body, Body::Scalar(String::new()));
    }

    #[test]
    fn an_alias_stands_for_its_anchor_with_its_own_line() {
        let entries = map("a: &x {b: 1}\nc: *x\n");
        assert_eq!(entries[1].value.line, 2);
        assert_eq!(entries[0].value.body, entries[1].value.body);
    }

    #[test]
    fn broken_texts_name_their_line() {
        let line = |text: &str| parse(text).expect_err(text).line;
        assert_eq!(line("port: 1\nport: 2\n"), 2);
        assert_eq!(line("a: 1\n---\nb: 2\n"), 2);
        assert_eq!(line("? [a]\n: 1\n"), 1);
        assert_eq!(line("a: [1, 2\nb: 3\n"), 2);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let item = format!("*a{}", level - 1);
            let items = [item.as_str(); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(parse(&text).expect_err("bomb").message.contains("values"));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = "- ".repeat(10_000);
        assert!(parse(&deep).expect_err("deep").message.contains("nested"));
        assert!(parse(&"[".repeat(10_000)).is_err());
        let large = "a".repeat(MOST_BYTES + 1);
        assert!(parse(&large).expect_err("large").message.contains("bytes"));
        assert!(parse("a: &x [*x]\n").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "[-a-c:{}\\[\\]&*#|>?!%'\" \n,.~0-9]{0,60}") {
            let _ = parse(&text);
        }
    }
}
