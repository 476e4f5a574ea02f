//! How many allocations there may be, which give way, and which end with their user.

use super::*;
use crate::config::Shared;
use crate::event::{End, Reason};

impl World {
    /// One of many users, with an allocation or the code of a refusal.
    fn another(&mut self, name: &str, remote: &str) -> (User, u16) {
        let name = format!("1800000000:{name}");
        let password = crate::credentials::password_of(&Secret::new("north"), &name);
        let user = self.user_with(&name, password.expose(), client(remote));
        let code = self.allocate(&user).code();
        (user, code)
    }

    /// Whose allocations ended to make room since this was asked last.
    fn displaced(&mut self) -> Vec<Client> {
        let displaced = self.events().into_iter().filter_map(|event| match event {
            Event::Ended {
                client,
                reason: End::Displaced,
                ..
            } => Some(client),
            _ => None,
        });
        displaced.collect()
    }
}

#[test]
fn quotas_of_a_user_and_of_all_are_486_and_508_and_free_again() {
    let mut world = World::with(|config| {
        config.limits.user_allocations = 2;
        config.limits.allocations = 3;
    });
    let (first, _) = world.allocated("alice", "1.2.3.4:1");
    world.allocated("alice", "1.2.3.4:2");
    let third = world.user("alice", "1.2.3.4:3");
    assert_eq!(world.allocate(&third).code(), 486);
    world.allocated("bob", "1.2.3.4:4");
    let carol = world.user("carol", "1.2.3.4:5");
    assert_eq!(world.allocate(&carol).code(), 508);
    world.refresh(&first, 0);
    assert_eq!(world.allocate(&third).code(), 0);
}

#[test]
fn a_limit_of_0_is_no_limit() {
    let mut world = World::with(|config| {
        config.limits.user_allocations = 0;
        config.limits.address_allocations = 0;
        config.limits.allocations = 0;
    });
    for port in 1..=15 {
        world.allocated("alice", &format!("1.2.3.4:{port}"));
    }
}

#[test]
fn what_a_user_left_behind_gives_way_and_what_he_uses_does_not() {
    let mut world = World::with(|config| config.limits.user_allocations = 3);
    let (used, _) = world.allocated("alice", "1.2.3.4:1");
    let (asked, _) = world.allocated("alice", "1.2.3.4:2");
    let (left, _) = world.allocated("alice", "1.2.3.4:3");
    assert_eq!(world.permit(&used, &[SFU]), 0);
    world.pass(seconds(29));
    let data = send_indication(address(SFU), b"hi");
    world.server.handle_client(used.client, &data, world.now);
    assert_eq!(world.permit(&asked, &[SFU]), 0);
    // She has changed networks.
    let fourth = world.user("alice", "5.6.7.8:1");
    assert_eq!(world.allocate(&fourth).code(), 486, "nobody is silent yet");
    world.pass(seconds(1));
    world.events();
    assert_eq!(world.allocate(&fourth).code(), 0);
    assert!(matches!(
        &world.events()[..],
        [Event::Ended { client, reason: End::Displaced, .. }, Event::Allocated { .. }]
            if *client == left.client
    ));
    let fifth = world.user("alice", "5.6.7.8:2");
    assert_eq!(world.allocate(&fifth).code(), 486);
    assert_eq!(world.server.stats().displaced, 1);
    // Others' are not hers to take.
    let bob = world.user("bob", "1.2.3.4:9");
    assert_eq!(world.allocate(&bob).code(), 0);
    assert_eq!(world.refresh(&used, 600).code(), 0);
    assert_eq!(world.refresh(&left, 600).code(), 437);
}

#[test]
fn where_a_user_left_has_all_the_ports_of_his_address_it_gives_way_too() {
    let mut world = World::with(|config| config.limits.user_allocations = 64);
    for n in 0..21 {
        world.allocated("alice", &format!("1.2.3.4:{}", 100 + n));
    }
    let back = world.user("alice", "1.2.3.4:1");
    assert_eq!(world.allocate(&back).code(), 508, "nobody is silent yet");
    world.pass(seconds(30));
    assert_eq!(world.allocate(&back).code(), 0);
    assert_eq!(world.server.stats().displaced, 1);
}

