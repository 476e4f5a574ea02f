//! What STUN servers see of several lines, and of temporary addresses.

use super::*;

impl World {
    /// Two answers running, as to a doubt.
    fn asked_twice(&mut self, ip: &str) -> Belief {
        self.asked(ip);
        self.asked(ip)
    }
}

const A: &str = "203.0.113.1";
const B: &str = "203.0.113.2";
const C: &str = "203.0.113.3";

/// That of A, and then of B.
fn moved() -> World {
    let mut world = World::new("use_external_ip: true");
    world.interfaces(&HOME[..2]);
    world.asked(A);
    world.told();
    assert_eq!(world.asked_twice(B), Belief::Learned);
    assert_eq!(world.gone().as_deref(), Some(A));
    world
}

#[test]
fn an_address_that_comes_back_soon_is_told_beside_the_other_and_sends_nobody_back() {
    let mut world = moved();
    world.after(1_799_000);
    assert_eq!(world.asked(A), Belief::Doubted);
    assert_eq!(world.told(), None);
    assert_eq!(world.asked(A), Belief::Returned);
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(gone(&change), "");
    assert_eq!(
        change.sources,
        [from(B, Source::Stun), from(A, Source::Stun)]
    );
    // However they take turns, nothing follows from it.
    for ip in [A, B, B, A, A, A, B, B, B, B, A]
        .into_iter()
        .cycle()
        .take(999)
    {
        assert_eq!(world.asked(ip), Belief::Settled);
        assert_eq!(world.told(), None);
    }
}

#[test]
fn an_address_that_comes_back_late_takes_the_place_of_the_other() {
    let mut world = moved();
    world.after(1_800_000);
    assert_eq!(world.asked_twice(A), Belief::Learned);
    assert_eq!(world.gone().as_deref(), Some(B));
}

#[test]
fn one_of_two_lines_that_is_silent_for_long_is_told_no_more_and_sends_nobody_back() {
    let mut world = moved();
    world.asked_twice(A);
    world.told();
    for _ in 1..asked::SILENT_ANSWERS {
        world.asked(A);
    }
    world.asked(B);
    for _ in 1..asked::SILENT_ANSWERS {
        world.asked(A);
        assert_eq!(world.told(), None);
    }
    world.asked(A);
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(gone(&change), "", "whoever came by it has noticed");
    assert_eq!(change.sources, [from(A, Source::Stun)]);
    // From here on another address is as any other.
    world.after(3_600_000);
    assert_eq!(world.asked_twice(B), Belief::Learned);
    assert_eq!(world.gone().as_deref(), Some(A));
    world.after(3_600_000);
    assert_eq!(world.asked_twice(A), Belief::Learned);
    assert_eq!(world.gone().as_deref(), Some(B));
}

#[test]
fn a_line_of_two_that_gets_another_address_sends_all_back_once() {
    let mut world = moved();
    world.asked_twice(A);
    world.told();
    assert_eq!(world.asked_twice(C), Belief::Learned);
    assert_eq!(world.gone(), Some(format!("{A} {B}")));
    assert_eq!(world.asked_twice(B), Belief::Returned);
    assert_eq!(world.gone().as_deref(), Some(""));
    assert_eq!(world.told(), None);
}

const LASTING: &str = "2001:db8:0:1::2";
/// Of the same network.
const TEMPORARY: &str = "2001:db8:0:1::a1";
/// The next day's.
const ANOTHER: &str = "2001:db8:0:1::a2";

#[test]
fn the_lasting_address_is_told_where_a_stun_server_sees_a_temporary_one() {
    let mut world = World::new("use_external_ip: true");
    let temporary = format!("~{TEMPORARY}");
    let another = format!("~{ANOTHER}");
    world.interfaces(&[("eth0", LASTING), ("eth0", &temporary)]);
    assert_eq!(world.asked(TEMPORARY), Belief::Learned);
    let told = format!("[{LASTING}]:7882");
    assert_eq!(world.told(), Some(told));
    world.interfaces(&[("eth0", LASTING), ("eth0", &temporary), ("eth0", &another)]);
    assert_eq!(world.asked(ANOTHER), Belief::Settled);
    world.interfaces(&[("eth0", LASTING), ("eth0", &another)]);
    world.after(1_000);
    assert_eq!(world.told(), None);
    // Another lasting one does not take its place.
    world.interfaces(&[
        ("eth0", "2001:db8:0:1::1"),
        ("eth0", LASTING),
        ("eth0", &another),
    ]);
    assert_eq!(world.asked(ANOTHER), Belief::Settled);
}

#[test]
fn a_temporary_address_is_told_where_its_interface_has_no_lasting_one_of_its_network() {
    let temporary = format!("~{TEMPORARY}");
    let elsewhere = [
        ("eth0", temporary.as_str()),
        ("eth1", LASTING),
        ("eth0", "2001:db8:0:2::2"),
    ];
    let mut world = World::new("use_external_ip: true");
    world.interfaces(&elsewhere);
    world.asked(TEMPORARY);
    assert_eq!(world.told(), Some(format!("[{TEMPORARY}]:7882")));
    let mut world = World::new("");
    world.interfaces(&elsewhere);
    assert!(world.told().is_some_and(|told| told.contains(TEMPORARY)));
    // Behind a NAT the address is nobody's here.
    let mut world = World::new("use_external_ip: true");
    world.interfaces(&[("eth0", LASTING), ("eth0", &temporary)]);
    world.asked("2001:db8:0:1::99");
    assert_eq!(world.told().as_deref(), Some("[2001:db8:0:1::99]:7882"));
}

#[test]
fn of_one_network_of_an_interface_the_lasting_addresses_are_told() {
    let temporary = format!("~{TEMPORARY}");
    let mut world = World::new("");
    world.interfaces(&[("eth0", &temporary)]);
    assert_eq!(world.told(), Some(format!("[{TEMPORARY}]:7882")));
    world.interfaces(&[("eth0", &temporary), ("eth0", LASTING)]);
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(change.sources, [from(LASTING, Source::Interface)]);
    assert_eq!(gone(&change), "", "it is there all the same");
}
