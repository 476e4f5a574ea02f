//! Whose media fails is led to other ways: from UDP to TCP, from there to a relay over TLS. (LK:
//! signalling §7.5, server ops §8.5)
//!
//! Owns what counts as failing, and what comes next. Decides for one participant; `leading` asks, and tells
//! media and the client. A client tries every address by itself at each ICE restart: it is for networks that
//! let one way begin and then stop it that it is told less.

use super::preference::{NOTICED_WITHIN, Preference, REMEMBERED};
use crate::media::message::PathTransport;
use proto::livekit::ClientInfo;
use proto::livekit::client_info::Sdk;
use std::time::{Duration, Instant};

/// A connection that failed sooner was short. It covers LiveKit's second failure within a minute, too: what
/// came up between the two has lasted no longer.
const SHORT: Duration = Duration::from_secs(90);
/// A client and we may both notice a failure, so long after one another.
const SAME_FAILURE: Duration = Duration::from_secs(20);
/// A client that says sooner that it cannot come by what is preferred has not tried.
const TRIED: Duration = Duration::from_secs(5);
/// Whoever was not heard of by signalling for so long has lost his network, not a way through it.
const HEARD_WITHIN: Duration = Duration::from_secs(15);
/// TCP is as good as UDP as long as signalling, which goes by it, takes no longer than media by this factor,
const SLOWER_PERCENT: u128 = 130;
/// or is answered so soon that nobody hears the difference: next door the server's own work counts more
/// than the network.
const SOON: Duration = Duration::from_millis(100);
/// The first Swift client that can connect by TCP.
const SWIFT_KNOWS_TCP: [u32; 3] = [1, 0, 5];

/// What else than UDP there is for a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// He can come by TCP, and soon enough.
    pub(super) tcp: bool,
    /// By a relay over TLS or TCP.
    pub(super) relay: bool,
}

/// The relays a participant is told of that are reached over TLS or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relays {
    /// None.
    None,
    /// Our own only: what comes by them is known to.
    Ours,
    /// Those of others: what comes by them looks like UDP.
    Foreign,
}

/// How a participant's media has fared.
#[derive(Debug)]
pub(super) struct Fallback {
    preference: Preference,
    /// Since when.
    since: Instant,
    /// Media has come by what is preferred.
    kept: bool,
    /// When the connection began that is up now, or that is awaited.
    began: Option<Instant>,
    /// The last failure, until media is back.
    failed: Option<Instant>,
    /// When he was led on though media came.
    given_up: Option<Instant>,
    /// When he last said something.
    heard: Instant,
    /// The round trip of signalling as he measures it; 0: not yet.
    rtt_ms: u32,
    pub(super) relays: Relays,
}

impl Fallback {
    /// Somebody joins, for whom this is remembered.
    pub(super) const fn new(preference: Preference, relays: Relays, now: Instant) -> Self {
        Self {
            preference,
            since: now,
            kept: false,
            began: None,
            failed: None,
            given_up: None,
            heard: now,
            rtt_ms: 0,
            relays,
        }
    }

    pub(super) const fn preference(&self) -> Preference {
        self.preference
    }

    pub(super) const fn rtt_ms(&self) -> u32 {
        self.rtt_ms
    }

    /// He has said something.
    pub(super) const fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// He has measured the round trip of signalling.
    pub(super) fn handle_rtt(&mut self, ms: i64) {
        self.rtt_ms = u32::try_from(ms).unwrap_or(0);
    }

