//! What is carried, where, and in which form.

use super::*;
use crate::address::Transport;

#[test]
fn channel_data_and_indications_go_to_the_peer_and_its_answers_come_back() {
    let mut world = World::new();
    let (user, relayed) = world.allocated("alice", "1.2.3.4:5");
    let peer = address("1.1.1.1:7");
    assert_eq!(world.permit(&user, &["1.1.1.1:7"]), 0);
    let sent = send_indication(peer, b"hello");
    let Way::Peer {
        from,
        source,
        to,
        payload,
        dont_fragment,
    } = world.server.handle_client(user.client, &sent, world.now)
    else {
        panic!("it goes to the peer");
    };
    assert_eq!(
        (from, to, &sent[payload], dont_fragment),
        (at(relayed), peer, &b"hello"[..], false)
    );
    assert_eq!(source, Some(relayed.ip()));
    let Way::Client { to, head, payload } =
        world.server.handle_peer(at(relayed), peer, 5, world.now)
    else {
        panic!("it goes to the client");
    };
    let whole = [head.bytes(), &b"world"[payload], head.padding()].concat();
    let message = Message::parse(&whole).expect("a message");
    assert_eq!(
        (to, message.address(XOR_PEER_ADDRESS)),
        (user.client, Some(peer))
    );
    assert_eq!(message.attribute(DATA), Some(&b"world"[..]));

    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:7"), 0);
    let sent = channel_data(0x4001, b"again");
    let way = world.server.handle_client(user.client, &sent, world.now);
    assert!(matches!(way, Way::Peer { to, payload, .. } if to == peer && payload == (4..9)));
    let way = world.server.handle_peer(at(relayed), peer, 5, world.now);
    assert!(matches!(way, Way::Client { head, .. } if head.bytes() == [0x40, 1, 0, 5]));
    // Another port of the peer has the permission, but not the channel.
    let way = world
        .server
        .handle_peer(at(relayed), address("1.1.1.1:8"), 5, world.now);
    assert!(matches!(way, Way::Client { head, .. } if head.bytes().len() == 36));
    let traffic = world.server.stats().traffic;
    assert_eq!(
        (traffic.packets_in, traffic.bytes_in, traffic.packets_out),
        (2, 10, 3)
    );
}

#[test]
fn behind_a_router_the_machine_chooses_from_which_address_it_sends() {
    let mut world = World::with(|config| config.own.host = vec![ip("192.168.1.9")]);
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(world.permit(&user, &["1.1.1.1:7"]), 0);
    let sent = send_indication(address("1.1.1.1:7"), b"hello");
    let way = world.server.handle_client(user.client, &sent, world.now);
    assert!(matches!(way, Way::Peer { source: None, .. }));
}

#[test]
fn channel_data_to_a_stream_is_padded() {
    let mut world = World::new();
    let mut stream = client("1.2.3.4:5");
    stream.transport = Transport::Tcp;
    let user = world.user_with("alice", "alice's", stream);
    let relayed = world.allocate(&user).relayed();
    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:7"), 0);
    let way = world
        .server
        .handle_peer(at(relayed), address("1.1.1.1:7"), 5, world.now);
    assert!(matches!(way, Way::Client { head, .. } if head.padding().len() == 3));
}

#[test]
fn nothing_passes_without_permission_and_nothing_when_it_has_ended() {
    let mut world = World::new();
    let (user, relayed) = world.allocated("alice", "1.2.3.4:5");
    let peer = address("1.1.1.1:7");
    let send = send_indication(peer, b"hello");
    let both_ways = |world: &mut World, open: bool| {
        let out = world.server.handle_client(user.client, &send, world.now);
        let back = world.server.handle_peer(at(relayed), peer, 5, world.now);
        assert_eq!((out != Way::Nowhere, back != Way::Nowhere), (open, open));
    };
    both_ways(&mut world, false);
    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:7"), 0);
    both_ways(&mut world, true);
    world.now += seconds(300);
    both_ways(&mut world, false);
    let data = channel_data(0x4001, b"again");
    assert_eq!(
        world.server.handle_client(user.client, &data, world.now),
        Way::Nowhere
    );
    assert_eq!(world.permit(&user, &["1.1.1.1:9"]), 0);
    both_ways(&mut world, true);
    assert_ne!(
        world.server.handle_client(user.client, &data, world.now),
        Way::Nowhere
    );
    world.now += seconds(300);
    assert_eq!(
        world.server.handle_client(user.client, &data, world.now),
        Way::Nowhere
    );
    assert!(world.server.stats().drops.unpermitted >= 4);
}

