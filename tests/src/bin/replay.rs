//! `cargo replay FILE`: replays a record of `foci --record` and says where it diverges.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    tests::replay::tell(&file.unwrap_or_default())
}
