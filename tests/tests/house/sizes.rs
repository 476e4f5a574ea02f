//! Sizes: files, functions, structs, arguments. The session noun swells in every project of this
//! kind; these are the walls it meets.

use super::exceptions::Exceptions;
use super::source::{SourceFile, Tree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FILE_LINES: usize = 600;
const MAIN_LINES: usize = 100;
const FUNCTION_LINES: usize = 70;
const STRUCT_FIELDS: usize = 20;
const ARGUMENTS: usize = 5;
/// No exception goes further.
const ARGUMENTS_HARD: usize = 6;
/// The table of configuration keys is as wide as the configuration.
const WIDE: &str = "sfu/src/config/raw";

/// All that is too large, and all exceptions that are too generous.
pub(crate) fn complaints(tree: &Tree, exceptions: &Exceptions) -> Vec<String> {
    let mut out = Vec::new();
    for file in &tree.files {
        let limit = if file.path.ends_with("/main.rs") {
            MAIN_LINES
        } else {
            FILE_LINES
        };
        let mut ruler = Ruler {
            file,
            exceptions,
            within: None,
            out: &mut out,
        };
        ruler.measure("file", &file.path, file.text.lines().count(), limit);
        ruler.visit_file(&file.ast);
    }
    out.extend(exceptions.slack());
    out
}

struct Ruler<'a> {
    file: &'a SourceFile,
    exceptions: &'a Exceptions,
    /// The type whose methods these are.
    within: Option<String>,
    out: &'a mut Vec<String>,
}

impl Ruler<'_> {
    fn measure(&mut self, kind: &str, subject: &str, size: usize, limit: usize) {
        if size > limit && !self.exceptions.allow(kind, subject, size) {
            self.out
                .push(format!("{kind} {subject} {size} (limit {limit})"));
        }
    }

    fn subject(&self, name: &syn::Ident) -> String {
        match &self.within {
            Some(within) => format!("{}::{within}::{name}", self.file.path),
            None => format!("{}::{name}", self.file.path),
        }
    }

    fn function(&mut self, signature: &syn::Signature, body: Option<&syn::Block>) {
        let subject = self.subject(&signature.ident);
        let arguments = signature
            .inputs
            .iter()
            .filter(|i| matches!(i, syn::FnArg::Typed(_)))
            .count();
        if arguments > ARGUMENTS_HARD {
            self.out.push(format!(
                "args {subject} {arguments} (never more than {ARGUMENTS_HARD})"
            ));
        } else {
            self.measure("args", &subject, arguments, ARGUMENTS);
        }
        if let Some(body) = body {
            let first = signature.fn_token.span.start().line;
            let last = body.brace_token.span.close().end().line;
            self.measure("fn", &subject, last - first + 1, FUNCTION_LINES);
        }
    }
}

impl<'ast> Visit<'ast> for Ruler<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, Some(&item.block));
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|part| part.ident.to_string()),
            _ => None,
        };
        let outer = std::mem::replace(&mut self.within, name);
        visit::visit_item_impl(self, item);
        self.within = outer;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, Some(&item.block));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let path = &self.file.path;
        if !path.starts_with(WIDE) {
            let subject = format!("{path}::{}", item.ident);
            self.measure("fields", &subject, item.fields.len(), STRUCT_FIELDS);
        }
        debug_assert!(item.span().start().line > 0, "spans carry lines");
    }
}

#[cfg(test)]
fn judged(path: &str, code: &str) -> Vec<String> {
    complaints(&Tree::of(&[(path, code)]), &Exceptions::default())
}

#[test]
fn a_long_function_is_found_where_it_stands() {
    let body = "    let _ = 1;\n".repeat(69);
    let code = format!("struct S;\nimpl S {{\n/// Doc.\nfn f(&self) {{\n{body}}}\n}}\n");
    assert_eq!(
        judged("sfu/src/a.rs", &code),
        ["fn sfu/src/a.rs::S::f 71 (limit 70)"]
    );
    let shorter = code.replacen("    let _ = 1;\n", "", 1);
    assert_eq!(judged("sfu/src/a.rs", &shorter), Vec::<String>::new());
}

#[test]
fn a_long_file_and_a_long_main_are_found() {
    assert_eq!(judged("sfu/src/a.rs", &"\n".repeat(601)).len(), 1);
    assert_eq!(judged("sfu/src/a.rs", &"\n".repeat(600)).len(), 0);
    assert_eq!(judged("sfu/src/main.rs", &"\n".repeat(101)).len(), 1);
}

#[test]
fn wide_structs_and_long_argument_lists_are_found() {
    let fields: String = (0..21).map(|n| format!("f{n}: u8, ")).collect();
    let code = format!("struct S {{ {fields} }}");
    assert_eq!(judged("sfu/src/a.rs", &code).len(), 1);
    assert_eq!(judged("sfu/src/config/raw/rtc.rs", &code).len(), 0);
    assert_eq!(
        judged(
            "sfu/src/a.rs",
            "fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}"
        )
        .len(),
        1
    );
    assert_eq!(
        judged(
            "sfu/src/a.rs",
            "trait T { fn f(&self, a: u8, b: u8, c: u8, d: u8, e: u8); }"
        )
        .len(),
        0
    );
}

#[test]
fn no_exception_allows_seven_arguments() {
    let code = "fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) {}";
    let list = Exceptions::parse("args sfu/src/a.rs::f 7");
    assert!(complaints(&Tree::of(&[("sfu/src/a.rs", code)]), &list)[0].contains("never more"));
}