#[test]
fn truncated_or_strange_data_is_dropped() {
    let mut world = World::new();
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:7"), 0);
    let whole = channel_data(0x4001, b"again");
    for len in 0..whole.len() {
        assert_eq!(
            world
                .server
                .handle_client(user.client, &whole[..len], world.now),
            Way::Nowhere
        );
    }
    // Padding after it is no harm. (RFC 8656 §12.5)
    let padded = [&whole[..], &[0; 3]].concat();
    assert!(
        matches!(world.server.handle_client(user.client, &padded, world.now), Way::Peer { payload, .. } if payload == (4..9))
    );
    let unbound = channel_data(0x4002, b"again");
    assert_eq!(
        world.server.handle_client(user.client, &unbound, world.now),
        Way::Nowhere
    );
    assert_eq!(world.server.stats().drops.unbound, 1);
    let mut out = Vec::new();
    Writer::new(&mut out, Method::Send, Class::Indication, &[1; 12])
        .address(XOR_PEER_ADDRESS, address("1.1.1.1:7"))
        .finish(false);
    assert_eq!(
        world.server.handle_client(user.client, &out, world.now),
        Way::Nowhere
    );
    let mut out = Vec::new();
    Writer::new(&mut out, Method::Send, Class::Indication, &[1; 12])
        .address(XOR_PEER_ADDRESS, address("1.1.1.1:7"))
        .bytes(DATA, b"x")
        .bytes(0x7001, b"x")
        .finish(false);
    assert_eq!(
        world.server.handle_client(user.client, &out, world.now),
        Way::Nowhere
    );
}

#[test]
fn port_0_is_never_answered_nor_sent_to() {
    let mut world = World::new();
    let (user, relayed) = world.allocated("alice", "1.2.3.4:5");
    assert!(
        world
            .unsigned(client("1.2.3.4:0"), Method::Binding)
            .is_none()
    );
    assert_eq!(world.permit(&user, &["1.1.1.1:0"]), 0);
    assert_eq!(world.bind(&user, 0x4000, "1.1.1.1:0"), 400);
    let peer = address("1.1.1.1:0");
    let sent = send_indication(peer, b"x");
    let way = world.server.handle_client(user.client, &sent, world.now);
    assert_eq!(way, Way::Nowhere);
    let way = world.server.handle_peer(at(relayed), peer, 1, world.now);
    assert_eq!(way, Way::Nowhere);
}

#[test]
fn dont_fragment_is_passed_on() {
    let mut world = World::new();
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(world.permit(&user, &["1.1.1.1:7"]), 0);
    let mut out = Vec::new();
    Writer::new(&mut out, Method::Send, Class::Indication, &[1; 12])
        .address(XOR_PEER_ADDRESS, address("1.1.1.1:7"))
        .bytes(DONT_FRAGMENT, &[])
        .bytes(DATA, b"x")
        .finish(false);
    let way = world.server.handle_client(user.client, &out, world.now);
    assert!(matches!(
        way,
        Way::Peer {
            dont_fragment: true,
            ..
        }
    ));
}

#[test]
fn the_sfu_is_handed_what_is_for_it_by_allocation_and_answers_so() {
    let mut world = World::with(|config| config.relay_ports = (30_000, 30_000));
    let (alice, relayed) = world.allocated("alice", "1.2.3.4:5");
    let (bob, same) = world.allocated("bob", "1.2.3.5:5");
    assert_eq!(relayed, same, "they have one relayed address");
    let sfu = address(SFU);
    let mut ids = Vec::new();
    for user in [&alice, &bob] {
        assert_eq!(world.bind(user, 0x4001, SFU), 0);
        let sent = channel_data(0x4001, b"stun");
        let Way::Sfu {
            allocation,
            relayed: from,
            to,
            payload,
        } = world.server.handle_client(user.client, &sent, world.now)
        else {
            panic!("it goes to the SFU");
        };
        assert_eq!((from, to, &sent[payload]), (relayed, sfu, &b"stun"[..]));
        ids.push((allocation, user.client));
    }
    for (allocation, client) in &ids {
        let way = world.server.handle_sfu(*allocation, sfu, 5, world.now);
        assert!(matches!(way, Way::Client { to, .. } if to == *client));
    }
    assert_ne!(ids[0].0, ids[1].0);
    world.refresh(&alice, 0);
    world.allocated("carol", "1.2.3.6:5");
    assert_eq!(
        world.server.handle_sfu(ids[0].0, sfu, 5, world.now),
        Way::Nowhere
    );
    assert_eq!(world.server.stats().drops.stale, 1);
}

