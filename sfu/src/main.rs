//! `foci`: see `foci --help`.

fn main() -> std::process::ExitCode {
    sfu::cli::run()
}
