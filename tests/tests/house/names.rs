//! Names: modules and types are nouns of the house; words that say nothing are banned.

use super::source::Tree;
use syn::visit::{self, Visit};

/// Words that name no thing.
const BANNED: [&str; 15] = [
    "util",
    "utils",
    "common",
    "helper",
    "helpers",
    "misc",
    "base",
    "manager",
    "impl",
    "wrapper",
    "types",
    "constants",
    "consts",
    "utility",
    "utilities",
];

/// Names that others gave, with who did.
const GIVEN: [(&str, &str); 1] = [("PayloadTypes", "RFC 3550: payload type")];

/// All names that break the rules.
pub(crate) fn complaints(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for file in &tree.files {
        if file.path.ends_with("/mod.rs") {
            out.push(format!(
                "{}: `foo.rs` beside `foo/`, never `mod.rs`",
                file.path
            ));
        }
        let mut names = Names {
            found: vec![],
            out: &mut out,
            path: &file.path,
            test: file.test || file.krate == "tests",
        };
        if let Some(module) = file.module.last() {
            names.found.push(module.clone());
        }
        names.visit_file(&file.ast);
        for name in std::mem::take(&mut names.found) {
            if GIVEN.iter().any(|(given, _)| *given == name) {
                continue;
            }
            if let Some(word) = words(&name)
                .iter()
                .find(|word| BANNED.contains(&word.as_str()))
            {
                out.push(format!("{}: `{name}`: `{word}` says nothing", file.path));
            }
        }
    }
    out.sort();
    out.dedup();
    out
}

/// The words of a `snake_case` or `CamelCase` name, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            out.push(String::new());
        }
        if c != '_' {
            out.last_mut()
                .expect("never empty")
                .extend(c.to_lowercase());
        }
    }
    out
}

struct Names<'a> {
    found: Vec<String>,
    out: &'a mut Vec<String>,
    path: &'a str,
    test: bool,
}

impl Names<'_> {
    fn query(&mut self, name: &syn::Ident) {
        // In tests of HTTP, to get is a method.
        if !self.test && name.to_string().starts_with("get_") {
            self.out
                .push(format!("{}: `{name}`: a query is a bare noun", self.path));
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.found.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.found.push(item.ident.to_string());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.found.push(item.ident.to_string());
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.found.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.found.push(item.ident.to_string());
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.query(&item.sig.ident);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // A foreign trait's method has the name it has.
        if item.trait_.is_none() {
            for part in &item.items {
                if let syn::ImplItem::Fn(function) = part {
                    self.query(&function.sig.ident);
                }
            }
        }
        visit::visit_item_impl(self, item);
    }
}

#[cfg(test)]
fn judged(path: &str, code: &str) -> usize {
    complaints(&Tree::of(&[(path, code)])).len()
}

#[test]
fn empty_words_are_found_in_modules_and_types() {
    assert_eq!(judged("sfu/src/media/utils.rs", ""), 1);
    assert_eq!(judged("sfu/src/rtp/mod.rs", ""), 1);
    assert_eq!(judged("sfu/src/a.rs", "struct RoomManager;"), 1);
    assert_eq!(judged("sfu/src/a.rs", "mod test_helpers {}"), 1);
    assert_eq!(judged("sfu/src/a.rs", "type BaseTime = u32;"), 1);
    assert_eq!(
        judged("sfu/src/a.rs", "struct S; impl S { fn get_sid(&self) {} }"),
        1
    );
}

#[test]
fn words_that_only_contain_one_are_fine() {
    assert_eq!(
        judged(
            "sfu/src/rtp/header.rs",
            "struct Database; struct Base64Text; fn target() {}"
        ),
        0
    );
    assert_eq!(
        judged("sfu/src/a.rs", "impl Iterator for S { fn get_x(&self) {} }"),
        0
    );
}
