//! Every path a file names, as written and with its imports resolved.
//!
//! Tests inside the file are left out. Doc comments are text and not seen.

use super::source::{SourceFile, is_cfg_test};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Item, UseTree};

/// A named path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its parts, imports resolved: `Instant::now` after `use std::time::Instant` is
    /// `std::time::Instant::now`. A glob ends in `*`.
    pub(crate) parts: Vec<String>,
    /// Where.
    pub(crate) line: usize,
}

impl Named {
    pub(crate) fn text(&self) -> String {
        self.parts.join("::")
    }
}

/// All paths of a file's product code.
pub(crate) fn named(file: &SourceFile) -> Vec<Named> {
    let mut imports = Collector {
        inline: vec![],
        aliases: BTreeMap::new(),
        found: vec![],
        base: &file.module,
    };
    // First round: the imports. Second: everything, with the aliases known.
    imports.visit_file(&file.ast);
    let aliases = std::mem::take(&mut imports.aliases);
    let mut all = Collector {
        inline: vec![],
        aliases,
        found: vec![],
        base: &file.module,
    };
    all.visit_file(&file.ast);
    all.found
}

struct Collector<'a> {
    /// Inline modules around the present place.
    inline: Vec<String>,
    aliases: BTreeMap<String, Vec<String>>,
    found: Vec<Named>,
    base: &'a [String],
}

impl Collector<'_> {
    /// Turns `crate`, `self` and `super` into `crate::…`, and an imported first part into its path.
    fn resolve(&self, parts: Vec<String>) -> Vec<String> {
        let mut here: Vec<String> = self.base.iter().chain(&self.inline).cloned().collect();
        let mut rest = parts.as_slice();
        match rest.first().map(String::as_str) {
            Some("self" | "super") => {
                while let Some(first) = rest.first() {
                    match first.as_str() {
                        "self" => {}
                        "super" => drop(here.pop()),
                        _ => break,
                    }
                    rest = &rest[1..];
                }
                [vec!["crate".to_owned()], here, rest.to_vec()].concat()
            }
            Some(first) => match self.aliases.get(first) {
                Some(full) if full != &parts[..1] => [full.clone(), parts[1..].to_vec()].concat(),
                _ => parts,
            },
            None => parts,
        }
    }

    fn push(&mut self, parts: Vec<String>, line: usize) {
        let parts = self.resolve(parts);
        self.found.push(Named { parts, line });
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |ident: &syn::Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => {
                for item in &group.items {
                    self.import(item, prefix);
                }
            }
            UseTree::Glob(glob) => {
                self.push(
                    [prefix, &["*".to_owned()]].concat(),
                    glob.span().start().line,
                );
            }
            UseTree::Name(name) if name.ident == "self" => {
                let last = prefix.last().cloned().unwrap_or_default();
                self.bind(last, prefix.to_vec(), name.span().start().line);
            }
            UseTree::Name(name) => {
                self.bind(
                    name.ident.to_string(),
                    with(&name.ident),
                    name.span().start().line,
                );
            }
            UseTree::Rename(name) => {
                let full = if name.ident == "self" {
                    prefix.to_vec()
                } else {
                    with(&name.ident)
                };
                self.bind(name.rename.to_string(), full, name.span().start().line);
            }
        }
    }

    fn bind(&mut self, name: String, full: Vec<String>, line: usize) {
        let full = self.resolve(full);
        self.found.push(Named {
            parts: full.clone(),
            line,
        });
        if full.len() > 1 || full[0] != name {
            self.aliases.insert(name, full);
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !attributes.iter().any(is_cfg_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.inline.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inline.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path
            .segments
            .iter()
            .map(|part| part.ident.to_string())
            .collect::<Vec<_>>();
        // A word alone, not imported, is a variable: no crate or module is used by its bare name.
        if parts.len() > 1 || self.aliases.contains_key(&parts[0]) {
            self.push(parts, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    /// A macro's body is tokens: read the paths out of them.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        visit::visit_macro(self, mac);
        let mut words = Vec::new();
        flatten(mac.tokens.clone(), &mut words);
        let mut at = 0;
        while at < words.len() {
            let (first, line) = words[at].clone();
            let mut parts = vec![first];
            while at + 3 < words.len() && words[at + 1].0 == ":" && words[at + 2].0 == ":" {
                parts.push(words[at + 3].0.clone());
                at += 3;
            }
            if parts.len() > 1 {
                self.push(parts, line);
            }
            at += 1;
        }
    }
}

/// The identifiers and marks of a token stream with their lines; literals become a mark.
fn flatten(tokens: TokenStream, out: &mut Vec<(String, usize)>) {
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => {
                out.push(("(".to_owned(), line));
                flatten(group.stream(), out);
                out.push((")".to_owned(), line));
            }
            TokenTree::Ident(ident) => out.push((ident.to_string(), line)),
            TokenTree::Punct(mark) => out.push((mark.to_string(), line)),
            TokenTree::Literal(_) => out.push(("0".to_owned(), line)),
        }
    }
}

#[cfg(test)]
fn texts(code: &str) -> Vec<String> {
    let file = SourceFile::parse("sfu/src/media/peer.rs", code);
    named(&file).iter().map(Named::text).collect()
}

#[test]
fn imports_groups_renames_and_globs_are_read() {
    let found = texts("use std::{fs::{self, File as F}, io::*}; use super::demux::whose;");
    for path in [
        "std::fs",
        "std::fs::File",
        "std::io::*",
        "crate::media::demux::whose",
    ] {
        assert!(found.contains(&path.to_owned()), "{path} not in {found:?}");
    }
}

#[test]
fn a_path_in_code_is_resolved_through_the_imports() {
    let found = texts("use std::time; fn f() { let _ = time::Instant::now(); }");
    assert!(
        found.contains(&"std::time::Instant::now".to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_variable_named_like_a_crate_is_not_read() {
    let found = texts("fn f(mio: u8) { g(mio); }");
    assert!(!found.contains(&"mio".to_owned()), "{found:?}");
    assert!(texts("use mio as m; fn f() { g(m); }").contains(&"mio".to_owned()));
}

#[test]
fn a_path_inside_a_macro_is_read() {
    let found = texts("fn f() { assert!(crate::rooms::open(super::pacer::X) == 1); }");
    assert!(
        found.contains(&"crate::rooms::open".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"crate::media::pacer::X".to_owned()),
        "{found:?}"
    );
}

#[test]
fn tests_visibilities_and_doc_links_are_not_read() {
    let found = texts(
        "//! [`crate::rooms`]\n/// [`crate::auth::X`]\npub(crate) fn f() {}\n\
         #[cfg(test)] mod tests { use crate::server::x; }\n#[test] fn t() { crate::server::y(); }",
    );
    assert_eq!(found, Vec::<String>::new());
}
