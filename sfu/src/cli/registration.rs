//! `foci jwt registration`: what a homeserver must be told to have Foci as its application service.

use crate::cli::show;
use crate::config::check::Config;
use clap::{Arg, ArgMatches, Command};
use std::process::ExitCode;

/// Whoever asks in nobody's name is this user.
const LOCALPART: &str = "_foci";

/// `jwt`, and `jwt registration` with its flags.
pub(super) fn command() -> Command {
    let registration = Command::new("registration")
        .about("Print a registration as an application service, with new tokens")
        .arg(
            Arg::new("url")
                .long("url")
                .help("Where the homeserver reaches Foci, http://host:port"),
        );
    Command::new("jwt")
        .about("Serve the MatrixRTC authorization service alone, as lk-jwt-service does")
        .subcommand(registration)
}

/// Prints the registration; on stderr what to do with it. A configuration that cannot start yet will do:
/// it needs what is printed here.
pub(super) fn print(config: &Config, matches: &ArgMatches) -> ExitCode {
    let here = || format!("http://127.0.0.1:{}", config.http.port);
    let url = matches.get_one::<String>("url").cloned();
    let url = url.unwrap_or_else(here);
    let server = config.matrix.app_service.as_ref();
    let server = server.map(|ours| ours.server_name.as_str());
    let server = server.filter(|name| !name.is_empty());
    let tokens = [show::new_secret(), show::new_secret()];
    match registration(&url, server, &tokens) {
        Ok(text) => {
            show::err(
                "Name this file in app_service_config_files of the homeserver and in \
                 matrix.app_service.registration_file of Foci, and keep it from others.\n",
            );
            show::out(&text)
        }
        Err(cause) => {
            show::err(&format!("error: {cause}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The registration. (Matrix: application service API, Registration; MSC4502, MSC4512)
fn registration(
    url: &str,
    server: Option<&str>,
    [as_token, hs_token]: &[String; 2],
) -> Result<String, String> {
    let url = url.trim_end_matches('/');
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"'\"\\?#".contains(&byte);
    let is_url = ["http://", "https://"]
        .iter()
        .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if !is_url || !url.bytes().all(plain) {
        return Err("--url: expected a URL such as http://foci:7880".to_owned());
    }
    let users = match server {
        Some(name) => format!("@.*:{}", literal(name)),
        None => ".*".to_owned(),
    };
    Ok(format!(
        "id: foci\n\
         # Here events of rooms with users of the homeserver are sent: who leaves one leaves its call.\n\
         url: '{url}'\n\
         as_token: {as_token}\n\
         hs_token: {hs_token}\n\
         sender_localpart: {LOCALPART}\n\
         # Delayed events are restarted in the name of users, all of them from here.\n\
         rate_limited: false\n\
         namespaces:\n  \
           users:\n    \
             - exclusive: false\n      \
               regex: '{users}'\n  \
           aliases: []\n  \
           rooms: []\n\
         # Whether somebody is in a room may be asked. (MSC4502)\n\
         io.element.msc4502.scopes:\n  \
           - 'urn:matrix:client:io.element.msc4502:rooms:is_joined'\n\
         # Here requests of clients and of other homeservers for tokens are passed on. (MSC4512)\n\
         io.element.msc4512.proxy_prefix: rtc/livekit\n\
         io.element.msc4512.proxy_url: '{url}'\n"
    ))
}

/// A text as a regular expression that means just it.
fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':')) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::yaml::{Body, Node, parse};

    fn tokens() -> [String; 2] {
        ["as".to_owned(), "hs".to_owned()]
    }

    fn value<'a>(node: &'a Node, name: &str) -> &'a Body {
        let Body::Map(entries) = &node.body else {
            panic!("no map");
        };
        let entry = entries.iter().find(|entry| entry.name == name);
        &entry.unwrap_or_else(|| panic!("no {name}")).value.body
    }

    #[test]
    fn a_registration_has_all_that_a_homeserver_wants_and_our_own_reading_finds_its_tokens() {
        let text = registration("http://foci:7880/", Some("a.example:8448"), &tokens());
        let text = text.expect("a registration");
        let root = parse(&text).expect("YAML");
        for (name, wanted) in [
            ("url", "http://foci:7880"),
            ("as_token", "as"),
            ("hs_token", "hs"),
            ("sender_localpart", "_foci"),
            ("io.element.msc4512.proxy_prefix", "rtc/livekit"),
            ("io.element.msc4512.proxy_url", "http://foci:7880"),
        ] {
            assert_eq!(value(&root, name), &Body::Scalar(wanted.into()), "{name}");
        }
        assert!(text.contains(r"regex: '@.*:a\.example:8448'"), "{text}");
        let scopes = value(&root, "io.element.msc4502.scopes");
        assert!(matches!(scopes, Body::List(list) if list.len() == 1));
    }

    #[test]
    fn every_user_is_meant_where_no_server_is_named_and_a_url_that_is_none_is_refused() {
        let text = registration("https://h", None, &tokens()).expect("a registration");
        assert!(text.contains("regex: '.*'"), "{text}");
        for url in [
            "",
            "foci:7880",
            "http://",
            "http://h'x",
            "http://h x",
            "ws://h",
        ] {
            assert!(registration(url, None, &tokens()).is_err(), "{url}");
        }
    }
}
