//! The libFuzzer binary of all targets: `FUZZ_TARGET` names the one that runs. One binary, for each
//! would be linked from the same crates.
#![no_main]

use fuzz::Target;
use std::sync::OnceLock;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| panic!("FUZZ_TARGET names no target: `{name}`"))
}

libfuzzer_sys::fuzz_target!(init: { let _ = TARGET.set(chosen()); }, |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        target.check(bytes);
    }
});
