//! Examples: what the documents show of `foci.yaml` is a configuration that nothing is wrong with.

use sfu::config::check::check;
use sfu::config::complaint::Complaints;
use sfu::config::raw::Values;
use std::fs;
use std::path::{Path, PathBuf};

/// A block of YAML begins with a comment that names its file; this one is ours.
const FILE: &str = "# foci.yaml";
/// What every configuration needs, and examples mostly leave out.
const KEYS: &str = "keys: {my-key: a-secret-of-at-least-32-characters}\n";

/// A file that an example names, and what would be read from it.
const REGISTRATION: (&str, &str) = (
    "registration_file: /etc/foci/foci-registration.yaml",
    "hs_token: one-of-many-characters\n    as_token: another-of-many-characters",
);

/// Everything that is wrong with the examples of README.md and docs.
pub(crate) fn complaints(root: &Path) -> Vec<String> {
    let pages = pages(root);
    let mut out = Vec::new();
    let mut seen = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap_or_default();
        let (count, wrong) = judge(&text);
        seen += count;
        let page = page.strip_prefix(root).unwrap_or(page).display();
        out.extend(wrong.iter().map(|wrong| format!("{page}: {wrong}")));
    }
    if seen == 0 {
        out.push(format!("no document has a block `{FILE}`"));
    }
    out
}

fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs", "docs/proxies"] {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
        pages.extend(entries.flatten().map(|entry| entry.path()));
    }
    pages.retain(|page| page.extension().is_some_and(|end| end == "md"));
    pages.sort();
    pages
}

/// How many blocks of ours a page has, and what is wrong with its blocks.
fn judge(text: &str) -> (usize, Vec<String>) {
    let mut out = Vec::new();
    let mut count = 0;
    // Text, block, text, block …
    let blocks = text.split("\n```").skip(1).step_by(2);
    for block in blocks.filter_map(|block| block.strip_prefix("yaml\n")) {
        let first = block.lines().next().unwrap_or_default();
        if !first.starts_with("# ") {
            out.push(format!("a block of YAML names no file: `{first}`"));
        } else if first.starts_with(FILE) {
            count += 1;
            out.extend(wrong(block));
        }
    }
    (count, out)
}

fn wrong(block: &str) -> Vec<String> {
    let (mut values, mut complaints) = (Values::default(), Complaints::default());
    let keys = if block.contains("\nkeys:") { "" } else { KEYS };
    let text = block.replace(REGISTRATION.0, REGISTRATION.1);
    values.read_yaml(&format!("{text}\n{keys}"), FILE, true, &mut complaints);
    values.resolve_aliases(&mut complaints);
    check(&mut values, &mut complaints);
    complaints.list().iter().map(ToString::to_string).collect()
}

#[test]
fn an_example_with_a_mistake_is_found() {
    let page = |block: &str| judge(&format!("A page.\n\n```yaml\n{block}\n```\n"));
    assert_eq!(page("# foci.yaml\nport: 7880"), (1, Vec::new()));
    assert_eq!(page("# homeserver.yaml\nprot: 7880"), (0, Vec::new()));
    assert_eq!(page("port: 7880").1.len(), 1, "of whom is it?");
    let (_, wrong) = page("# foci.yaml\nprot: 7880");
    assert!(wrong[0].contains("prot"), "{wrong:?}");
}
