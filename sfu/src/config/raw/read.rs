//! Texts against the table: typed values with their places, and complaints about the rest.
//!
//! Sources are read weakest first; a later one replaces a value, list or map as a whole.

use crate::config::complaint::{Complaints, Place, quoted};
use crate::config::ports::PortRange;
use crate::config::raw::key::{Key, Kind, Status};
use crate::config::raw::nearest::nearest;
use crate::config::raw::table;
use crate::config::raw::value::{self, Record, Syntax, Value};
use crate::config::raw::yaml::{self, Body, Entry, Node};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// What to write instead of keys that people believe to exist. (LK: server ops §14)
const MISTAKEN: [(&str, &str); 9] = [
    (
        "video_codecs",
        "write room.enabled_codecs: [{mime: video/VP8}, …]",
    ),
    (
        "video.codecs",
        "write room.enabled_codecs: [{mime: video/VP8}, …]",
    ),
    (
        "room.codecs",
        "write room.enabled_codecs: [{mime: video/VP8}, …]",
    ),
    (
        "rtc.codecs",
        "write room.enabled_codecs: [{mime: video/VP8}, …]",
    ),
    (
        "dynacast",
        "remove it: dynacast is always on, see video.dynacast_pause_delay",
    ),
    (
        "video.dynacast",
        "remove it: dynacast is always on, see video.dynacast_pause_delay",
    ),
    (
        "turn.port",
        "did you mean `turn.udp_port` or `turn.tls_port`?",
    ),
    ("redis.host", "did you mean `redis.address` (host:port)?"),
    ("log.level", "did you mean `logging.level`?"),
];

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Its source.
    pub place: Place,
}

/// Every value that was set, by path.
#[derive(Debug, Clone, Default)]
pub struct Values {
    settings: BTreeMap<&'static str, Setting>,
}

impl Values {
    /// Reads a YAML text named `name`. Unknown keys are errors if `strict`, otherwise warnings.
    pub fn read_yaml(&mut self, text: &str, name: &str, strict: bool, complaints: &mut Complaints) {
        let root = match yaml::parse(text) {
            Ok(root) => root,
            Err(error) => {
                let place = line(name, error.line);
                complaints.error("", place, format!("no usable YAML: {error}"), "");
                return;
            }
        };
        let mut reader = Reader {
            values: self,
            complaints,
            name,
            strict,
        };
        match &root.body {
            Body::Null => {}
            Body::Map(entries) => reader.section("", entries),
            Body::Scalar(_) | Body::List(_) => {
                let fix = "write `key: value` lines";
                reader
                    .complaints
                    .error("", line(name, root.line), "not a map of keys", fix);
            }
        }
    }

    /// Sets a value of the right type.
    pub fn set(&mut self, path: &'static str, value: Value, place: Place) {
        self.settings.insert(path, Setting { value, place });
    }

    /// Takes over how another has `path`, set or not.
    pub fn copy(&mut self, path: &'static str, other: &Self) {
        match other.settings.get(path) {
            Some(setting) => self.settings.insert(path, setting.clone()),
            None => self.settings.remove(path),
        };
    }

    /// Gives older names' values to the keys they stand for, unless those are set themselves.
    pub fn resolve_aliases(&mut self, complaints: &mut Complaints) {
        for key in table::all() {
            let Status::AliasOf(target) = key.status else {
                continue;
            };
            let Some(setting) = self.settings.remove(key.path) else {
                continue;
            };
            let place = setting.place.clone();
            if self.settings.contains_key(target) {
                let cause = format!("ignored, since {target} is set too");
                complaints.warning(key.path, place, cause, "remove it");
            } else {
                let fix = format!("write {target}");
                complaints.warning(key.path, place, "deprecated name", fix);
                self.settings.insert(target, setting);
            }
        }
    }

