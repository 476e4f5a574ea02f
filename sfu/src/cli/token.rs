//! `foci token create`: a token to join with, signed with the first key of the configuration.

use crate::cli::show;
use crate::config::keys::Keys;
use crate::config::raw::value::{Syntax, parse};
use crate::config::raw::{Kind, Value};
use clap::{Arg, ArgAction, ArgMatches, Command};
use proto::token::{self, Claims, VideoGrant};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a token is good for unless told otherwise; LiveKit's SDKs say the same.
const VALID_FOR: &str = "6h";

/// `token create` with its flags.
pub(super) fn command() -> Command {
    let text = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let right = |name: &'static str, help: &'static str| {
        text(name, help)
            .value_parser(clap::value_parser!(bool))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    };
    let switch =
        |name: &'static str, help: &'static str| text(name, help).action(ArgAction::SetTrue);
    let create = Command::new("create")
        .about("Print a token made with the first key")
        .args([
            text("room", "Room to join").required(true),
            text("identity", "Who joins").required(true),
            text("name", "Display name"),
            text("metadata", "Metadata"),
            text("valid-for", "For example 30m, 24h").default_value(VALID_FOR),
            text("url", "Also say how to join there"),
            right("can-publish", "May publish"),
            right("can-subscribe", "May receive"),
            right("can-publish-data", "May send data"),
            switch("hidden", "Others do not see this participant"),
            switch("admin", "May administer the room"),
        ]);
    Command::new("token")
        .about("Make access tokens")
        .subcommand_required(true)
        .subcommand(create)
}

/// Prints the token; on stderr how to use it.
pub(super) fn create(keys: &Keys, matches: &ArgMatches) -> ExitCode {
    let Some(matches) = matches.subcommand_matches("create") else {
        return ExitCode::FAILURE;
    };
    match sign(keys, matches, now_unix()) {
        Ok(token) => {
            if let Some(url) = matches.get_one::<String>("url") {
                show::err(&format!(
                    "Join with: room.connect(\"{url}\", \"<token>\")\n"
                ));
            }
            show::out(&format!("{token}\n"))
        }
        Err(cause) => {
            show::err(&format!("error: {cause}\n"));
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a token says from when it is good"
)]
fn now_unix() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn sign(keys: &Keys, matches: &ArgMatches, now_unix: u64) -> Result<String, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let valid_for = match parse(Kind::Duration, &text("valid-for"), Syntax::Yaml) {
        Ok(Value::Duration(span)) if span >= Duration::from_secs(1) => span,
        _ => return Err("--valid-for: expected a duration such as 30m or 24h".to_owned()),
    };
    let right = |name: &str| matches.get_one::<bool>(name).copied();
    let claims = Claims {
        identity: text("identity"),
        name: text("name"),
        metadata: text("metadata"),
        video: Some(VideoGrant {
            can_publish: right("can-publish"),
            can_subscribe: right("can-subscribe"),
            can_publish_data: right("can-publish-data"),
            hidden: matches.get_flag("hidden"),
            room_admin: matches.get_flag("admin"),
            ..VideoGrant::join(&text("room"))
        }),
        ..Claims::default()
    };
    let keys: token::Keys = keys
        .entries
        .iter()
        .map(|(key, secret)| (key.clone(), token::Secret::new(secret.reveal())))
        .collect();
    keys.sign(&claims, valid_for, now_unix)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::Secret;

    const NOW: u64 = 1_700_000_000;

    fn keys() -> Keys {
        Keys {
            entries: vec![("devkey".into(), Secret::new("secret".into()))],
        }
    }

    fn made(arguments: &[&str]) -> Result<String, String> {
        let all = ["token", "create", "--room", "r", "--identity", "me"];
        let all = all.iter().chain(arguments);
        let matches = command().try_get_matches_from(all).expect("understood");
        sign(
            &keys(),
            matches.subcommand_matches("create").expect("create"),
            NOW,
        )
    }

    #[test]
    fn a_token_says_what_was_asked_for_and_ends_in_time() {
        let token = made(&[
            "--name",
            "Me",
            "--can-publish=false",
            "--hidden",
            "--valid-for",
            "1h",
        ]);
        let token = token.expect("signed");
        let read: token::Keys = [("devkey".to_owned(), token::Secret::new("secret"))]
            .into_iter()
            .collect();
        let claims = read.verify(&token, NOW).expect("good").into_inner();
        assert_eq!(
            (claims.identity.as_str(), claims.name.as_str()),
            ("me", "Me")
        );
        assert_eq!(claims.expires_at, NOW + 3600);
        let grant = claims.grant();
        assert!(grant.room_join && grant.room == "r" && grant.hidden && !grant.room_admin);
        assert_eq!(
            (grant.can_publish, grant.can_subscribe),
            (Some(false), None)
        );
        assert!(read.verify(&token, NOW + 4000).is_err());
    }

    #[test]
    fn a_duration_that_is_none_is_refused() {
        for text in ["soon", "0", "-1h", "100ms"] {
            let flag = format!("--valid-for={text}");
            assert!(made(&[&flag]).is_err(), "{text}");
        }
    }
}
