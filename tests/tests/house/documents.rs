//! Documents that must agree with the code: metrics with docs/operations.md, invariants with tests.

use super::source::Tree;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use syn::visit::{self, Visit};

/// Metric names in the code that docs/operations.md does not know.
pub(crate) fn metrics(tree: &Tree, root: &Path) -> Vec<String> {
    let document = fs::read_to_string(root.join("docs/operations.md")).unwrap_or_default();
    undocumented(tree, &document)
}

fn undocumented(tree: &Tree, document: &str) -> Vec<String> {
    let mut literals = Literals::default();
    for file in tree
        .product()
        .filter(|file| file.module.first().is_some_and(|m| m == "metrics"))
    {
        literals.visit_file(&file.ast);
    }
    if literals.0.is_empty() {
        return vec!["sfu/src/metrics.rs names no metric".into()];
    }
    // Whole words: `livekit_packet` is not documented by `livekit_packet_total`.
    let known: BTreeSet<&str> = document
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    let missing = literals
        .0
        .iter()
        .filter(|name| !known.contains(name.as_str()));
    missing
        .map(|name| format!("docs/operations.md does not explain `{name}`"))
        .collect()
}

#[derive(Default)]
struct Literals(BTreeSet<String>);

impl Literals {
    fn add(&mut self, text: &str) {
        let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if (text.starts_with("livekit_") || text.starts_with("foci_")) && text.chars().all(name) {
            self.0.insert(text.to_owned());
        }
    }
}

impl<'ast> Visit<'ast> for Literals {
    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.add(&literal.value());
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        mac.tokens
            .to_string()
            .split('"')
            .for_each(|piece| self.add(piece));
        visit::visit_macro(self, mac);
    }
}

/// Invariants of ARCHITECTURE.md that name no test, or one that is not there.
pub(crate) fn invariants(tree: &Tree, root: &Path) -> Vec<String> {
    match fs::read_to_string(root.join("ARCHITECTURE.md")) {
        Ok(text) => unheld(tree, &text),
        Err(_) => vec!["ARCHITECTURE.md is missing".into()],
    }
}

/// The section is headed by a line with `Invariants`; each numbered point (`1. …`, or a table row
/// `| 1 | …`) gives its tests in backticks as `path::test_name`.
fn unheld(tree: &Tree, text: &str) -> Vec<String> {
    let tests = tests(tree);
    let mut points: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('#') {
            inside = line.to_lowercase().contains("invariant");
        } else if inside {
            let digits = line.trim_start_matches(['|', ' ']);
            let number = digits.chars().take_while(char::is_ascii_digit).count();
            if number > 0 && digits[number..].trim_start().starts_with(['.', '|']) {
                points.push(line.to_owned());
            } else if let Some(point) = points.last_mut() {
                point.push(' ');
                point.push_str(line.trim());
            }
        }
    }
    if points.is_empty() {
        return vec!["ARCHITECTURE.md lists no invariant".into()];
    }
    points
        .iter()
        .filter_map(|point| judge(point, &tests))
        .collect()
}

fn judge(point: &str, tests: &[Vec<String>]) -> Option<String> {
    let short: String = point.chars().take(60).collect();
    let references: Vec<&str> = point
        .split('`')
        .skip(1)
        .step_by(2)
        // A test's name is a sentence; `media::message` is a module.
        .filter(|text| {
            text.rsplit_once("::")
                .is_some_and(|(_, name)| name.matches('_').count() > 1)
        })
        .collect();
    if references.is_empty() {
        return Some(format!("no test holds: {short}"));
    }
    let gone = references
        .iter()
        .find(|reference| !exists(reference, tests));
    gone.map(|reference| format!("`{reference}` is not a test: {short}"))
}

/// Whether the parts of a reference appear in order in some test's path, its name last.
fn exists(reference: &str, tests: &[Vec<String>]) -> bool {
    let parts: Vec<&str> = reference
        .split([':', '/'])
        .filter(|part| !part.is_empty())
        .collect();
    tests.iter().any(|test| {
        let mut rest = test.iter();
        test.last().map(String::as_str) == parts.last().copied()
            && parts
                .iter()
                .all(|part| rest.any(|have| have == part.trim_end_matches(".rs")))
    })
}

/// The path of every test function: folders, modules, name.
fn tests(tree: &Tree) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    for file in &tree.files {
        let path = file
            .path
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        let mut finder = Tests {
            path,
            out: &mut out,
        };
        finder.visit_file(&file.ast);
    }
    out
}

struct Tests<'a> {
    path: Vec<String>,
    out: &'a mut Vec<Vec<String>>,
}

impl Tests<'_> {
    fn add(&mut self, name: &str) {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        self.out.push(path);
    }
}

impl<'ast> Visit<'ast> for Tests<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.path.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.path.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let is_test =
            |a: &syn::Attribute| a.path().segments.last().is_some_and(|s| s.ident == "test");
        if item.attrs.iter().any(is_test) {
            self.add(&item.sig.ident.to_string());
        }
    }

    /// `proptest! { #[test] fn name(…) }`.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        if mac
            .path
            .segments
            .last()
            .is_some_and(|part| part.ident == "proptest")
        {
            let text = mac.tokens.to_string();
            for piece in text.split("fn ").skip(1) {
                let name = piece
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .next();
                self.add(name.unwrap_or_default());
            }
        }
    }
}

#[test]
fn an_undocumented_metric_is_found() {
    let code =
        "fn f() { gauge(\"livekit_room_total\"); counter!(\"foci_drops_total\"); other(\"x\"); }";
    let tree = Tree::of(&[("sfu/src/metrics.rs", code)]);
    assert_eq!(
        undocumented(&tree, "`livekit_room_total` and foci_drops_total"),
        Vec::<String>::new()
    );
    assert_eq!(undocumented(&tree, "`livekit_room_total_x`").len(), 2);
    assert_eq!(
        undocumented(&Tree::of(&[("sfu/src/metrics.rs", "")]), "").len(),
        1
    );
}

#[test]
fn an_invariant_without_its_test_is_found() {
    let tree = Tree::of(&[(
        "sfu/src/rtp/header.rs",
        "#[cfg(test)] mod tests { #[test] fn any_bytes_parse() {} proptest! { #[test] fn never_a_panic(x in y) {} } }",
    )]);
    let page = |point: &str| {
        unheld(
            &tree,
            &format!("# A\n1. no\n## Invariants\n1. {point}\n# B\n2. no"),
        )
    };
    assert_eq!(
        page("Holds: `rtp::header::any_bytes_parse`,\n   `sfu/src/rtp/header.rs::never_a_panic`"),
        Vec::<String>::new()
    );
    assert_eq!(page("Holds, says nobody of `media::message`").len(), 1);
    assert_eq!(page("Holds: `rtp::header::some_bytes_parse`").len(), 1);
    assert_eq!(page("Holds: `rtp::twcc::any_bytes_parse`").len(), 1);
    assert_eq!(unheld(&tree, "# Invariants\nnone").len(), 1);
    assert_eq!(
        unheld(&tree, "# Invariants\n| 1 | x | `header::any_bytes_parse` |"),
        Vec::<String>::new()
    );
}