#[test]
fn who_has_left_many_behind_under_many_names_gives_way_when_there_are_no_more() {
    let mut world = World::with(|config| {
        config.limits.allocations = 1000;
        config.limits.unknown_answers_burst = 10_000;
    });
    let (idle, _) = world.allocated("alice", "1.2.3.4:1");
    for n in 0..999 {
        let (name, remote) = (format!("m{}", n / 20), format!("6.6.6.6:{}", 1000 + n));
        assert_eq!(world.another(&name, &remote).1, 0);
    }
    let bob = world.user("bob", "1.2.3.5:1");
    assert_eq!(world.allocate(&bob).code(), 508, "nobody is silent yet");
    world.pass(seconds(30));
    world.displaced();
    assert_eq!(world.allocate(&bob).code(), 0);
    for n in 0..100 {
        let remote = format!("7.7.7.{n}:1");
        assert_eq!(world.another(&format!("p{n}"), &remote).1, 0);
    }
    let displaced = world.displaced();
    assert_eq!(displaced.len(), 101);
    for gone in displaced {
        assert_eq!(gone.remote.ip(), ip("6.6.6.6"));
    }
    assert_eq!(world.refresh(&idle, 600).code(), 0);
    assert_eq!(world.server.stats().allocations, 1000);
}

#[test]
fn of_one_address_the_user_who_has_the_most_gives_way_and_what_is_used_stays() {
    let mut world = World::with(|config| config.limits.address_allocations = 5);
    let (alice, _) = world.allocated("alice", "1.2.3.4:1");
    let (used, _) = world.allocated("bob", "1.2.3.4:2");
    for port in 3..=5 {
        world.allocated("bob", &format!("1.2.3.4:{port}"));
    }
    let (carol, code) = world.another("carol", "1.2.3.4:6");
    assert_eq!(code, 486);
    assert!(matches!(
        world.events().last(),
        Some(Event::Refused {
            reason: Reason::AddressQuota,
            ..
        })
    ));
    // Who comes from elsewhere is no part of it.
    assert_eq!(world.another("dora", "1.2.3.5:1").1, 0);
    world.pass(seconds(30));
    assert_eq!(world.permit(&used, &[SFU]), 0);
    assert_eq!(world.allocate(&carol).code(), 0);
    let displaced = world.displaced();
    assert_eq!(displaced.len(), 1);
    assert!((3..=5).contains(&displaced[0].remote.port()));
    assert_eq!(world.refresh(&alice, 600).code(), 0);
    assert_eq!(world.refresh(&used, 600).code(), 0);
}

#[test]
fn a_network_of_ipv6_is_one_address_and_a_site_two_but_a_proxy_is_many_people() {
    let mut world = World::with(|config| {
        config.limits.address_allocations = 2;
        config.shared = Shared::new(|ip| ip == IpAddr::from([10, 0, 0, 1]));
    });
    let mut code = |remote: &str| world.another("a", remote).1;
    assert_eq!(code("[2600:1:2:3::1]:1"), 0);
    assert_eq!(code("[2600:1:2:3::2]:1"), 0);
    assert_eq!(code("[2600:1:2:3::3]:1"), 486);
    assert_eq!(code("[2600:1:2:4::1]:1"), 0);
    assert_eq!(code("[2600:1:2:5::1]:1"), 0);
    assert_eq!(code("[2600:1:2:6::1]:1"), 486);
    assert_eq!(code("[2600:1:3:6::1]:1"), 0);
    for port in 1..=9 {
        assert_eq!(code(&format!("10.0.0.1:{port}")), 0);
    }
}

#[test]
fn what_is_left_of_a_user_who_is_gone_for_good_ends_in_a_minute_and_he_gets_no_more() {
    let mut world = World::new();
    let (gone, code) = world.another("PA_1", "1.2.3.4:1");
    let (stays, _) = world.another("PA_2", "1.2.3.4:2");
    assert_eq!(code, 0);
    world.server.retire("PA_1", world.now);
    assert_eq!(world.another("PA_1", "1.2.3.4:3").1, 401);
    world.pass(seconds(59));
    assert_eq!(world.refresh(&gone, 600).code(), 0, "farewells are relayed");
    world.events();
    world.pass(seconds(1));
    assert!(matches!(
        &world.events()[..],
        [Event::Ended { client, reason: End::Left, .. }] if *client == gone.client
    ));
    assert_eq!(world.server.stats().left, 1);
    assert_eq!(world.allocate(&gone).code(), 401);
    assert_eq!(world.refresh(&stays, 600).code(), 0);
}