    /// What was set, in the order of paths.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.settings.iter().map(|(path, setting)| (*path, setting))
    }

    /// Has any source set `path`?
    #[must_use]
    pub fn is_set(&self, path: &str) -> bool {
        self.settings.contains_key(path)
    }

    /// Nothing was set at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Where `path` was set.
    #[must_use]
    pub fn place(&self, path: &str) -> Place {
        self.settings
            .get(path)
            .map_or(Place::Default, |setting| setting.place.clone())
    }

    /// The value of `path`, set or default; `None` if it is unset and has no default.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<Value> {
        if let Some(setting) = self.settings.get(path) {
            return Some(setting.value.clone());
        }
        let key = table::find(path);
        debug_assert!(key.is_some(), "{path} is not in the table");
        default(key?)
    }

    /// A [`Kind::Bool`].
    #[must_use]
    pub fn flag(&self, path: &str) -> bool {
        matches!(self.value(path), Some(Value::Bool(true)))
    }

    /// A [`Kind::Uint`]; 0 if unset.
    #[must_use]
    pub fn uint(&self, path: &str) -> u64 {
        match self.value(path) {
            Some(Value::Uint(n)) => n,
            _ => 0,
        }
    }

    /// A [`Kind::Uint`] whose table entry allows no more than 32 bits.
    #[must_use]
    pub fn count(&self, path: &str) -> u32 {
        u32::try_from(self.uint(path)).unwrap_or(u32::MAX)
    }

    /// A [`Kind::Uint`] that is a port; 0 if unset.
    #[must_use]
    pub fn port(&self, path: &str) -> u16 {
        u16::try_from(self.uint(path)).unwrap_or(0)
    }

    /// A [`Kind::Ports`].
    #[must_use]
    pub fn ports(&self, path: &str) -> Option<PortRange> {
        match self.value(path) {
            Some(Value::Ports(range)) => Some(range),
            _ => None,
        }
    }

    /// A [`Kind::Text`] or [`Kind::Secret`]; empty if unset.
    #[must_use]
    pub fn text(&self, path: &str) -> String {
        match self.value(path) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    /// A [`Kind::Duration`]; zero if unset.
    #[must_use]
    pub fn duration(&self, path: &str) -> Duration {
        match self.value(path) {
            Some(Value::Duration(span)) => span,
            _ => Duration::ZERO,
        }
    }

    /// A [`Kind::Addresses`].
    #[must_use]
    pub fn addresses(&self, path: &str) -> Vec<IpAddr> {
        match self.value(path) {
            Some(Value::Addresses(list)) => list,
            _ => Vec::new(),
        }
    }

    /// A [`Kind::Texts`].
    #[must_use]
    pub fn texts(&self, path: &str) -> Vec<String> {
        match self.value(path) {
            Some(Value::Texts(list)) => list,
            _ => Vec::new(),
        }
    }

    /// A [`Kind::TextMap`] or [`Kind::SecretMap`], in the order written.
    #[must_use]
    pub fn map(&self, path: &str) -> Vec<(String, String)> {
        match self.value(path) {
            Some(Value::Map(list)) => list,
            _ => Vec::new(),
        }
    }

    /// A [`Kind::Records`]; `None` if unset.
    #[must_use]
    pub fn records(&self, path: &str) -> Option<Vec<Record>> {
        match self.value(path) {
            Some(Value::Records(list)) => Some(list),
            _ => None,
        }
    }
}

/// The table's default, typed. Lists are separated by commas there; records have none.
fn default(key: &Key) -> Option<Value> {
    if key.default.is_empty() {
        return None;
    }
    let syntax = if key.kind == Kind::Texts {
        Syntax::CommandLine
    } else {
        Syntax::Yaml
    };
    value::parse(key.kind, key.default, syntax).ok()
}

fn line(name: &str, line: usize) -> Place {
    Place::Line {
        text: name.to_owned(),
        line,
    }
}

/// Sets `key` from the text of a flag or variable. Maps are read as YAML, lists by commas.
pub fn set_text(
    values: &mut Values,
    key: &'static Key,
    text: &str,
    place: Place,
    complaints: &mut Complaints,
) {
    if matches!(key.kind, Kind::TextMap | Kind::SecretMap) {
        return set_map(values, key, text, place, complaints);
    }
    match value::parse(key.kind, text, Syntax::CommandLine) {
        Ok(value) => values.set(key.path, value, place),
        Err(expected) => {
            let cause = wrong(key.kind, &expected, text);
            complaints.error(key.path, place, cause, "");
        }
    }
}

/// `key: secret` lines. (LK: server ops §7.4)
fn set_map(
    values: &mut Values,
    key: &'static Key,
    text: &str,
    place: Place,
    complaints: &mut Complaints,
) {
    let Ok(Body::Map(entries)) = yaml::parse(text).map(|node| node.body) else {
        let fix = "write exactly `key: secret`, including the space; one pair a line";
        return complaints.error(key.path, place, "not a map", fix);
    };
    match texts_of(&entries) {
        Ok(list) => values.set(key.path, Value::Map(list), place),
        Err(entry) => {
            let cause = format!("the value of `{}` is not a text", quoted(&entry.name));
            complaints.error(key.path, place, cause, "");
        }
    }
}

/// Names and texts, or the first entry whose value is no text.
fn texts_of(entries: &[Entry]) -> Result<Vec<(String, String)>, &Entry> {
    entries
        .iter()
        .map(|entry| match &entry.value.body {
            Body::Scalar(text) => Ok((entry.name.clone(), text.clone())),
            _ => Err(entry),
        })
        .collect()
}

/// The wording of a wrong value; a secret is not repeated.
fn wrong(kind: Kind, expected: &str, found: &str) -> String {
    if matches!(kind, Kind::Secret | Kind::SecretMap | Kind::Records) {
        format!("expected {expected}")
    } else {
        format!("expected {expected}, found `{}`", quoted(found))
    }
}

