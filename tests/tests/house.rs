//! The house tests: the rules of CONTRIBUTING.md that a machine can check, as ordinary tests.
//!
//! Each check is a function from sources to a list of complaints, so that each also has a test of
//! its own that shows it a bad snippet: a check that cannot fail checks nothing.

mod house {
    pub(crate) mod exceptions;
    pub(crate) mod source;

    pub(crate) mod documents;
    pub(crate) mod examples;
    pub(crate) mod foreign;
    pub(crate) mod layers;
    pub(crate) mod names;
    pub(crate) mod paths;
    pub(crate) mod phrases;
    pub(crate) mod purity;
    pub(crate) mod sizes;
}

use house::exceptions::Exceptions;
use house::source::{Tree, root};

/// Fails with one line per complaint.
#[track_caller]
fn none(rule: &str, complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{rule}: {} complaint(s)\n  {}",
        complaints.len(),
        complaints.join("\n  ")
    );
}

#[test]
fn a_module_imports_only_what_stands_above_it() {
    let tree = Tree::read();
    none("layers", &house::layers::complaints(&tree, "sfu"));
    none("layers", &house::layers::complaints(&tree, "proto"));
    none("layers", &house::layers::complaints(&tree, "jwt-service"));
    none("layers", &house::layers::complaints(&tree, "turn"));
}

#[test]
fn control_and_data_meet_in_messages_only() {
    none("seams", &house::layers::seams(&Tree::read()));
}

#[test]
fn the_pure_ring_names_no_clock_socket_thread_lock_or_file() {
    none("purity", &house::purity::complaints(&Tree::read()));
}

#[test]
fn a_foreign_crate_is_named_in_its_own_files_only() {
    none("foreign crates", &house::foreign::complaints(&Tree::read()));
}

#[test]
fn sizes_keep_their_limits_and_exceptions_only_shrink() {
    let exceptions = Exceptions::read(&root().join("tests/ratchet.txt"));
    none(
        "sizes",
        &house::sizes::complaints(&Tree::read(), &exceptions),
    );
}

#[test]
fn names_are_words_of_the_house() {
    none("names", &house::names::complaints(&Tree::read()));
}

#[test]
fn files_open_with_their_purpose_and_carry_no_forbidden_phrase() {
    none("phrases", &house::phrases::complaints(&Tree::read()));
}

#[test]
fn every_metric_is_documented() {
    none(
        "metrics",
        &house::documents::metrics(&Tree::read(), &root()),
    );
}

#[test]
fn nothing_is_wrong_with_the_examples_of_the_documents() {
    none("examples", &house::examples::complaints(&root()));
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    none(
        "invariants",
        &house::documents::invariants(&Tree::read(), &root()),
    );
}
