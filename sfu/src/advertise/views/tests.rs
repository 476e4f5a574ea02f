//! Tests of `views`: who is believed, and who is not.

use super::*;

const OURS: &str = "203.0.113.7";
const ANOTHER: &str = "203.0.113.8";

struct World {
    views: Views,
    now: Instant,
}

impl World {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        let now = Instant::now();
        Self {
            views: Views::default(),
            now,
        }
    }

    fn say(&mut self, by: &str, at: &str) -> bool {
        let ip = |text: &str| text.parse().expect("an address");
        self.views.handle_seen(ip(by), ip(at), self.now)
    }

    fn believed(&self) -> Vec<String> {
        self.views.ips().map(|ip| ip.to_string()).collect()
    }
}

#[test]
fn two_networks_are_believed_and_one_with_many_clients_is_not() {
    let mut world = World::new();
    for client in 1..100 {
        assert!(!world.say(&format!("192.0.2.{client}"), OURS));
    }
    assert_eq!(world.believed(), [""; 0]);
    assert!(world.say("198.51.100.1", OURS));
    assert!(!world.say("198.51.100.2", OURS), "known already");
    assert_eq!(world.believed(), [OURS]);
}

#[test]
fn an_address_that_moves_is_believed_when_more_say_the_new_one() {
    let mut world = World::new();
    for by in ["192.0.2.1", "198.51.100.1", "198.18.0.1"] {
        world.say(by, OURS);
    }
    assert!(!world.say("192.0.2.1", ANOTHER));
    assert!(world.say("198.51.100.1", ANOTHER));
    assert_eq!(world.believed(), [ANOTHER]);
}

#[test]
fn whoever_says_something_else_each_time_changes_it_once_a_minute() {
    let mut world = World::new();
    let mut changes = 0;
    for second in 0..=120_u8 {
        let at = format!("203.0.113.{}", 1 + second);
        world.say("192.0.2.1", &at);
        changes += usize::from(world.say("198.51.100.1", &at));
        world.now += Duration::from_secs(1);
    }
    // The second at once: what is believed first may be what everybody knows.
    assert_eq!(changes, 3);
}

#[test]
fn two_liars_are_outvoted_by_two_who_are_not() {
    let mut world = World::new();
    world.say("192.0.2.1", OURS);
    world.say("198.51.100.1", OURS);
    assert!(!world.say("198.18.0.1", ANOTHER));
    assert!(!world.say("198.19.0.1", ANOTHER));
    assert_eq!(world.believed(), [OURS]);
}

#[test]
fn what_was_said_long_ago_outvotes_nobody_and_stays_believed_until_then() {
    let mut world = World::new();
    world.say("192.0.2.1", OURS);
    world.say("198.51.100.1", OURS);
    world.now += COUNTS_FOR;
    assert_eq!(world.believed(), [OURS]);
    assert!(!world.say("192.0.2.1", ANOTHER));
    assert!(world.say("198.18.0.1", ANOTHER));
    assert_eq!(world.believed(), [ANOTHER]);
}

#[test]
fn addresses_that_mean_something_else_elsewhere_do_not_count() {
    let mut world = World::new();
    for (by, at) in [
        ("192.168.1.9", OURS),
        ("10.0.0.9", OURS),
        ("172.16.0.9", OURS),
        ("127.0.0.1", OURS),
        ("192.0.2.1", "192.168.1.2"),
        ("198.51.100.1", "192.168.1.2"),
        ("192.0.2.1", "100.64.0.1"),
        ("198.51.100.1", "100.127.255.1"),
        ("192.0.2.1", "0.0.0.0"),
        ("198.51.100.1", "224.0.0.1"),
        ("2001:db8::1", "fd00::1"),
        ("2001:db9::1", "fe80::1"),
        ("2001:db9::1", OURS),
    ] {
        assert!(!world.say(by, at), "{by} {at}");
    }
    assert_eq!(world.believed(), [""; 0]);
}

#[test]
fn families_are_believed_and_forgotten_apart() {
    let mut world = World::new();
    assert!(!world.say("2001:db8::1", "2001:db8:7::7"));
    assert!(
        !world.say("2001:db8:ffff::1", "2001:db8:7::7"),
        "one provider"
    );
    assert!(world.say("2001:db9::1", "2001:db8:7::7"));
    world.say("192.0.2.1", OURS);
    // A socket of both families tells IPv4 so.
    assert!(world.say("::ffff:198.51.100.1", "::ffff:203.0.113.7"));
    assert_eq!(world.believed(), [OURS, "2001:db8:7::7"]);
    world.views.forget(Family::V4);
    assert_eq!(world.believed(), ["2001:db8:7::7"]);
    assert!(!world.say("192.0.2.1", OURS), "all must say it anew");
}

#[test]
fn networks_are_bounded_and_those_that_are_here_are_not_driven_out() {
    let mut world = World::new();
    world.say("192.0.2.1", OURS);
    for network in 0..2 * NETWORKS {
        let by = format!("{}.{}.0.1", 20 + network / 256, network % 256);
        world.say(&by, ANOTHER);
    }
    assert_eq!(world.views.views.len(), NETWORKS);
    assert!(
        world
            .views
            .views
            .iter()
            .any(|view| view.at.to_string() == OURS)
    );
}