    /// Is signalling alive, so that it is media alone that fails?
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < HEARD_WITHIN
    }

    /// A connection is up.
    pub(super) fn handle_connected(&mut self, by: PathTransport, now: Instant) {
        if self.began.is_none() || self.failed.is_some() {
            self.began = Some(now);
        }
        self.failed = None;
        self.handle_way(by);
    }

    /// Media comes by this.
    pub(super) fn handle_way(&mut self, by: PathTransport) {
        let foreign = self.relays == Relays::Foreign && by == PathTransport::Udp;
        self.kept |= match self.preference {
            Preference::Any => true,
            Preference::Tcp => by == PathTransport::Tcp,
            Preference::Relay => by == PathTransport::Turn || foreign,
        };
    }

    /// Is it not known yet whether he can come by what is preferred?
    pub(super) fn is_on_trial(&self) -> bool {
        self.preference != Preference::Any && !self.kept
    }

    /// Has he tried to come by what is preferred, if he says now that it fails?
    pub(super) fn is_given_up(&self, now: Instant) -> bool {
        let tried = now.saturating_duration_since(self.since) >= TRIED;
        self.is_on_trial() && tried && self.is_heard(now)
    }

    /// Media has failed; true if he is to be led elsewhere for it.
    pub(super) fn handle_failed(&mut self, now: Instant) -> bool {
        let since = |at: Option<Instant>, limit| {
            at.is_some_and(|at| now.saturating_duration_since(at) < limit)
        };
        if !self.is_heard(now) || since(self.failed, SAME_FAILURE) {
            return false;
        }
        let short = self.began.is_none() || since(self.began, SHORT);
        self.failed = Some(now);
        self.began = Some(now);
        short
    }

    /// Nothing was preferred yet, and TCP would do better than the UDP by which media comes and is lost: its
    /// own losses have not slowed signalling. Unknown round trips are no reason against it.
    pub(super) fn is_better_by_tcp(
        &self,
        media: Option<Duration>,
        limit_ms: u32,
        now: Instant,
    ) -> bool {
        let signalling = Duration::from_millis(self.rtt_ms.into());
        let below_limit = limit_ms == 0 || self.rtt_ms < limit_ms;
        let as_quick = media
            .is_none_or(|media| signalling.as_micros() * 100 <= media.as_micros() * SLOWER_PERCENT);
        let lately = |at: Option<Instant>, limit| {
            at.is_some_and(|at| now.saturating_duration_since(at) < limit)
        };
        let is_failing = lately(self.failed, SAME_FAILURE);
        // If that led nowhere, media comes by UDP again, and is lost as before.
        let was_tried = lately(self.given_up, REMEMBERED);
        self.preference == Preference::Any
            && !is_failing
            && !was_tried
            && self.is_heard(now)
            && below_limit
            && (as_quick || signalling <= SOON)
    }

    /// He is led on while media still comes. If it fails after all before the other way is found, that is no
    /// failure of that one.
    pub(super) const fn handle_given_up(&mut self, now: Instant) {
        self.failed = Some(now);
        self.began = Some(now);
        self.given_up = Some(now);
    }

    /// He could not be reached, for one of our addresses is another one: what has failed or fails of that
    /// says nothing of his network.
    pub(super) const fn handle_cut_off(&mut self, now: Instant) {
        self.failed = Some(now);
        self.began = Some(now);
        self.given_up = None;
    }

    /// Was he led where he is so lately that it may have been for an address that was ours no more?
    pub(super) fn is_led_lately(&self, now: Instant) -> bool {
        self.preference != Preference::Any
            && now.saturating_duration_since(self.since) < NOTICED_WITHIN
    }

    /// The next way for one whose media came by `way`, the worst one of several; `None` if there is none.
    pub(super) fn step(
        &mut self,
        way: Option<PathTransport>,
        offer: Offer,
        now: Instant,
    ) -> Option<Preference> {
        let next = self.next(way, offer);
        let changes = next != self.preference;
        changes.then(|| self.prefer(next, now))
    }

    fn next(&self, way: Option<PathTransport>, offer: Offer) -> Preference {
        let relay_or = |other| {
            if offer.relay {
                Preference::Relay
            } else {
                other
            }
        };
        match (self.preference, way) {
            // Nothing has come by it: it must be possible to come by anything again in the end.
            (Preference::Tcp, _) if !self.kept => relay_or(Preference::Any),
            (Preference::Relay, _) if !self.kept => Preference::Any,
            (Preference::Any, Some(PathTransport::Tcp)) => relay_or(Preference::Any),
            (Preference::Tcp, _) => relay_or(Preference::Tcp),
            (Preference::Any, Some(PathTransport::Udp) | None) if offer.tcp => Preference::Tcp,
            (Preference::Any, Some(PathTransport::Udp) | None) => relay_or(Preference::Any),
            // Beyond a relay there is nothing.
            (same, _) => same,
        }
    }

    /// From now on he is to come by this.
    pub(super) const fn prefer(&mut self, preference: Preference, now: Instant) -> Preference {
        self.preference = preference;
        self.since = now;
        self.kept = false;
        preference
    }

    /// Is the preference too old to be told again?
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.preference != Preference::Any
            && now.saturating_duration_since(self.since) >= REMEMBERED
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
    use PathTransport::{Tcp, Turn, Udp};

    const ALL: Offer = Offer {
        tcp: true,
        relay: true,
    };
    const NO_RELAY: Offer = Offer {
        tcp: true,
        relay: false,
    };
    const NO_TCP: Offer = Offer {
        tcp: false,
        relay: true,
    };

    fn start() -> Instant {
        crate::room::tests::first_moment()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn fresh() -> Fallback {
        Fallback::new(Preference::Any, Relays::Ours, start())
    }

    /// Fails at this second, with signalling alive.
    fn fails(one: &mut Fallback, second: u64) -> bool {
        let now = start() + seconds(second);
        one.handle_heard(now);
        one.handle_failed(now)
    }

    #[test]
    fn a_short_connection_is_a_failure_and_a_long_one_is_not() {
        assert!(fails(&mut fresh(), 0), "it never came up");
        let mut short = fresh();
        short.handle_connected(Udp, start());
        assert!(fails(&mut short, 89));
        let mut long = fresh();
        long.handle_connected(Udp, start());
        long.handle_connected(Udp, start() + seconds(100));
        assert!(!fails(&mut long, 120));
        assert!(!fails(&mut long, 139), "the same, noticed by the other end");
        long.handle_connected(Udp, start() + seconds(140));
        assert!(fails(&mut long, 150), "again");
        long.handle_connected(Udp, start() + seconds(155));
        assert!(!fails(&mut long, 245));
    }

    #[test]
    fn who_is_not_heard_of_at_all_has_lost_more_than_media() {
        let mut one = fresh();
        one.handle_connected(Udp, start());
        assert!(!one.handle_failed(start() + seconds(15)));
        one.handle_heard(start() + seconds(16));
        assert!(one.handle_failed(start() + seconds(17)));
    }

    /// What is preferred after a failure of media that came by this.
    fn after(preference: Preference, by: Option<PathTransport>, offer: Offer) -> Preference {
        let mut one = Fallback::new(preference, Relays::Ours, start());
        if let Some(by) = by {
            one.handle_connected(by, start());
        }
        one.step(by, offer, start()).unwrap_or(preference)
    }

    #[test]
    fn udp_is_followed_by_tcp_and_tcp_by_a_relay_where_there_are_any() {
        use Preference::{Any, Relay, Tcp as ByTcp};
        assert_eq!(after(Any, Some(Udp), ALL), ByTcp);
        assert_eq!(after(Any, None, ALL), ByTcp);
        assert_eq!(after(Any, Some(Udp), NO_TCP), Relay);
        assert_eq!(after(Any, Some(Tcp), ALL), Relay);
        assert_eq!(after(Any, Some(Tcp), NO_RELAY), Any);
        assert_eq!(after(Any, Some(Turn), ALL), Any);
        assert_eq!(after(ByTcp, Some(Tcp), ALL), Relay);
        assert_eq!(after(ByTcp, Some(Tcp), NO_RELAY), ByTcp);
        assert_eq!(after(Relay, Some(Turn), ALL), Relay);
    }

    #[test]
    fn what_nobody_could_come_by_is_given_up_and_everything_is_open_in_the_end() {
        use Preference::{Any, Relay, Tcp as ByTcp};
        for way in [None, Some(Udp)] {
            assert_eq!(after(ByTcp, way, ALL), Relay, "{way:?}");
            assert_eq!(after(ByTcp, way, NO_RELAY), Any, "{way:?}");
            assert_eq!(after(Relay, way, ALL), Any, "{way:?}");
        }
    }

    #[test]
    fn tcp_is_better_where_signalling_goes_as_quickly_as_media_or_quickly_enough() {
        let ms = Duration::from_millis;
        let better = |signalling, media, limit| {
            let mut one = fresh();
            one.handle_connected(Udp, start());
            one.handle_rtt(signalling);
            one.is_better_by_tcp(media, limit, start())
        };
        assert!(better(390, Some(ms(300)), 0) && !better(391, Some(ms(300)), 0));
        assert!(better(100, Some(ms(1)), 0) && !better(101, Some(ms(1)), 0));
        assert!(better(0, Some(ms(1)), 0) && better(5000, None, 0));
        assert!(better(99, None, 100) && !better(100, None, 100));
    }

    #[test]
    fn who_is_led_already_or_away_or_failing_is_not_led_for_his_losses() {
        let better = |one: &Fallback, second| {
            let now = start() + seconds(second);
            one.is_better_by_tcp(None, 0, now)
        };
        let mut one = fresh();
        one.handle_connected(Udp, start());
        assert!(better(&one, 14) && !better(&one, 15));
        one.handle_failed(start());
        assert!(!better(&one, 1));
        for preference in [Preference::Tcp, Preference::Relay] {
            let mut led = Fallback::new(preference, Relays::Ours, start());
            led.handle_connected(Udp, start());
            assert!(!better(&led, 1), "{preference:?}");
        }
    }

    #[test]
    fn a_failure_of_media_after_he_was_led_on_for_losses_leads_no_further() {
        let mut one = fresh();
        one.handle_connected(Udp, start());
        one.handle_given_up(start());
        assert_eq!(one.step(Some(Udp), ALL, start()), Some(Preference::Tcp));
        assert!(!fails(&mut one, 1));
    }

    #[test]
    fn who_was_led_on_for_losses_in_vain_is_left_alone_for_a_while() {
        let mut one = fresh();
        one.handle_connected(Udp, start());
        one.handle_given_up(start());
        one.prefer(Preference::Any, start() + seconds(13));
        one.handle_connected(Udp, start() + seconds(14));
        let better = |one: &mut Fallback, second| {
            let now = start() + seconds(second);
            one.handle_heard(now);
            one.is_better_by_tcp(None, 0, now)
        };
        assert!(!better(&mut one, 299) && better(&mut one, 300));
    }

    #[test]
    fn who_came_by_tcp_for_his_losses_is_led_there_again_when_that_is_forgotten() {
        let mut one = fresh();
        one.handle_connected(Udp, start());
        one.step(Some(Udp), ALL, start());
        one.handle_given_up(start());
        // His path changes, and no connection is new.
        one.handle_way(Tcp);
        assert!(!one.is_on_trial());
        let later = start() + REMEMBERED;
        one.handle_heard(later);
        assert!(one.is_stale(later));
        one.prefer(Preference::Any, later);
        one.handle_way(Udp);
        assert!(one.is_better_by_tcp(None, 0, later));
    }

    #[test]
    fn a_preference_is_on_trial_until_media_comes_by_it() {
        let mut one = Fallback::new(Preference::Relay, Relays::Ours, start());
        for by in [Udp, Tcp] {
            one.handle_connected(by, start());
            assert!(one.is_on_trial(), "{by:?}");
        }
        one.handle_way(Turn);
        assert!(!one.is_on_trial());
        // What comes by the relay of somebody else comes as UDP.
        let mut foreign = Fallback::new(Preference::Relay, Relays::Foreign, start());
        foreign.handle_connected(Udp, start());
        assert!(!foreign.is_on_trial());
        assert!(!fresh().is_on_trial());
    }

    #[test]
    fn a_preference_grows_old_and_its_absence_does_not() {
        let start = start();
        let late = start + REMEMBERED;
        let one = Fallback::new(Preference::Tcp, Relays::None, start);
        assert!(one.is_stale(late) && !one.is_stale(late - seconds(1)));
        assert!(!fresh().is_stale(late));
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
