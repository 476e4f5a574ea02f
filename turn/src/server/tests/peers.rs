//! Which peers an allocation may talk with.

use super::*;
use crate::credentials::Reach;
use crate::policy::Prefix;

#[test]
fn internal_peers_are_403_and_public_ones_are_not() {
    let mut world = World::new();
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    for peer in [
        "127.0.0.1:1",
        "10.0.0.1:1",
        "192.168.1.1:1",
        "169.254.169.254:80",
        "0.0.0.0:1",
    ] {
        assert_eq!(world.permit(&user, &[peer]), 403, "{peer}");
        assert_eq!(world.bind(&user, 0x4000, peer), 403, "{peer}");
    }
    assert_eq!(world.permit(&user, &["1.1.1.1:1", "10.0.0.1:1"]), 403);
    let from = address("1.1.1.1:1");
    assert_eq!(
        world.server.handle_peer(
            RelayPort {
                family: Family::V4,
                port: 30_000
            },
            from,
            5,
            world.now
        ),
        Way::Nowhere
    );
    assert_eq!(world.permit(&user, &["1.1.1.1:1"]), 0);
}

#[test]
fn our_sfu_may_always_be_reached_and_nothing_else_of_the_machine() {
    let mut world = World::with(|config| {
        config.peers.deny = vec![Prefix::new(ip("0.0.0.0"), 0).expect("a prefix")];
    });
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    for peer in [SFU, "192.168.1.9:7882"] {
        assert_eq!(world.permit(&user, &[peer]), 0);
        let way = world.server.handle_client(
            user.client,
            &send_indication(address(peer), b"hi"),
            world.now,
        );
        assert!(matches!(way, Way::Sfu { to, .. } if to == address(peer)));
    }
    // The IP was let in for the SFU: no other port of it is reached.
    for peer in ["9.9.9.9:6379", "192.168.1.9:53", "9.9.9.9:3479"] {
        world.permit(&user, &[peer]);
        let way = world.server.handle_client(
            user.client,
            &send_indication(address(peer), b"hi"),
            world.now,
        );
        assert_eq!(way, Way::Nowhere, "{peer}");
    }
}

#[test]
fn an_address_of_the_machine_is_403_where_the_sfu_has_none() {
    let mut world = World::with(|config| config.own.sfu.clear());
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(world.permit(&user, &["9.9.9.9:6379"]), 403);
}

#[test]
fn who_may_reach_ours_alone_reaches_the_sfu_and_no_relay_nor_other_peer() {
    let mut world = World::with(|config| {
        config.relay_ports = (30_000, 30_000);
        // Not even what is let in by name.
        config.peers.allow = vec![Prefix::new(ip("10.0.0.0"), 8).expect("a prefix")];
        config.credentials.lookup = Some(std::sync::Arc::new(|name| {
            (name == "participant").then(|| crate::credentials::Login {
                password: Secret::new("ticket"),
                user: name.into(),
                expires_unix_s: None,
                reach: Reach::Ours,
            })
        }));
    });
    let (alice, relayed) = world.allocated("alice", "1.2.3.4:6");
    let user = world.user_with("participant", "ticket", client("1.2.3.4:5"));
    assert_eq!(world.allocate(&user).code(), 0);
    for peer in ["1.1.1.1:1", "10.1.1.1:1", "192.168.1.1:1"] {
        assert_eq!(world.permit(&user, &[peer]), 403, "{peer}");
        assert_eq!(world.bind(&user, 0x4000, peer), 403, "{peer}");
        let data = send_indication(address(peer), b"hi");
        let way = world.server.handle_client(user.client, &data, world.now);
        assert_eq!(way, Way::Nowhere, "{peer}");
    }
    let to_sfu = |world: &mut World| {
        let data = send_indication(address(SFU), b"hi");
        let way = world.server.handle_client(user.client, &data, world.now);
        matches!(way, Way::Sfu { .. })
    };
    assert_eq!(world.permit(&user, &[SFU]), 0);
    assert!(to_sfu(&mut world));
    // What has the SFU's IP may be named, and opens no way: those between relays are others' to take.
    assert_eq!(world.bind(&user, 0x4001, &relayed.to_string()), 0);
    let data = channel_data(0x4001, b"hi");
    let way = world.server.handle_client(user.client, &data, world.now);
    assert_eq!(way, Way::Nowhere);
    let (bob, his) = world.allocated("bob", "1.2.3.5:6");
    assert_eq!(his, relayed, "all have one relayed address");
    assert_eq!(world.permit(&alice, &[&his.to_string()]), 0);
    assert_eq!(world.permit(&bob, &["2.2.2.2:2"]), 0);
    // Where we are has changed: it reaches the new address.
    let mut own = world.server.config.own.clone();
    own.sfu.push(address("8.8.8.8:7882"));
    world.server.set_own(own, world.now);
    assert_eq!(world.permit(&user, &["8.8.8.8:7882"]), 0);
}

