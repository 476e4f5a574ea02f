//! Flags: LiveKit's hand-written ones, and one for each scalar key of the table.

use crate::config::raw::{Key, Kind, Status, table};
use crate::settings::{Flag, NAMED, Sources};
use crate::worker::record::Target;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;

/// Parts of keys with a flag of their own, as LiveKit's.
const PARTS: [&str; 4] = [
    "rtc.udp_port.start",
    "rtc.udp_port.end",
    "rtc.node_ip.ipv4",
    "rtc.node_ip.ipv6",
];

/// Largest size of a record unless told otherwise, in MiB: half an hour of a call of four, or more.
const RECORD_LIMIT: u64 = 256;
/// No larger limit is taken, in MiB: a replay reads the file into memory.
const RECORD_LIMIT_MAX: u64 = 16_384;

/// Every key that has a flag. Older names have none where the newer one is meant by the same word.
fn generated() -> impl Iterator<Item = &'static Key> {
    table::all().filter(|key| {
        key.kind.is_scalar()
            && !key.path.contains("[]")
            && NAMED.iter().all(|named| named.flag != key.path)
    })
}

/// The whole command line.
pub(super) fn command() -> Command {
    let mut command = Command::new("foci")
        .about("LiveKit-compatible SFU for Matrix calls; without arguments: development mode")
        .version(env!("CARGO_PKG_VERSION"))
        .args([
            text("config", "YAML configuration file"),
            text(
                "config-body",
                "YAML configuration as text, instead of a file",
            ),
            switch("dev", "Development mode: placeholder keys, loopback"),
            switch("disable-strict-config", "Unknown keys are only warnings").hide(true),
            text(
                "record",
                "Write what media is fed to a new file, to be replayed",
            ),
            text("record-limit", "Largest size of that file in MiB; 256")
                .value_parser(clap::value_parser!(u64).range(1..=RECORD_LIMIT_MAX)),
            switch(
                "record-secrets",
                "Keep payloads, passwords and keys in that file",
            ),
        ]);
    for named in NAMED {
        let arg = text(named.flag, named.help).action(ArgAction::Append);
        command = command.arg(arg);
    }
    for key in generated() {
        command = command.arg(key_flag(key));
    }
    for part in PARTS {
        command = command.arg(text(part, "Part of a key").hide(true));
    }
    command
        .subcommand(Command::new("serve").about("Serve (the default)"))
        .subcommand(Command::new("check").about("Print complaints and the configuration in effect"))
        .subcommand(crate::cli::token::command())
        .subcommand(crate::cli::registration::command())
        .subcommand(
            Command::new("ports")
                .about("Tell which ports a router must forward, and why")
                .arg(
                    Arg::new("json")
                        .long("json")
                        .action(ArgAction::SetTrue)
                        .help("As JSON"),
                ),
        )
        .subcommand(
            Command::new("well-known")
                .about("Print what /.well-known/matrix/client says of matrix.transports"),
        )
        .subcommand(Command::new("generate-keys").about("Print a new API key and secret"))
        .subcommand(
            Command::new("config-docs")
                .about("Print docs/config.md")
                .hide(true),
        )
}

fn text(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(1)
        .global(true)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::SetTrue)
        .global(true)
}

/// `--rtc.tcp_port=7881`; for true and false also bare `--rtc.use_ice_lite`, as in Go.
fn key_flag(key: &'static Key) -> Arg {
    let arg = text(key.path, key.doc)
        .hide(!matches!(key.status, Status::Built) || key.path.contains('.'));
    if key.kind == Kind::Bool {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    }
}

/// The matches that have all flags: global ones reach the innermost command's wherever they were
/// typed.
fn innermost(mut matches: &ArgMatches) -> &ArgMatches {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches
}

/// Where to record what media is fed, if that was asked for.
pub(super) fn record(matches: &ArgMatches) -> Option<Target> {
    let matches = innermost(matches);
    let limit = matches.get_one::<u64>("record-limit").copied();
    Some(Target {
        path: matches.get_one::<String>("record")?.into(),
        limit: limit.unwrap_or(RECORD_LIMIT) << 20,
        secrets: matches.get_flag("record-secrets"),
    })
}

/// Is the table of ports wanted as JSON?
pub(super) fn wants_json(matches: &ArgMatches) -> bool {
    let ports = matches.subcommand_matches("ports");
    ports.is_some_and(|flags| flags.get_flag("json"))
}

/// What was typed, and the environment.
pub(super) fn sources(matches: &ArgMatches) -> Sources {
    let matches = innermost(matches);
    let one = |name: &str| matches.get_one::<String>(name).cloned();
    let names = NAMED.iter().map(|named| named.flag);
    let names = names.chain(generated().map(|key| key.path)).chain(PARTS);
    let flags = names
        .filter(|name| matches.value_source(name) == Some(ValueSource::CommandLine))
        .filter_map(|name| {
            let texts: Vec<&str> = matches
                .get_many::<String>(name)?
                .map(String::as_str)
                .collect();
            Some(Flag {
                name: name.to_owned(),
                text: texts.join(if name == "keys" { "\n" } else { "," }),
            })
        })
        .collect();
    Sources {
        file: one("config").map(PathBuf::from),
        body: one("config-body"),
        development: matches.get_flag("dev"),
        lenient: matches.get_flag("disable-strict-config"),
        flags,
        variables: Sources::environment(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(arguments: &[&str]) -> Sources {
        let all = std::iter::once("foci").chain(arguments.iter().copied());
        sources(&command().try_get_matches_from(all).expect("understood"))
    }

    fn flag(name: &str, text: &str) -> Flag {
        Flag {
            name: name.into(),
            text: text.into(),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_come_from_the_table_and_stand_before_or_after_the_command() {
        let before = typed(&["--rtc.udp_port", "7900", "check"]);
        assert!(before.flags == [flag("rtc.udp_port", "7900")]);
        let after = typed(&["check", "--rtc.udp_port=7900", "--config", "x.yaml"]);
        assert!(after.flags == before.flags);
        assert_eq!(after.file, Some(PathBuf::from("x.yaml")));
    }

    #[test]
    fn a_bare_flag_is_true_and_repeated_ones_are_a_list() {
        let sources = typed(&[
            "--room.auto_create",
            "--bind",
            "127.0.0.1",
            "--bind=::1",
            "--dev",
        ]);
        assert!(sources.flags.contains(&flag("room.auto_create", "true")));
        assert!(sources.flags.contains(&flag("bind", "127.0.0.1,::1")));
        assert!(sources.development);
        let off = typed(&["--room.auto_create=false"]);
        assert!(off.flags == [flag("room.auto_create", "false")]);
    }

    #[test]
    fn a_record_is_asked_for_by_flags_only() {
        let asked = |arguments: &[&str]| {
            let all = std::iter::once("foci").chain(arguments.iter().copied());
            record(&command().try_get_matches_from(all).expect("understood"))
        };
        assert_eq!(asked(&["--record-secrets"]), None);
        let target = asked(&["--record", "x", "--record-limit=1"]).expect("a target");
        assert_eq!((target.limit, target.secrets), (1 << 20, false));
        let target = asked(&["serve", "--record=x", "--record-secrets"]).expect("a target");
        assert_eq!((target.limit, target.secrets), (256 << 20, true));
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(
            command()
                .try_get_matches_from(["foci", "--rtc.upd_port=1"])
                .is_err()
        );
    }
}
