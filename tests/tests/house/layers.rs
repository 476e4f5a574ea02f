//! The order of `mod` lines is the layer order: a module names only what stands above its own line.
//!
//! Between two modules the first place where their paths part decides. A module may name its own
//! children, and what its parents define themselves; what a parent only passes on (`pub use`) counts
//! as the module it comes from.

use super::paths::named;
use super::source::{SourceFile, Tree};
use std::collections::BTreeSet;
use syn::UseTree;

/// All upward edges of a crate, each once per file.
pub(crate) fn complaints(tree: &Tree, krate: &str) -> Vec<String> {
    let mut out = Vec::new();
    for file in tree
        .product()
        .filter(|file| file.krate == krate && file.path.contains("/src/"))
    {
        if file.path.ends_with("main.rs") {
            continue;
        }
        let mut edges = BTreeSet::new();
        for path in named(file) {
            if path.parts[0] == "crate"
                && let Some(why) = upward(tree, file, &path.parts[1..])
                && edges.insert(why.clone())
            {
                out.push(format!(
                    "{}:{}: {} {why}",
                    file.path,
                    path.line,
                    path.text()
                ));
            }
        }
    }
    out
}

/// Where control and data part: who may name what beneath a module of the other side. Order alone
/// does not say it, for a room stands below the media it must not see.
const SEAMS: [(&str, &[&str], &[&str]); 3] = [
    (
        "media",
        &["room", "signal", "rooms", "auth", "http"],
        &["message"],
    ),
    ("room", &["worker"], &[]),
    ("signal", &["room", "worker"], &[]),
];

/// All namings across a seam but of what may be named.
pub(crate) fn seams(tree: &Tree) -> Vec<String> {
    let mut out = Vec::new();
    for file in tree.product().filter(|file| file.krate == "sfu") {
        let Some(mine) = file.module.first() else {
            continue;
        };
        for path in named(file).iter().filter(|path| path.parts[0] == "crate") {
            let target = origin(tree, "sfu", path.parts[1..].to_vec());
            let crossed = SEAMS.iter().any(|(side, from, open)| {
                target.first().is_some_and(|top| top == side)
                    && from.contains(&mine.as_str())
                    && !target
                        .get(1)
                        .is_some_and(|part| open.contains(&part.as_str()))
                    && target.len() > 1
            });
            if crossed {
                out.push(format!("{}:{}: {}", file.path, path.line, path.text()));
            }
        }
    }
    out
}

/// Why naming `target` from `file` goes against the order.
fn upward(tree: &Tree, file: &SourceFile, target: &[String]) -> Option<String> {
    let krate = &file.krate;
    let target = origin(tree, krate, target.to_vec());
    let known = (0..=target.len())
        .rev()
        .find(|&n| tree.module(krate, &target[..n]).is_some())?;
    let target = &target[..known];
    let from = &file.module;
    if target.is_empty() && !from.is_empty() {
        return Some("names an item of the crate root".into());
    }
    if target.starts_with(from) || from.starts_with(target) {
        return None;
    }
    let shared = from.iter().zip(target).take_while(|(a, b)| a == b).count();
    let parent = tree.module(krate, &from[..shared])?;
    let line = |name: &String| parent.children().position(|(child, _)| child == *name);
    let (mine, theirs) = (line(&from[shared])?, line(&target[shared])?);
    (theirs > mine).then(|| {
        format!(
            "goes up: `{}` stands below `{}` in {}",
            target[shared], from[shared], parent.path
        )
    })
}

/// Follows what modules pass on: `media::Event` is `media::message::Event` after
/// `pub use message::Event`.
fn origin(tree: &Tree, krate: &str, mut target: Vec<String>) -> Vec<String> {
    // A chain of re-exports is as long as the tree is deep at most.
    for _ in 0..8 {
        let known = (0..target.len())
            .rev()
            .find(|&n| tree.module(krate, &target[..n]).is_some());
        let Some(known) = known.filter(|known| tree.module(krate, &target[..=*known]).is_none())
        else {
            break;
        };
        let module = tree.module(krate, &target[..known]).expect("just found");
        let children: Vec<String> = module.children().map(|(name, _)| name).collect();
        let passed = reexports(module).into_iter().find_map(|(name, from)| {
            let from = match from.first().map(String::as_str) {
                Some("crate") => from[1..].to_vec(),
                Some("self") => [&target[..known], &from[1..]].concat(),
                Some(child) if children.iter().any(|known| known == child) => {
                    [&target[..known], &from].concat()
                }
                _ => return None,
            };
            (name == target[known]).then(|| [from, target[known + 1..].to_vec()].concat())
        });
        match passed {
            Some(next) => target = next,
            None => break,
        }
    }
    target
}

