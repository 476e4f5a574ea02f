//! Tests of `ice`: what a client sees, and where it is followed.

use super::stun::client::{Answer as Told, Check, read};
use super::*;
use crate::media::demux::Carrier;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::net::SocketAddr;

mod leaving;

const PLACE: Place = Place {
    node: 1,
    generation: 2,
    worker: 3,
};

fn credentials(seed: u64) -> Credentials {
    let rng = |seed| StdRng::seed_from_u64(seed);
    Credentials::random(PLACE, &mut rng(seed), &mut rng(!seed))
}

fn them() -> Credentials {
    Credentials {
        ufrag: "them".into(),
        pwd: "their-password-of-22-ch".into(),
    }
}

fn path(port: u16) -> Path {
    Path {
        carrier: Carrier::Udp(0),
        local: None,
        port: 0,
        remote: SocketAddr::from(([192, 0, 2, 1], port)),
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A client with its agent, in virtual time.
struct World {
    ice: Ice,
    now: Instant,
}

impl World {
    fn new() -> Self {
        // The one instant a test has to start from; only differences count.
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Instant::now();
        let mut ice = Ice::new(credentials(1), [7; 16], now);
        ice.set_remote(them());
        Self { ice, now }
    }

    fn send(&mut self, check: &Check<'_>, port: u16) -> (Verdict, Told) {
        let password = self.ice.local().pwd.clone();
        self.send_signed(check, port, &password)
    }

    fn send_signed(&mut self, check: &Check<'_>, port: u16, password: &str) -> (Verdict, Told) {
        let bytes = check.bytes();
        let request = stun::Request::parse(&bytes).unwrap();
        let mut out = [0; ANSWER_MAX];
        let answer = self
            .ice
            .handle_binding(&request, path(port), &mut out, self.now);
        (answer.verdict, read(&out[..answer.len], password))
    }

    /// A good check with the current credentials.
    fn check(&mut self, port: u16, priority: u32, nominate: bool) {
        let local = self.ice.local().clone();
        self.check_as(&local, port, priority, nominate);
    }

    fn check_as(&mut self, local: &Credentials, port: u16, priority: u32, nominate: bool) {
        let username = format!("{}:them", local.ufrag);
        let check = Check {
            username: Some(&username),
            password: Some(&local.pwd),
            priority,
            nominate,
            controlled: false,
            extra: &[],
        };
        let (verdict, response) = self.send_signed(&check, port, &local.pwd);
        assert_eq!(verdict, Verdict::Accepted);
        assert_eq!(response.mapped, Some(path(port).remote));
        assert!(response.signed);
    }

    fn restart(&mut self, local: Credentials) {
        self.ice.restart(local, self.now);
        self.ice.set_remote(them());
    }

    fn media(&mut self, port: u16) {
        self.ice.handle_authenticated(path(port), self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ice.handle_timeout(self.now);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.ice.poll_event()).collect()
    }

    fn selected(&self) -> u16 {
        self.ice.selected().unwrap().remote.port()
    }
}

#[test]
fn credentials_name_the_place_and_hide_the_password() {
    let credentials = credentials(1);
    assert_eq!(Place::of(&credentials.ufrag), Some(PLACE));
    assert_eq!(credentials.pwd.len(), PASSWORD_CHARS);
    let shown = format!("{credentials:?}");
    assert!(shown.contains(&credentials.ufrag) && !shown.contains(&credentials.pwd));
    let world = World::new();
    assert!(!format!("{:?}", world.ice).contains(&world.ice.local().pwd));
}

#[test]
fn the_first_good_check_connects_and_is_answered_with_its_address() {
    let mut world = World::new();
    assert_eq!(world.ice.selected(), None);
    assert_eq!(world.ice.poll_timeout(), None);
    world.check(1, 10, true);
    assert_eq!(
        world.events(),
        [Event::Selected(path(1)), Event::State(State::Connected)]
    );
    world.check(1, 10, true);
    assert_eq!(world.events(), []);
}

#[test]
fn a_lost_path_gives_way_to_the_best_of_the_others_and_the_last_one_to_none() {
    let mut world = World::new();
    world.check(1, 10, true);
    world.check(2, 30, false);
    world.check(3, 20, false);
    let now = world.now;
    world.ice.handle_authenticated(path(1), now);
    world.events();
    world.ice.handle_lost(path(3), now);
    assert_eq!(world.events(), []);
    world.ice.handle_lost(path(1), now);
    assert_eq!(world.events(), [Event::Selected(path(2))]);
    world.ice.handle_lost(path(2), now);
    assert_eq!(world.ice.selected(), None);
    // He is not silent for it, and comes by whatever path he likes.
    assert_eq!(world.ice.state(), State::Connected);
    assert_eq!(world.events(), []);
    world.check(4, 1, true);
    assert_eq!(world.events(), [Event::Selected(path(4))]);
}

#[test]
fn a_check_nobody_signed_rightly_gets_an_error_and_changes_nothing() {
    let mut world = World::new();
    let (ufrag, pwd) = (
        world.ice.local().ufrag.clone(),
        world.ice.local().pwd.clone(),
    );
    let named = format!("{ufrag}:them");
    let stranger = format!("{ufrag}:stranger");
    for (username, password, code) in [
        (Some(named.as_str()), Some("wrong"), 401),
        (Some("other:them"), Some(pwd.as_str()), 401),
        (Some(stranger.as_str()), Some(pwd.as_str()), 401),
        (Some(ufrag.as_str()), Some(pwd.as_str()), 401),
        (Some(named.as_str()), None, 400),
        (None, Some(pwd.as_str()), 400),
    ] {
        let check = Check {
            username,
            password,
            priority: 1,
            nominate: true,
            controlled: false,
            extra: &[],
        };
        let (verdict, response) = world.send(&check, 1);
        assert_eq!(
            (verdict, response.error),
            (Verdict::Unauthorized, Some(code)),
            "{username:?}"
        );
        assert!(!response.signed);
    }
    assert_eq!(world.ice.selected(), None);
    assert_eq!(world.events(), []);
    assert_eq!(world.ice.counts().refused, 6);
}

#[test]
fn a_controlled_client_and_an_unknown_attribute_get_signed_errors() {
    let mut world = World::new();
    let local = world.ice.local().clone();
    let username = format!("{}:them", local.ufrag);
    let mut check = Check {
        username: Some(&username),
        password: Some(&local.pwd),
        priority: 1,
        nominate: true,
        controlled: true,
        extra: &[],
    };
    let (verdict, answer) = world.send(&check, 1);
    assert_eq!(
        (verdict, answer.error, answer.signed),
        (Verdict::RoleConflict, Some(487), true)
    );
    check.extra = &[(0x7001, b"?"), (0x7002, b"")];
    let (verdict, answer) = world.send(&check, 1);
    assert_eq!(
        (verdict, answer.error, answer.signed),
        (Verdict::UnknownAttributes, Some(420), true)
    );
    assert_eq!(answer.unknown, [0x7001, 0x7002]);
    assert_eq!(world.ice.selected(), None);
}

#[test]
fn many_unknown_attributes_still_fit_the_answer() {
    let mut world = World::new();
    let local = world.ice.local().clone();
    let username = format!("{}:them", local.ufrag);
    let extra: Vec<(u16, &[u8])> = (0x7000..0x7020).map(|kind| (kind, &b""[..])).collect();
    let check = Check {
        username: Some(&username),
        password: Some(&local.pwd),
        priority: 1,
        nominate: false,
        controlled: false,
        extra: &extra,
    };
    let (verdict, answer) = world.send(&check, 1);
    assert_eq!(
        (verdict, answer.unknown.len()),
        (Verdict::UnknownAttributes, 8)
    );
}

#[test]
fn before_media_the_nominated_path_of_highest_priority_is_selected() {
    let mut world = World::new();
    world.check(1, 50, false);
    assert_eq!(world.selected(), 1, "nothing nominated: the best checked");
    world.check(2, 10, true);
    assert_eq!(world.selected(), 2, "nominated outdoes checked");
    world.check(3, 20, true);
    assert_eq!(world.selected(), 3, "higher priority");
    world.check(4, 5, true);
    world.check(2, 10, true);
    assert_eq!(world.selected(), 3, "lower ones change nothing");
}

#[test]
fn media_is_followed_whatever_was_nominated() {
    let mut world = World::new();
    world.check(1, 50, true);
    world.check(2, 10, false);
    world.media(2);
    assert_eq!(world.selected(), 2);
    world.check(1, 50, true);
    assert_eq!(world.selected(), 2, "a check does not outdo media");
    world.media(1);
    assert_eq!(world.selected(), 1);
    assert_eq!(world.events()[0], Event::Selected(path(1)));
}

#[test]
fn a_silent_path_yields_to_one_nominated_since() {
    let mut world = World::new();
    world.check(1, 50, true);
    world.media(1);
    world.pass(seconds(7));
    world.check(2, 10, true);
    assert_eq!(world.selected(), 1, "it may still be alive");
    world.pass(seconds(1));
    world.check(2, 10, false);
    assert_eq!(world.selected(), 1, "a mere check moves nothing");
    world.check(2, 10, true);
    assert_eq!(
        world.selected(),
        2,
        "not drawn back by the higher priority of the dead path"
    );
}

#[test]
fn a_followed_path_that_is_checked_stays() {
    let mut world = World::new();
    world.check(1, 10, true);
    world.media(1);
    for _ in 0..10 {
        world.pass(seconds(3));
        world.check(1, 10, true);
        world.check(2, 50, true);
        assert_eq!(world.selected(), 1);
    }
}

#[test]
fn silence_disconnects_after_ten_seconds_and_fails_after_fifteen() {
    let mut world = World::new();
    world.check(1, 10, true);
    world.events();
    assert_eq!(world.ice.poll_timeout(), Some(world.now + seconds(10)));
    world.pass(Duration::from_millis(9_999));
    assert_eq!(world.events(), []);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.events(), [Event::State(State::Disconnected)]);
    assert_eq!(world.ice.poll_timeout(), Some(world.now + seconds(5)));
    world.pass(seconds(5));
    assert_eq!(world.events(), [Event::State(State::Failed)]);
    assert_eq!(world.ice.poll_timeout(), None);
    world.check(1, 10, true);
    assert_eq!(world.events(), [Event::State(State::Connected)]);
}

#[test]
fn checks_and_media_each_renew_consent() {
    let mut world = World::new();
    world.check(1, 10, true);
    world.events();
    for round in 0..10 {
        world.pass(seconds(9));
        if round % 2 == 0 {
            world.media(1);
        } else {
            world.check(1, 10, false);
        }
        assert_eq!(world.events(), []);
    }
    world.pass(seconds(12));
    assert_eq!(world.events(), [Event::State(State::Disconnected)]);
    world.media(1);
    assert_eq!(world.events(), [Event::State(State::Connected)]);
    world.pass(seconds(100));
    assert_eq!(
        world.events(),
        [Event::State(State::Failed)],
        "one late look suffices"
    );
}

#[test]
fn a_restart_keeps_the_old_credentials_until_the_new_path_is_used() {
    let mut world = World::new();
    let old = world.ice.local().clone();
    world.check(1, 50, true);
    world.media(1);
    world.restart(credentials(2));
    world.events();
    world.check_as(&old, 1, 50, true);
    world.media(1);
    assert_eq!(world.events(), [], "the old path serves on");
    world.check(2, 10, false);
    assert_eq!(world.selected(), 1, "not nominated yet");
    world.check(2, 10, true);
    assert_eq!(world.selected(), 2, "the new session's nomination");
    world.check_as(&old, 1, 50, true);
    assert_eq!(world.selected(), 2, "the old session nominates no more");
    world.media(2);
    assert_eq!(
        world.events(),
        [Event::Retired(old.ufrag.clone()), Event::Selected(path(2))]
    );
    let username = format!("{}:them", old.ufrag);
    let check = Check {
        username: Some(&username),
        password: Some(&old.pwd),
        priority: 1,
        nominate: true,
        controlled: false,
        extra: &[],
    };
    assert_eq!(world.send(&check, 1).0, Verdict::Unauthorized);
}

#[test]
fn a_restart_on_the_same_path_completes_too() {
    let mut world = World::new();
    let old = world.ice.local().ufrag.clone();
    world.check(1, 50, true);
    world.media(1);
    world.events();
    world.restart(credentials(2));
    world.media(1);
    assert_eq!(world.events(), []);
    world.check(1, 50, true);
    world.media(1);
    assert_eq!(world.events(), [Event::Retired(old)]);
}

#[test]
fn a_second_restart_retires_the_first_ufrag_at_once() {
    let mut world = World::new();
    let first = world.ice.local().ufrag.clone();
    world.restart(credentials(2));
    assert_eq!(world.events(), []);
    world.restart(credentials(3));
    assert_eq!(world.events(), [Event::Retired(first)]);
}

#[test]
fn paths_are_bounded_and_the_selected_one_is_never_the_one_to_go() {
    let mut world = World::new();
    world.check(1, 50, true);
    for port in 2..200 {
        world.now += Duration::from_millis(1);
        world.check(port, 10, false);
    }
    assert_eq!(world.ice.valid.len(), PATHS);
    assert_eq!(world.selected(), 1);
    assert!(world.ice.valid.iter().any(|valid| valid.path == path(1)));
    assert_eq!(world.ice.counts().paths_dropped, 199 - PATHS as u64);
}

#[test]
fn an_answer_without_room_still_counts_the_check() {
    let mut world = World::new();
    let username = format!("{}:them", world.ice.local().ufrag);
    let pwd = world.ice.local().pwd.clone();
    let check = Check {
        username: Some(&username),
        password: Some(&pwd),
        priority: 1,
        nominate: true,
        controlled: false,
        extra: &[],
    };
    let bytes = check.bytes();
    let request = stun::Request::parse(&bytes).unwrap();
    let answer = world
        .ice
        .handle_binding(&request, path(1), &mut [], world.now);
    assert_eq!(
        answer,
        Answer {
            len: 0,
            verdict: Verdict::Accepted
        }
    );
}

proptest! {
    /// A controlling client that nominates every pair it checks (RFC 5245 §8.1.1.2, as Firefox does):
    /// it uses the best of those that have succeeded, and moves up while better ones come. We end on
    /// the pair it ends on, having moved no oftener than it did, and stay there although every pair
    /// goes on being checked with a nomination.
    #[test]
    fn aggressive_nomination_over_many_candidates_settles_on_the_clients_path(
        order in Just((1..=PATHS as u16).collect::<Vec<_>>()).prop_shuffle(),
        media_from in 0..PATHS,
        strays in prop::collection::vec(0..PATHS, 0..4),
    ) {
        let mut world = World::new();
        let (mut best, mut moves) = (0, 0);
        for (done, port) in order.iter().copied().enumerate() {
            world.check(port, u32::from(port), true);
            moves += u32::from(port > best);
            best = best.max(port);
            if done >= media_from {
                world.media(best);
            }
            prop_assert_eq!(world.selected(), best);
            world.pass(Duration::from_millis(20));
        }
        let told = world.events().iter().filter(|event| matches!(event, Event::Selected(_))).count();
        prop_assert!(told as u32 <= moves);
        world.media(best);
        world.events();
        // What the network had held back of the earlier paths comes now; then all is quiet.
        for late in strays {
            world.media(order[late]);
            world.media(best);
        }
        world.events();
        for _ in 0..30 {
            world.pass(seconds(2));
            for port in &order {
                world.check(*port, u32::from(*port), true);
            }
            world.media(best);
            prop_assert_eq!(world.selected(), best);
            prop_assert_eq!(world.events(), []);
        }
    }

    /// Whatever happens, we send only where the client has been, and consent follows what was heard.
    #[test]
    fn we_send_only_where_the_client_was_heard(steps in prop::collection::vec((0..4u8, 1..40u16, 0..100u32, any::<bool>()), 1..120)) {
        let mut world = World::new();
        let mut heard = Vec::new();
        let mut last = None;
        for (step, port, number, nominate) in steps {
            match step {
                0 => { world.check(port, number, nominate); heard.push(port); last = Some(world.now); }
                1 if heard.contains(&port) => { world.media(port); last = Some(world.now); prop_assert_eq!(world.selected(), port); }
                2 => world.pass(Duration::from_millis(u64::from(number) * 100)),
                3 if number < 10 => { world.restart(credentials(u64::from(number) + 10)); }
                _ => {}
            }
            if let Some(selected) = world.ice.selected() {
                prop_assert!(heard.contains(&selected.remote.port()));
            }
            let silent = last.map(|last| world.now - last);
            let expected = match silent {
                None => State::New,
                Some(silent) if silent < DISCONNECTED_AFTER => State::Connected,
                Some(silent) if silent < FAILED_AFTER => State::Disconnected,
                Some(_) => State::Failed,
            };
            prop_assert_eq!(world.ice.state(), expected);
            prop_assert!(world.ice.valid.len() <= PATHS);
        }
    }
}