/// Walks one YAML text.
struct Reader<'a> {
    values: &'a mut Values,
    complaints: &'a mut Complaints,
    name: &'a str,
    strict: bool,
}

impl Reader<'_> {
    fn section(&mut self, prefix: &str, entries: &[Entry]) {
        for entry in entries {
            let path = if prefix.is_empty() {
                entry.name.clone()
            } else {
                format!("{prefix}.{}", entry.name)
            };
            if let Some(key) = table::find(&path) {
                self.key(key, &entry.value);
            } else if table::is_section(&path) {
                match &entry.value.body {
                    Body::Map(entries) => self.section(&path, entries),
                    Body::Null => {}
                    Body::Scalar(_) | Body::List(_) => {
                        let fix = "write its keys below it, indented";
                        let place = line(self.name, entry.line);
                        self.complaints
                            .error(&path, place, "a section, not a value", fix);
                    }
                }
            } else {
                self.unknown(&path, entry.line);
            }
        }
    }

    fn unknown(&mut self, path: &str, at: usize) {
        let mut fix = String::from("docs/config.md lists all keys");
        if !self.complaints.is_full() {
            let mistaken = MISTAKEN.iter().find(|(known, _)| *known == path);
            if let Some((_, advice)) = mistaken {
                fix = (*advice).to_owned();
            } else if let Some(near) = nearest(path, table::proposals()) {
                fix = format!("did you mean `{near}`?");
            }
        }
        let place = line(self.name, at);
        if self.strict {
            self.complaints.error(path, place, "unknown key", fix);
        } else {
            self.complaints
                .warning(path, place, "unknown key, ignored", fix);
        }
    }

    fn key(&mut self, key: &'static Key, node: &Node) {
        if node.body == Body::Null {
            return;
        }
        match self.read(key, node) {
            Ok(value) => self.values.set(key.path, value, line(self.name, node.line)),
            Err(Some((at, cause))) => {
                self.complaints
                    .error(key.path, line(self.name, at), cause, "");
            }
            Err(None) => {}
        }
    }

    /// The value, or the line and text of a complaint not yet made.
    fn read(&mut self, key: &'static Key, node: &Node) -> Result<Value, Option<(usize, String)>> {
        let wrong_shape = |found: &str| {
            let cause = format!("expected {}, found {found}", key.kind.words());
            Err(Some((node.line, cause)))
        };
        match (key.kind, &node.body) {
            (Kind::Opaque, _) => Ok(Value::Opaque),
            (Kind::Texts, Body::List(items)) => {
                texts(items).map_err(|at| Some((at, "expected a list of texts".to_owned())))
            }
            (Kind::TextMap | Kind::SecretMap, Body::Map(entries)) => {
                texts_of(entries).map(Value::Map).map_err(|entry| {
                    let name = quoted(&entry.name);
                    Some((entry.line, format!("the value of `{name}` is not a text")))
                })
            }
            (Kind::Records, Body::List(items)) => self.records(key, items),
            (Kind::Texts | Kind::TextMap | Kind::SecretMap | Kind::Records, Body::Scalar(_))
            | (_, Body::Null) => wrong_shape("a single value"),
            (kind, Body::Scalar(text)) => value::parse(kind, text, Syntax::Yaml)
                .map_err(|expected| Some((node.line, wrong(kind, &expected, text)))),
            (_, Body::List(_)) => wrong_shape("a list"),
            (_, Body::Map(_)) => wrong_shape("a map"),
        }
    }

    /// All records, complaining about each wrong field on its own line.
    fn records(
        &mut self,
        key: &'static Key,
        items: &[Node],
    ) -> Result<Value, Option<(usize, String)>> {
        let mut records = Vec::new();
        for item in items {
            let Body::Map(entries) = &item.body else {
                let cause = "expected a list of records such as `- mime: video/VP8`".to_owned();
                return Err(Some((item.line, cause)));
            };
            let mut record = Record::new();
            for entry in entries {
                let path = format!("{}[].{}", key.path, entry.name);
                let Some(field) = table::find(&path) else {
                    self.unknown(&path, entry.line);
                    continue;
                };
                if entry.value.body != Body::Null {
                    record.insert(field_name(field.path), self.read(field, &entry.value)?);
                }
            }
            records.push(record);
        }
        Ok(Value::Records(records))
    }
}

fn field_name(path: &'static str) -> &'static str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A list's texts, or the line of the first item that is none.
fn texts(items: &[Node]) -> Result<Value, usize> {
    items
        .iter()
        .map(|item| match &item.body {
            Body::Scalar(text) => Ok(text.clone()),
            _ => Err(item.line),
        })
        .collect::<Result<_, _>>()
        .map(Value::Texts)
}

#[cfg(test)]
mod tests;