/// The names a file passes on with `pub use`, and what they are there.
fn reexports(file: &SourceFile) -> Vec<(String, Vec<String>)> {
    fn walk(tree: &UseTree, path: &[String], out: &mut Vec<(String, Vec<String>)>) {
        let with = |ident: &syn::Ident| [path, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(part) => walk(&part.tree, &with(&part.ident), out),
            UseTree::Group(group) => group.items.iter().for_each(|item| walk(item, path, out)),
            UseTree::Name(name) => out.push((name.ident.to_string(), with(&name.ident))),
            UseTree::Rename(name) => out.push((name.rename.to_string(), with(&name.ident))),
            UseTree::Glob(_) => {}
        }
    }
    let mut out = Vec::new();
    for item in &file.ast.items {
        if let syn::Item::Use(item) = item
            && !matches!(item.vis, syn::Visibility::Inherited)
        {
            walk(&item.tree, &[], &mut out);
        }
    }
    out
}

#[cfg(test)]
fn in_tree(path: &str, code: &str) -> Vec<String> {
    let mut snippets = vec![
        (
            "sfu/src/lib.rs",
            "pub mod units; pub mod media; pub mod room; #[cfg(feature = \"shell\")] pub mod rooms;",
        ),
        ("sfu/src/units.rs", ""),
        (
            "sfu/src/media.rs",
            "pub mod message; pub mod forward; pub mod transport; pub use message::Event; pub use transport::Z;",
        ),
        ("sfu/src/media/message.rs", ""),
        ("sfu/src/media/forward.rs", "pub mod select;"),
        ("sfu/src/media/forward/select.rs", ""),
        ("sfu/src/media/transport.rs", ""),
        ("sfu/src/room.rs", ""),
        ("sfu/src/rooms.rs", ""),
    ];
    snippets.retain(|(other, _)| *other != path);
    snippets.push((path, code));
    complaints(&Tree::of(&snippets), "sfu")
}

#[test]
fn an_upward_import_is_found_in_every_spelling() {
    for code in [
        "use crate::room::X;",
        "use crate::{units::Y, room};",
        "use super::super::transport::Z;",
        "fn f() { super::super::transport::g(); }",
        "fn f() { assert!(crate::rooms::g()); }",
        "mod inner { use super::super::super::transport::Z; }",
        "use crate::media::Z;",
        "use crate::Everything;",
    ] {
        assert_eq!(
            in_tree("sfu/src/media/forward/select.rs", code).len(),
            1,
            "{code}"
        );
    }
}

#[test]
fn a_downward_import_is_fine() {
    let code = "use crate::media::{Event as E, Own}; use crate::units::Y; use super::super::message::{self, Event}; mod inner { use super::*; }";
    assert_eq!(
        in_tree("sfu/src/media/forward/select.rs", code),
        Vec::<String>::new()
    );
    assert_eq!(
        in_tree(
            "sfu/src/rooms.rs",
            "use crate::media::Event; use crate::room::R;"
        ),
        Vec::<String>::new()
    );
}

#[test]
fn a_room_that_looks_into_media_is_found() {
    let look = |path: &str, code: &str| {
        let lib = (
            "sfu/src/lib.rs",
            "pub mod media; pub mod room; pub mod worker;",
        );
        let media = (
            "sfu/src/media.rs",
            "pub mod message; pub mod plane; pub use plane::Plane;",
        );
        seams(&Tree::of(&[lib, media, (path, code)])).len()
    };
    assert_eq!(
        look("sfu/src/room.rs", "use crate::media::message::Event;"),
        0
    );
    assert_eq!(
        look("sfu/src/room.rs", "use crate::media::{self, message};"),
        0
    );
    assert_eq!(
        look("sfu/src/room.rs", "use crate::media::plane::Cursor;"),
        1
    );
    assert_eq!(
        look(
            "sfu/src/room.rs",
            "use crate::media; fn f(p: media::Plane) {}"
        ),
        1
    );
    assert_eq!(look("sfu/src/worker.rs", "use crate::media::Plane;"), 0);
    assert_eq!(look("sfu/src/worker.rs", "use crate::room::Room;"), 1);
}

#[test]
fn a_test_module_may_look_anywhere() {
    let code = "#[cfg(test)] mod tests { use crate::rooms::R; }";
    assert_eq!(in_tree("sfu/src/units.rs", code), Vec::<String>::new());
}