#[test]
fn what_our_router_leads_to_is_403_but_for_the_sfu_and_the_relays() {
    // The external address is the router's, not the machine's; the SFU has another.
    let mut world = World::with(|config| {
        config.own.host = vec![ip("192.168.1.9")];
        config.own.sfu.retain(|at| at.ip() != ip("9.9.9.9"));
    });
    let (alice, _) = world.allocated("alice", "1.2.3.4:5");
    let (bob, relayed) = world.allocated("bob", "1.2.3.4:6");
    for peer in ["9.9.9.9:80", "9.9.9.9:3479", "9.9.9.9:40000"] {
        assert_eq!(world.permit(&alice, &[peer]), 403, "{peer}");
        assert_eq!(world.bind(&alice, 0x4000, peer), 403, "{peer}");
    }
    assert_eq!(world.permit(&alice, &[&relayed.to_string()]), 0);
    assert_eq!(world.permit(&bob, &["192.168.1.9:7882"]), 0);
}

#[test]
fn a_neighbour_behind_our_router_is_reached_by_its_exact_address_where_that_is_let_in() {
    let mut world = World::with(|config| {
        config.own.host = vec![ip("192.168.1.9")];
        config.peers.allow = vec![Prefix::new(ip("9.9.9.9"), 32).expect("a prefix")];
    });
    let (alice, relayed) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(world.permit(&alice, &["9.9.9.9:40000"]), 0);
    let way = world
        .server
        .handle_peer(at(relayed), address("9.9.9.9:40000"), 3, world.now);
    assert!(matches!(way, Way::Client { .. }));
    let way = world
        .server
        .handle_peer(at(relayed), address("9.9.9.9:40001"), 3, world.now);
    assert_eq!(way, Way::Nowhere);
}

#[test]
fn a_peer_on_a_port_belongs_to_one_allocation_until_its_permission_ends() {
    let mut world = World::with(|config| config.relay_ports = (30_000, 30_000));
    let (alice, relayed) = world.allocated("alice", "1.2.3.4:5");
    let (bob, same) = world.allocated("bob", "1.2.3.5:5");
    assert_eq!(relayed, same);
    assert_eq!(world.permit(&alice, &["1.1.1.1:1"]), 0);
    assert_eq!(world.permit(&bob, &["1.1.1.1:2"]), 403);
    assert_eq!(world.bind(&bob, 0x4000, "1.1.1.1:2"), 403);
    assert_eq!(world.server.stats().peer_taken, 2);
    assert_eq!(world.permit(&bob, &["2.2.2.2:2"]), 0);
    let goes_to = |world: &mut World, peer: &str| match world.server.handle_peer(
        at(relayed),
        address(peer),
        3,
        world.now,
    ) {
        Way::Client { to, .. } => Some(to),
        _ => None,
    };
    assert_eq!(goes_to(&mut world, "1.1.1.1:77"), Some(alice.client));
    assert_eq!(goes_to(&mut world, "2.2.2.2:77"), Some(bob.client));
    assert_eq!(goes_to(&mut world, "3.3.3.3:77"), None);
    world.pass(seconds(299));
    assert_eq!(world.permit(&bob, &["1.1.1.1:2", "2.2.2.2:1"]), 403);
    world.now += seconds(1);
    // Expired though nobody has swept it yet.
    assert_eq!(world.permit(&bob, &["1.1.1.1:2"]), 0);
    world.pass(seconds(0));
    assert_eq!(goes_to(&mut world, "1.1.1.1:77"), Some(bob.client));
    assert_eq!(world.permit(&alice, &["1.1.1.1:1"]), 403);
    world.refresh(&bob, 0);
    assert_eq!(world.permit(&alice, &["1.1.1.1:1"]), 0);
}

