//! `tests/ratchet.txt`: what is larger than the house allows. The list may only shrink: an entry
//! that is no longer needed, or allows more than there is, is itself a complaint.

use std::cell::Cell;
use std::fs;
use std::path::Path;

/// One line: `kind subject limit`.
struct Entry {
    kind: String,
    subject: String,
    limit: usize,
    met: Cell<Option<usize>>,
}

/// The list.
#[derive(Default)]
pub(crate) struct Exceptions {
    entries: Vec<Entry>,
}

impl Exceptions {
    pub(crate) fn read(path: &Path) -> Self {
        Self::parse(&fs::read_to_string(path).expect("the exceptions list is there"))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'));
        let entries = lines.map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || {
                words
                    .next()
                    .unwrap_or_else(|| panic!("ratchet.txt: {line}"))
                    .to_owned()
            };
            let (kind, subject, limit) = (word(), word(), word());
            let limit = limit
                .parse()
                .unwrap_or_else(|_| panic!("ratchet.txt: {line}"));
            Entry {
                kind,
                subject,
                limit,
                met: Cell::new(None),
            }
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// Whether a size above its limit is excepted.
    pub(crate) fn allow(&self, kind: &str, subject: &str, size: usize) -> bool {
        let found = self
            .entries
            .iter()
            .find(|e| e.kind == kind && e.subject == subject);
        found.is_some_and(|entry| {
            entry.met.set(Some(entry.met.get().unwrap_or(0).max(size)));
            size <= entry.limit
        })
    }

    /// The entries that allow more than there is.
    pub(crate) fn slack(&self) -> Vec<String> {
        let loose = self
            .entries
            .iter()
            .filter_map(|entry| match entry.met.get() {
                None => Some(format!(
                    "ratchet.txt: remove `{} {}`",
                    entry.kind, entry.subject
                )),
                Some(size) if size < entry.limit => Some(format!(
                    "ratchet.txt: lower `{} {}` to {size}",
                    entry.kind, entry.subject
                )),
                Some(_) => None,
            });
        loose.collect()
    }
}

#[test]
fn an_exception_holds_up_to_its_limit_and_may_not_be_loose() {
    let list = Exceptions::parse(
        "# why\nfile sfu/src/a.rs 650\nfn sfu/src/a.rs::f 80\nfn sfu/src/a.rs::gone 90\n",
    );
    assert!(list.allow("file", "sfu/src/a.rs", 650));
    assert!(!list.allow("file", "sfu/src/b.rs", 601));
    assert!(list.allow("fn", "sfu/src/a.rs::f", 75));
    assert!(!list.allow("fn", "sfu/src/a.rs::f", 81) && list.slack().len() == 1);
    let list = Exceptions::parse("fn sfu/src/a.rs::f 80");
    assert!(
        list.allow("fn", "sfu/src/a.rs::f", 75)
            && list.slack() == ["ratchet.txt: lower `fn sfu/src/a.rs::f` to 75"]
    );
}
