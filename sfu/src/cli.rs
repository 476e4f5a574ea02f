//! The command line: flags made from the key table, and the commands beside serving.
//!
//! Owns what is printed for a person at a terminal and the exit status. `main` calls [`run`].
//! (LK: server ops §7)

mod show;
mod registration;
mod token;
mod flags;

use crate::addresses;
use crate::certificates;
use crate::server;
use crate::settings::companion::Unusable;
use crate::settings::{Loaded, Sources};
use crate::worker::record::Target;
use std::net::SocketAddr;
use std::process::ExitCode;

/// EX_CONFIG of sysexits: the configuration cannot be used.
const CONFIGURATION: u8 = 78;

/// Runs one command; the status to exit with.
#[must_use]
pub fn run() -> ExitCode {
    let matches = match flags::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let status = if error.use_stderr() { CONFIGURATION } else { 0 };
            // Nothing can be said if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    match matches.subcommand_name() {
        Some("config-docs") => return show::out(&crate::config::docs::markdown()),
        Some("generate-keys") => return show::out(&show::new_key()),
        _ => {}
    }
    let sources = flags::sources(&matches);
    if let Some(alone) = matches.subcommand_matches("jwt") {
        return match alone.subcommand_matches("registration") {
            Some(flags) => registration::print(&sources.load().config, flags),
            None => serve_alone(&sources),
        };
    }
    let loaded = sources.load();
    match matches.subcommand_name() {
        Some("check") => check(&loaded),
        Some("token") => usable(&loaded)
            .or_else(|| {
                Some(token::create(
                    &loaded.config.keys,
                    matches.subcommand_matches("token")?,
                ))
            })
            .unwrap_or(ExitCode::FAILURE),
        Some("well-known") => usable(&loaded).unwrap_or_else(|| well_known(&loaded)),
        Some("ports") => {
            usable(&loaded).unwrap_or_else(|| ports(&loaded, flags::wants_json(&matches)))
        }
        _ => usable(&loaded).unwrap_or_else(|| serve(&loaded, &sources, flags::record(&matches))),
    }
}

/// The complaints and the status of an unusable configuration, or nothing.
fn usable(loaded: &Loaded) -> Option<ExitCode> {
    if !loaded.complaints.has_errors() {
        return None;
    }
    show::err(&show::complaints(&loaded.complaints));
    Some(ExitCode::from(CONFIGURATION))
}

fn check(loaded: &Loaded) -> ExitCode {
    show::err(&show::complaints(&loaded.complaints));
    let certificates = certificates::examine(&loaded.config.certificates());
    for error in &certificates {
        show::err(&format!("error: {error}\n"));
    }
    let shown = show::out(&crate::config::docs::effective(&loaded.values));
    if loaded.complaints.has_errors() || !certificates.is_empty() {
        return ExitCode::from(CONFIGURATION);
    }
    shown
}

/// What a router must let through.
fn ports(loaded: &Loaded, json: bool) -> ExitCode {
    let target = addresses::towards_others();
    show::out(&if json {
        show::port_json(&loaded.config, target)
    } else {
        show::port_list(&loaded.config, target)
    })
}

/// What older clients look for on the server name's host.
fn well_known(loaded: &Loaded) -> ExitCode {
    let transports = &loaded.config.matrix.transports;
    if transports.is_empty() {
        show::err(
            "error: matrix.transports: no authorization service is named; write for example [https://rtc.example.org/livekit/jwt]\n",
        );
        return ExitCode::from(CONFIGURATION);
    }
    show::out(&jwt_service::routes::transports::well_known(transports))
}

fn serve(loaded: &Loaded, sources: &Sources, record: Option<Target>) -> ExitCode {
    let config = &loaded.config;
    let started = |bound: &[SocketAddr], media: u16| {
        let port = bound.first().map_or(config.http.port, SocketAddr::port);
        if config.keys.are_placeholders() {
            show::out(&show::next_steps(port, media));
        }
    };
    match server::run(loaded, sources, record, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show::err(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The authorization service alone; the status of a wrong variable is that of lk-jwt-service.
fn serve_alone(sources: &Sources) -> ExitCode {
    let (companion, loaded) = match sources.companion() {
        Ok(both) => both,
        Err(Unusable::File(loaded)) => {
            show::err(&show::complaints(&loaded.complaints));
            return ExitCode::from(CONFIGURATION);
        }
        Err(Unusable::Variable(text)) => {
            show::err(&format!("error: {text}\n"));
            return ExitCode::FAILURE;
        }
    };
    match server::alone::run(&companion, &loaded, sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show::err(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