#[test]
fn hundreds_reach_the_sfu_over_one_port() {
    let mut world = World::with(|config| {
        config.relay_ports = (30_000, 30_000);
        config.limits.unknown_answers_burst = 10_000;
    });
    for n in 0..300_u32 {
        let name = format!("1700009999:{n}");
        let password = crate::credentials::password_of(&Secret::new("north"), &name);
        let client = client(&format!("1.2.{}.{}:5", n / 200, n % 200));
        let user = world.user_with(&name, password.expose(), client);
        assert_eq!(world.allocate(&user).code(), 0);
        assert_eq!(world.bind(&user, 0x4000, SFU), 0);
        let way = world
            .server
            .handle_client(client, &channel_data(0x4000, b"x"), world.now);
        assert!(matches!(way, Way::Sfu { allocation, .. } if allocation.slot == n));
    }
    assert_eq!(world.server.stats().allocations, 300);
}

#[test]
fn too_many_peers_are_508_and_nothing_of_them_is_let_in() {
    let mut world = World::with(|config| {
        config.limits.permissions = 3;
        config.limits.channels = 2;
    });
    let (user, relayed) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(
        world.permit(&user, &["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "1.1.1.4:1"]),
        508
    );
    assert_eq!(
        world
            .server
            .handle_peer(at(relayed), address("1.1.1.1:1"), 1, world.now),
        Way::Nowhere
    );
    assert_eq!(
        world.permit(&user, &["1.1.1.1:1", "1.1.1.1:2", "1.1.1.2:1", "1.1.1.3:1"]),
        0
    );
    assert_eq!(world.permit(&user, &["1.1.1.4:1"]), 508);
    assert_eq!(world.bind(&user, 0x4000, "1.1.1.1:1"), 0);
    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:2"), 0);
    assert_eq!(world.bind(&user, 0x4002, "1.1.1.1:3"), 508);
}

#[test]
fn channels_and_permissions_that_make_no_sense_are_400_or_443() {
    let mut world = World::new();
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(world.permit(&user, &[]), 400);
    assert_eq!(world.permit(&user, &["[2600::1]:1"]), 443);
    assert_eq!(world.bind(&user, 0x4000, "[2600::1]:1"), 443);
    assert_eq!(world.bind(&user, 0x3FFF, "1.1.1.1:1"), 400);
    assert_eq!(world.bind(&user, 0x8000, "1.1.1.1:1"), 400);
    assert_eq!(world.bind(&user, 0x4000, "1.1.1.1:1"), 0);
    assert_eq!(world.bind(&user, 0x4000, "1.1.1.1:1"), 0);
    assert_eq!(world.bind(&user, 0x4000, "1.1.1.1:2"), 400);
    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:1"), 400);
    let bare = world.ask(&user, Method::ChannelBind, |_| {});
    assert_eq!(bare.code(), 400);
    let short = world.ask(&user, Method::CreatePermission, |writer| {
        writer.bytes(XOR_PEER_ADDRESS, &[0, 1, 2]);
    });
    assert_eq!(short.code(), 400);
}

#[test]
fn neighbours_of_the_machine_are_403_unless_let_in_by_name_but_for_the_sfu_and_the_relays() {
    let link = |text, bits| Prefix::new(ip(text), bits).expect("a prefix");
    let neighbours = ["9.9.9.7:80", "[2600::20]:22"];
    let codes = |allow: Vec<Prefix>| {
        let mut world = World::with(|config| {
            config.own.links = vec![link("9.9.9.9", 24), link("2600::9", 64)];
            config.peers.allow = allow;
        });
        let (alice, relayed) = world.allocated("alice", "1.2.3.4:5");
        for peer in [SFU, &relayed.to_string(), "9.9.8.7:80"] {
            assert_eq!(world.permit(&alice, &[peer]), 0, "{peer}");
        }
        let bob = world.user("bob", "1.2.3.4:6");
        let six = world.ask(&bob, Method::Allocate, |writer| {
            writer
                .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .bytes(REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
        });
        assert_eq!(six.code(), 0);
        let [v4, v6] = neighbours;
        [world.permit(&alice, &[v4]), world.permit(&bob, &[v6])]
    };
    assert_eq!(codes(Vec::new()), [403, 403]);
    let by_name = vec![link("9.9.9.7", 32), link("2600::", 64)];
    assert_eq!(codes(by_name), [0, 0]);
}

#[test]
fn our_own_addresses_and_neighbours_are_403_however_they_are_spelled() {
    let link = |text, bits| Prefix::new(ip(text), bits).expect("a prefix");
    let codes = |allow: Vec<Prefix>| {
        let mut world = World::with(|config| {
            config.own.links = vec![link("9.9.9.9", 24)];
            config.peers.allow = allow;
        });
        let alice = world.user("alice", "1.2.3.4:5");
        let six = world.ask(&alice, Method::Allocate, |writer| {
            writer
                .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .bytes(REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
        });
        assert_eq!(six.code(), 0);
        let spelled = ["64:ff9b::909:909", "2002:909:909::1", "64:ff9b::909:907"];
        spelled.map(|ip| world.permit(&alice, &[&format!("[{ip}]:22")]))
    };
    assert_eq!(codes(Vec::new()), [403; 3]);
    // The name of the whole range is not that of our own in it.
    assert_eq!(codes(vec![link("64:ff9b::", 96)]), [403; 3]);
    assert_eq!(codes(vec![link("9.9.9.9", 32)]), [0, 0, 403]);
}

#[test]
fn where_we_were_calls_go_on_for_the_lifetime_of_a_permission() {
    let mut world = World::with(|config| {
        config.own.host = vec![ip("192.168.1.9")];
        config.own.sfu = vec![address(SFU), address("192.168.1.9:7882")];
    });
    let (alice, hers) = world.allocated("alice", "1.2.3.4:5");
    let (bob, his) = world.allocated("bob", "1.2.3.4:6");
    assert_eq!(world.bind(&alice, 0x4000, SFU), 0);
    assert_eq!(world.bind(&alice, 0x4001, &his.to_string()), 0);
    assert_eq!(world.permit(&bob, &[&hers.to_string()]), 0);
    let works = |world: &mut World| {
        let mut goes = |data| {
            world
                .server
                .handle_client(alice.client, &channel_data(data, b"hi"), world.now)
        };
        let (to_sfu, across) = (goes(0x4000), goes(0x4001));
        let Way::Sfu { allocation, to, .. } = to_sfu else {
            return [false, false, across != Way::Nowhere];
        };
        assert_eq!(to, address(SFU));
        let back = world.server.handle_sfu(allocation, to, 2, world.now);
        [
            true,
            back != Way::Nowhere,
            matches!(across, Way::Client { to, .. } if to == bob.client),
        ]
    };
    assert_eq!(works(&mut world), [true; 3]);
    let moved = Own {
        external: vec![ip("8.8.4.4")],
        sfu: vec![address("8.8.4.4:7882"), address("192.168.1.9:7882")],
        ..world.server.config.own.clone()
    };
    world.server.set_own(moved, world.now);
    assert_eq!(works(&mut world), [true; 3]);
    world.pass(seconds(299));
    // Asked for again, it lives on; all else of the address is closed as it was.
    let kept = [SFU, &his.to_string()];
    assert_eq!(world.permit(&alice, &kept), 0);
    assert_eq!(world.permit(&bob, &[&hers.to_string()]), 0);
    assert_eq!(world.permit(&alice, &["9.9.9.9:31000"]), 0);
    assert_eq!(works(&mut world), [true; 3]);
    world.pass(seconds(1));
    assert_eq!(works(&mut world), [false; 3], "somebody else may have it");
}
