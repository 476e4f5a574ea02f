//! How many file descriptors this process may have: every connection takes one, and shells and service
//! managers mostly grant 1024 to whoever does not ask for more.
//!
//! Owns the asking, and what the operator is told of the answer. The server runs no programs that would
//! inherit it. Called at the start.

use super::{MAX_CONNECTIONS, MAX_SCRAPERS};
use crate::config::check::Config;
use crate::worker::accept;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use turn::net::StreamLimits;

/// Beside connections of clients: listeners, threads, files, and requests to homeservers.
const OTHERS: u64 = 512;

/// What the limits of the authorization service alone need.
pub(super) const WANTED_ALONE: u64 = MAX_CONNECTIONS as u64 + MAX_SCRAPERS as u64 + OTHERS;

/// What the limits of a server with this configuration need.
pub(super) fn wanted(config: &Config) -> u64 {
    let mut wanted = WANTED_ALONE;
    if config.rtc.tcp_port != 0 {
        wanted += accept::OPEN as u64;
    }
    let turn = &config.turn;
    if turn.enabled {
        let connections = StreamLimits::default().connections as u64;
        // What TLS ends for here comes to TURN by two more.
        let each = if config.tls.port == 0 { 1 } else { 3 };
        wanted += each * connections + 2 * u64::from(turn.relay_ports.count());
    }
    wanted
}

/// Asks for as many as there may be, and tells how many there are now.
pub(super) fn raise(wanted: u64) {
    let granted = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: granted.maximum,
        ..granted
    };
    // What is refused shows in the number.
    let _ = setrlimit(Resource::Nofile, all);
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return tracing::info!("file descriptors without limit");
    };
    tracing::info!(limit, "file descriptors");
    if limit < wanted {
        tracing::warn!(
            limit,
            wanted,
            fix = "systemd: LimitNOFILE=65536; docker: --ulimit nofile=65536; a shell: ulimit -Hn",
            "fewer file descriptors than connections are let in: beyond them nobody can connect"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::complaint::Complaints;
    use crate::config::raw::Values;

    fn configured(yaml: &str) -> Config {
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        values.read_yaml(yaml, "f", true, &mut complaints);
        check(&mut values, &mut complaints)
    }

    #[test]
    fn as_many_are_asked_for_as_there_may_be() {
        let granted = getrlimit(Resource::Nofile);
        let Some(most) = granted.maximum else { return };
        let less = Rlimit {
            current: Some(most - 1),
            ..granted
        };
        setrlimit(Resource::Nofile, less).expect("less may be had");
        raise(0);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
    }

    #[test]
    fn more_is_wanted_where_more_may_connect() {
        let bare = configured("rtc: {tcp_port: 0}\nturn: {enabled: false}");
        assert_eq!(wanted(&bare), WANTED_ALONE);
        let media = configured("rtc: {tcp_port: 7881}\nturn: {enabled: false}");
        assert_eq!(wanted(&media), WANTED_ALONE + 8192);
        let turn = "turn: {enabled: true, relay_range_start: 30000, relay_range_end: 30009}";
        let relayed = configured(&format!("rtc: {{tcp_port: 0}}\n{turn}"));
        assert_eq!(wanted(&relayed), WANTED_ALONE + 4096 + 20);
        let tls = "tls: {port: 7443, external_tls: true}";
        let shared = configured(&format!("rtc: {{tcp_port: 0}}\n{turn}\n{tls}"));
        assert_eq!(wanted(&shared), WANTED_ALONE + 3 * 4096 + 20);
    }
}