#[test]
fn two_clients_of_ours_reach_each_other_without_a_socket() {
    let mut world = World::new();
    let (alice, hers) = world.allocated("alice", "1.2.3.4:5");
    let (bob, his) = world.allocated("bob", "1.2.3.5:5");
    assert_eq!(world.permit(&alice, &[&his.to_string()]), 0);
    let sent = send_indication(his, b"hello");
    assert_eq!(
        world.server.handle_client(alice.client, &sent, world.now),
        Way::Nowhere,
        "he has not let her in"
    );
    assert_eq!(world.bind(&bob, 0x4002, &hers.to_string()), 0);
    let Way::Client { to, head, payload } =
        world.server.handle_client(alice.client, &sent, world.now)
    else {
        panic!("it goes to the other client");
    };
    assert_eq!(
        (to, head.bytes(), &sent[payload]),
        (bob.client, &[0x40, 2, 0, 5][..], &b"hello"[..])
    );
    let way = world
        .server
        .handle_client(bob.client, &channel_data(0x4002, b"hi"), world.now);
    assert!(matches!(way, Way::Client { to, .. } if to == alice.client));
}

#[test]
fn bandwidth_of_an_allocation_is_bounded_each_way() {
    let mut world = World::with(|config| config.limits.allocation_bytes_s = 1000);
    let (user, relayed) = world.allocated("alice", "1.2.3.4:5");
    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:7"), 0);
    let data = channel_data(0x4001, &[0; 100]);
    let mut passed = (0, 0);
    for _ in 0..30 {
        let way = world.server.handle_client(user.client, &data, world.now);
        passed.0 += usize::from(way != Way::Nowhere);
        let way = world
            .server
            .handle_peer(at(relayed), address("1.1.1.1:7"), 100, world.now);
        passed.1 += usize::from(way != Way::Nowhere);
    }
    assert_eq!(passed, (10, 10));
    assert_eq!(world.server.stats().drops.bandwidth, 40);
}

#[test]
fn bandwidth_of_a_user_and_of_all_is_bounded_however_many_allocations_there_are() {
    let mut world = World::with(|config| {
        config.limits.user_bytes_s = 1000;
        config.limits.total_bytes_s = 1500;
    });
    let alice = ["1.2.3.4:5", "1.2.3.4:6"].map(|at| world.allocated("alice", at));
    let bob = world.allocated("bob", "1.2.3.5:5");
    for (user, _) in alice.iter().chain([&bob]) {
        assert_eq!(world.permit(user, &["1.1.1.1:7"]), 0);
    }
    let sent = send_indication(address("1.1.1.1:7"), &[0; 100]);
    let mut pass = |user: &User, relayed, count: usize| {
        let mut passed = (0, 0);
        for _ in 0..count {
            let way = world.server.handle_client(user.client, &sent, world.now);
            passed.0 += usize::from(way != Way::Nowhere);
            let peer = address("1.1.1.1:7");
            let way = world.server.handle_peer(at(relayed), peer, 100, world.now);
            passed.1 += usize::from(way != Way::Nowhere);
        }
        let drops = world.server.stats().drops;
        (passed, drops.user_bandwidth, drops.total_bandwidth)
    };
    let [first, second] = &alice;
    assert_eq!(pass(&first.0, first.1, 7), ((7, 7), 0, 0));
    assert_eq!(pass(&second.0, second.1, 7), ((3, 3), 8, 0));
    assert_eq!(pass(&bob.0, bob.1, 7), ((5, 5), 8, 4));
    assert_eq!(world.server.stats().drops.bandwidth, 0);
}

#[test]
fn relaying_allocates_nothing() {
    let mut world = World::new();
    let (user, relayed) = world.allocated("alice", "1.2.3.4:5");
    let (bob, his) = world.allocated("bob", "1.2.3.5:5");
    assert_eq!(world.bind(&user, 0x4001, "1.1.1.1:7"), 0);
    assert_eq!(world.bind(&user, 0x4002, SFU), 0);
    assert_eq!(world.bind(&user, 0x4003, &his.to_string()), 0);
    assert_eq!(world.permit(&bob, &[&relayed.to_string()]), 0);
    let datagrams = [
        channel_data(0x4001, &[0; 172]),
        channel_data(0x4002, &[0; 172]),
        channel_data(0x4003, &[0; 172]),
        send_indication(address("1.1.1.1:7"), &[0; 172]),
    ];
    let Way::Sfu { allocation, .. } =
        world
            .server
            .handle_client(user.client, &datagrams[1], world.now)
    else {
        panic!("to the SFU");
    };
    let counted = allocation_counter::measure(|| {
        for datagram in &datagrams {
            assert_ne!(
                world.server.handle_client(user.client, datagram, world.now),
                Way::Nowhere
            );
        }
        for peer in ["1.1.1.1:7", "1.1.1.1:8"] {
            assert_ne!(
                world
                    .server
                    .handle_peer(at(relayed), address(peer), 172, world.now),
                Way::Nowhere
            );
        }
        assert_ne!(
            world
                .server
                .handle_sfu(allocation, address(SFU), 172, world.now),
            Way::Nowhere
        );
    });
    assert_eq!(counted.count_total, 0);
}
