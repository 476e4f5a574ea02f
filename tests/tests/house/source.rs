//! The workspace's Rust sources, read and parsed once per check.
//!
//! It knows files and modules; it knows no rule.

use std::fs;
use std::path::{Path, PathBuf};
use syn::{Attribute, Item};

/// The member crates, in build order.
const CRATES: [&str; 5] = ["proto", "jwt-service", "turn", "sfu", "tests"];

/// One parsed source file.
pub(crate) struct SourceFile {
    /// Path from the workspace root, with forward slashes.
    pub(crate) path: String,
    /// The text.
    pub(crate) text: String,
    /// The syntax tree.
    pub(crate) ast: syn::File,
    /// The crate's folder.
    pub(crate) krate: String,
    /// The module path inside the crate: empty for `lib.rs` and `main.rs`.
    pub(crate) module: Vec<String>,
    /// Compiled for tests only: declared under `cfg(test)`, or outside `src/`.
    pub(crate) test: bool,
}

impl SourceFile {
    /// A file from text.
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let ast = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (krate, inside) = path.split_once('/').expect("a path begins with its crate");
        let source = inside.strip_prefix("src/");
        let module = source
            .unwrap_or(inside)
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| !matches!(*part, "lib" | "main"))
            .map(str::to_owned)
            .collect();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            ast,
            krate: krate.to_owned(),
            module,
            test: source.is_none(),
        }
    }

    /// Whether this is the file of module `a::b` of a crate's library.
    fn is_module(&self, krate: &str, module: &[String]) -> bool {
        self.krate == krate && self.module == module && !self.path.ends_with("main.rs")
    }

    /// The modules this file declares with `mod name;`, in order, with their attributes.
    pub(crate) fn children(&self) -> impl Iterator<Item = (String, &[Attribute])> {
        self.ast.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() => {
                Some((module.ident.to_string(), module.attrs.as_slice()))
            }
            _ => None,
        })
    }
}

/// All sources.
pub(crate) struct Tree {
    pub(crate) files: Vec<SourceFile>,
}

impl Tree {
    /// Reads every crate of the workspace.
    pub(crate) fn read() -> Self {
        let root = root();
        let mut paths = Vec::new();
        for krate in CRATES {
            walk(&root.join(krate), &mut paths);
        }
        paths.sort();
        let files = paths.iter().map(|path| {
            let name = path.strip_prefix(&root).expect("walked from the root");
            let text = fs::read_to_string(path).expect("a source file is readable text");
            SourceFile::parse(&name.to_string_lossy().replace('\\', "/"), &text)
        });
        let tree = Self::marked(files.collect());
        assert!(tree.files.len() > 10, "the sources were not found");
        tree
    }

    /// A tree of snippets, for the tests of the checks.
    pub(crate) fn of(snippets: &[(&str, &str)]) -> Self {
        Self::marked(
            snippets
                .iter()
                .map(|(path, text)| SourceFile::parse(path, text))
                .collect(),
        )
    }

    /// Marks the files below a `#[cfg(test)] mod tests;`.
    fn marked(mut files: Vec<SourceFile>) -> Self {
        let mut tests = Vec::new();
        for file in &files {
            for (child, attributes) in file.children() {
                if attributes.iter().any(is_cfg_test) {
                    let mut module = file.module.clone();
                    module.push(child);
                    tests.push((file.krate.clone(), module));
                }
            }
        }
        for file in &mut files {
            file.test |= tests
                .iter()
                .any(|(krate, module)| *krate == file.krate && file.module.starts_with(module));
        }
        Self { files }
    }

    /// The file of a library module.
    pub(crate) fn module(&self, krate: &str, module: &[String]) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.is_module(krate, module))
    }

    /// The product's own code: not tests, not the test crate.
    pub(crate) fn product(&self) -> impl Iterator<Item = &SourceFile> {
        self.files
            .iter()
            .filter(|file| !file.test && file.krate != "tests")
    }
}

/// The workspace root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a member has a workspace")
        .to_owned()
}

/// Whether an attribute keeps its item out of the product.
pub(crate) fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("test")
        || (attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test")))
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a crate folder is readable") {
        let path = entry.expect("a crate folder is readable").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "node_modules" | "corpus") {
                walk(&path, out);
            }
        } else if name.ends_with(".rs") {
            out.push(path);
        }
    }
}

#[test]
fn test_files_are_told_from_the_product() {
    let tree = Tree::of(&[
        ("sfu/src/lib.rs", "pub mod rtp;"),
        ("sfu/src/rtp.rs", "#[cfg(test)] mod tests;"),
        ("sfu/src/rtp/tests.rs", ""),
        ("sfu/benches/forward.rs", ""),
    ]);
    let product: Vec<_> = tree.product().map(|file| file.path.as_str()).collect();
    assert_eq!(product, ["sfu/src/lib.rs", "sfu/src/rtp.rs"]);
}
