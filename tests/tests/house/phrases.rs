//! Phrases: every file opens with its purpose; an exception to a lint gives its reason; nothing is
//! left undone, skipped, or waited for by sleeping.

use super::paths::named;
use super::source::{SourceFile, Tree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// All forbidden phrases.
pub(crate) fn complaints(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for file in &tree.files {
        // A module's `tests.rs` is explained by its module.
        if !file.text.starts_with("//! ") && !file.path.ends_with("/tests.rs") {
            out.push(format!(
                "{}: opens without `//!` (what it owns, never does, who calls it)",
                file.path
            ));
        }
        let mut reader = Reader {
            file,
            out: &mut out,
        };
        reader.visit_file(&file.ast);
        if sleeps(file) {
            out.push(format!("{}: sleeps; wait for what you wait for", file.path));
        }
    }
    out
}

/// Whether a file blocks a thread by sleeping, or a test waits by sleeping. A timer in the shell
/// is neither.
fn sleeps(file: &SourceFile) -> bool {
    // A benchmark measures over spans of wall time.
    if file.path.contains("/benches/") {
        return false;
    }
    let count = |file: &SourceFile, ends: &[&str]| {
        let texts = named(file).into_iter().map(|path| path.text());
        texts
            .filter(|text| ends.iter().any(|end| text.ends_with(end)))
            .count()
    };
    // `named` leaves tests out: make them ordinary code to see them.
    let mut whole = file.text.clone();
    for mark in ["#[cfg(test)]", "#[test]", "#[tokio::test]"] {
        whole = whole.replace(mark, "");
    }
    let bare = SourceFile::parse(&file.path, &whole);
    let timers = ["time::sleep", "time::sleep_until"];
    let product = if file.test || file.krate == "tests" {
        0
    } else {
        count(file, &timers)
    };
    count(&bare, &["thread::sleep"]) > 0 || count(&bare, &timers) > product
}

struct Reader<'a> {
    file: &'a SourceFile,
    out: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn complain(&mut self, line: usize, what: &str) {
        self.out.push(format!("{}:{line}: {what}", self.file.path));
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let line = attribute.span().start().line;
        if attribute.path().is_ident("ignore") {
            self.complain(line, "an ignored test tests nothing");
        }
        if attribute.path().is_ident("allow") || attribute.path().is_ident("expect") {
            let reasoned = match &attribute.meta {
                syn::Meta::List(list) => list.tokens.to_string().contains("reason ="),
                _ => false,
            };
            if !reasoned {
                self.complain(line, "a lint is silenced without `reason`");
            }
        }
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let line = mac.span().start().line;
        for name in ["todo", "unimplemented", "dbg"] {
            if mac.path.is_ident(name) {
                self.complain(line, &format!("`{name}!` is left over"));
            }
        }
        visit::visit_macro(self, mac);
    }
}

#[cfg(test)]
fn judged(code: &str) -> usize {
    complaints(&Tree::of(&[(
        "sfu/src/a.rs",
        &format!("//! A file.\n{code}"),
    )]))
    .len()
}

#[test]
fn a_file_without_its_purpose_is_found() {
    assert_eq!(
        complaints(&Tree::of(&[("sfu/src/a.rs", "fn f() {}")])).len(),
        1
    );
    assert_eq!(judged("fn f() {}"), 0);
}

#[test]
fn leftovers_are_found() {
    for code in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!() }",
        "fn f() { dbg!(1); }",
        "#[test] #[ignore] fn f() {}",
        "#[test] #[ignore = \"slow\"] fn f() {}",
        "#[allow(dead_code)] fn f() {}",
        "#[expect(dead_code)] fn f() {}",
    ] {
        assert_eq!(judged(code), 1, "{code}");
    }
    assert_eq!(
        judged("#[allow(dead_code, reason = \"read by tests\")] fn f() {}"),
        0
    );
}

#[test]
fn sleeping_is_found_even_in_tests() {
    assert_eq!(judged("use std::thread; fn f() { thread::sleep(D); }"), 1);
    assert_eq!(
        judged("#[cfg(test)] mod tests { use tokio::time::sleep; #[test] fn t() { sleep(D); } }"),
        1
    );
    assert_eq!(
        judged("fn f() { tokio::time::timeout(D, x); tokio::time::sleep(D); }"),
        0
    );
}
