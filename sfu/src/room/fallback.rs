//! Who has trouble with UDP is led to TCP. (LK: signalling §7.5)
//!
//! Owns what counts as trouble, and who can be led. Decides for one participant; `resume` asks. The client itself tries every address at each ICE restart; it is for
//! networks that let UDP begin and then stop it that only TCP is told.

use proto::livekit::ClientInfo;
use proto::livekit::client_info::Sdk;
use std::time::{Duration, Instant};

/// A connection that failed sooner was short.
const SHORT: Duration = Duration::from_secs(90);
/// A second failure within this time counts however long the connection was.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);
/// The first Swift client that can connect by TCP.
const SWIFT_KNOWS_TCP: [u32; 3] = [1, 0, 5];

/// How UDP has served a participant.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    /// When media was connected first.
    connected: Option<Instant>,
    /// When the client last said that it had failed.
    failed: Option<Instant>,
    /// He is told TCP only, for as long as he stays.
    switched: bool,
}

impl Fallback {
    /// Media is connected.
    pub(super) fn handle_connected(&mut self, now: Instant) {
        self.connected.get_or_insert(now);
    }

    /// The client's connection failed while it could speak to us; true if it is to be led away from
    /// UDP for it, which happens once.
    pub(super) fn handle_failed(&mut self, now: Instant) -> bool {
        let since = |at: Option<Instant>, limit| {
            at.is_some_and(|at| now.saturating_duration_since(at) < limit)
        };
        let again = since(self.failed.replace(now), AGAIN_WITHIN);
        let short = self.connected.is_none() || since(self.connected, SHORT);
        (short || again) && !std::mem::replace(&mut self.switched, short || again)
    }
}

/// Go's stack connects to no TCP candidate, nor did Swift's in its youth.
pub(super) fn knows_tcp(client: &ClientInfo) -> bool {
    let mut parts = client.version.split(['.', '-', '+']);
    let version = [(); 3].map(|()| parts.next().and_then(|part| part.parse().ok()).unwrap_or(0));
    match client.sdk() {
        Sdk::Go => false,
        Sdk::Swift => version >= SWIFT_KNOWS_TCP,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_short_connection_or_a_second_failure_leads_away_from_udp_once() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        let start = Instant::now();
        let mut never = Fallback::default();
        assert!(never.handle_failed(start) && !never.handle_failed(start));
        let mut short = Fallback::default();
        short.handle_connected(start);
        assert!(short.handle_failed(start + seconds(89)));
        let mut long = Fallback::default();
        long.handle_connected(start);
        long.handle_connected(start + seconds(100));
        assert!(!long.handle_failed(start + seconds(120)));
        assert!(!long.handle_failed(start + seconds(180)), "a minute later");
        assert!(long.handle_failed(start + seconds(239)));
    }

    #[test]
    fn who_cannot_connect_by_tcp_is_not_led_there() {
        let client = |sdk: Sdk, version: &str| ClientInfo {
            sdk: sdk as i32,
            version: version.into(),
            ..Default::default()
        };
        assert!(knows_tcp(&client(Sdk::Js, "2.0.0")));
        assert!(!knows_tcp(&client(Sdk::Go, "2.0.0")));
        assert!(!knows_tcp(&client(Sdk::Swift, "1.0.4")));
        assert!(knows_tcp(&client(Sdk::Swift, "1.0.5")));
    }
}
