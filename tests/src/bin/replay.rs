//! `cargo replay FILE`: replays a record of `foci --record` and says where it diverges.

use std::path::Path;
use std::process::ExitCode;

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command's output"
)]
fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: cargo replay FILE");
        return ExitCode::from(2);
    };
    match tests::replay::run(Path::new(&file)) {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(u8::from(report.divergence.is_some()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
