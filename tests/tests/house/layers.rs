//! The order of `mod` lines is the layer order: a module names only what stands above its own line.
//!
//! Between two modules the first place where their paths part decides. A module may name its own
//! children; a child may not name its parent's items, which would be a circle.

use super::paths::named;
use super::source::{SourceFile, Tree};

/// All upward edges of a crate.
pub(crate) fn complaints(tree: &Tree, krate: &str) -> Vec<String> {
    let mut out = Vec::new();
    for file in tree
        .product()
        .filter(|file| file.krate == krate && file.path.contains("/src/"))
    {
        if file.path.ends_with("main.rs") {
            continue;
        }
        for path in named(file) {
            if path.parts[0] == "crate"
                && let Some(why) = upward(tree, file, &path.parts[1..])
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
    out.dedup();
    out
}

/// Why naming `target` from `file` goes against the order.
fn upward(tree: &Tree, file: &SourceFile, target: &[String]) -> Option<String> {
    let krate = &file.krate;
    let known = (0..=target.len())
        .rev()
        .find(|&n| tree.module(krate, &target[..n]).is_some())?;
    let target = &target[..known];
    let from = &file.module;
    if from == target || target.starts_with(from) {
        return None;
    }
    if from.starts_with(target) {
        let parent = if target.is_empty() {
            "the crate root"
        } else {
            "a parent module"
        };
        return Some(format!("names an item of {parent}: a circle"));
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
            "pub mod message; pub mod forward; pub mod transport; pub use message::Event;",
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
        "use crate::media::Event;",
        "fn f(x: super::Options) {}",
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
    let code = "use crate::units::Y; use super::super::message::{self, Event}; mod inner { use super::*; }";
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
fn a_test_module_may_look_anywhere() {
    let code = "#[cfg(test)] mod tests { use crate::rooms::R; }";
    assert_eq!(in_tree("sfu/src/units.rs", code), Vec::<String>::new());
}
