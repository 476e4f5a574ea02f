//! Every code that is answered, where the RFCs say so; and what is ignored on purpose.

use super::*;
use std::collections::BTreeSet;

/// A rule, the code it ends with, and how it comes to it.
struct Rule(&'static str, u16, fn(&mut World) -> u16);

type Attribute = (u16, &'static [u8]);

const UDP: Attribute = (REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
const TOKEN: Attribute = (RESERVATION_TOKEN, &[1; 8]);
const IPV4: Attribute = (REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
const IPV6: Attribute = (REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
const AND_IPV6: Attribute = (ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
const PEER: &str = "1.1.1.1:7";

/// Alice, who has proved nothing yet.
fn alice(world: &mut World) -> User {
    world.user("alice", "1.2.3.4:5")
}

/// Alice asks for an allocation with these attributes.
fn allocate(world: &mut World, attributes: &[Attribute]) -> u16 {
    let user = alice(world);
    with(world, &user, Method::Allocate, attributes).code()
}

fn with(world: &mut World, user: &User, method: Method, attributes: &[Attribute]) -> Answer {
    world.ask(user, method, |writer| {
        for (kind, value) in attributes {
            writer.bytes(*kind, value);
        }
    })
}

/// Alice, who has an IPv4 allocation, asks for something.
fn then(world: &mut World, method: Method, attributes: &[Attribute]) -> u16 {
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    with(world, &user, method, attributes).code()
}

/// Alice, who has none, does.
fn without(world: &mut World, method: Method, attributes: &[Attribute]) -> u16 {
    let user = alice(world);
    with(world, &user, method, attributes).code()
}

fn bind(world: &mut World, all: &[(u16, &str)]) -> u16 {
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    let codes = all
        .iter()
        .map(|(number, peer)| world.bind(&user, *number, peer));
    codes.last().expect("some")
}

fn permit(world: &mut World, peers: &[&str]) -> u16 {
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    world.permit(&user, peers)
}

fn with_password(world: &mut World, name: &str, password: &str) -> u16 {
    let user = world.user_with(name, password, client("1.2.3.4:5"));
    world.allocate(&user).code()
}

const AUTHENTICATION: &[Rule] = &[
    Rule("8489 §9.2.4: no integrity", 401, |world| {
        let answer = world.unsigned(client("1.2.3.4:5"), Method::Allocate);
        answer.expect("an answer").code()
    }),
    Rule("8489 §9.2.4: a name that is not valid", 401, |world| {
        with_password(world, "mallory", "x")
    }),
    Rule("8489 §9.2.4: the integrity does not match", 401, |world| {
        with_password(world, "alice", "x")
    }),
    Rule("8489 §9.2.4: integrity without a name", 400, |world| {
        let user = alice(world);
        let mut out = Vec::new();
        Writer::new(&mut out, Method::Allocate, Class::Request, &[1; 12])
            .bytes(REALM, REALM_TEXT.as_bytes())
            .bytes(NONCE, &user.nonce)
            .sign(&user.key, false)
            .finish(false);
        world.say(user.client, &out).expect("an answer").code()
    }),
    Rule("8489 §9.2.4: an algorithm without the list", 400, |world| {
        let user = alice(world);
        let bytes = signed(&user, Method::Allocate, [1; 12], |writer| {
            writer.bytes(PASSWORD_ALGORITHM, &[0, 1, 0, 0]);
        });
        world.say(user.client, &bytes).expect("an answer").code()
    }),
    Rule("8489 §9.2.4: the nonce is no longer valid", 438, |world| {
        let user = alice(world);
        world.now += seconds(3600);
        world.allocate(&user).code()
    }),
    Rule("8489 §6.3.1: unknown, and must be known", 420, |world| {
        allocate(world, &[UDP, (0x7FFF, &[])])
    }),
    Rule(
        "7635 §4: no third party vouches for anybody",
        420,
        |world| allocate(world, &[UDP, (0x001B, &[1; 4])]),
    ),
    Rule(
        "8656 §5: another name than the allocation's",
        441,
        |world| {
            world.allocated("alice", "1.2.3.4:5");
            let bob = world.user("bob", "1.2.3.4:5");
            world.refresh(&bob, 600).code()
        },
    ),
];

const ALLOCATING: &[Rule] = &[
    Rule("8656 §7.2 step 2: one is there already", 437, |world| {
        then(world, Method::Allocate, &[UDP])
    }),
    Rule("8656 §7.2 step 3: no transport", 400, |world| {
        allocate(world, &[])
    }),
    Rule(
        "8656 §7.2 step 3: a transport without value",
        400,
        |world| allocate(world, &[(REQUESTED_TRANSPORT, &[])]),
    ),
    Rule("8656 §7.2 step 3: TCP relays of RFC 6062", 442, |world| {
        allocate(world, &[(REQUESTED_TRANSPORT, &[6, 0, 0, 0])])
    }),
    Rule("8656 §7.2 step 4: we can forbid fragments", 0, |world| {
        allocate(world, &[UDP, (DONT_FRAGMENT, &[])])
    }),
    Rule("8656 §7.2 step 5: token and even port", 400, |world| {
        allocate(world, &[UDP, TOKEN, (EVEN_PORT, &[0])])
    }),
    Rule("8656 §7.2 step 5: token and family", 400, |world| {
        allocate(world, &[UDP, TOKEN, IPV4])
    }),
    Rule("8656 §7.2 step 5: token and second family", 400, |world| {
        allocate(world, &[UDP, TOKEN, AND_IPV6])
    }),
    Rule(
        "8656 §7.2 step 5: nothing kept by this token",
        508,
        |world| allocate(world, &[UDP, TOKEN]),
    ),
    Rule(
        "8656 §7.2 step 6: a family and a second one",
        400,
        |world| allocate(world, &[UDP, IPV6, AND_IPV6]),
    ),
    Rule("8656 §7.2 step 7: no such family", 440, |world| {
        allocate(world, &[UDP, (REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0])])
    }),
    Rule("8656 §7.2 step 7: no relays of this family", 440, |world| {
        let six = Own {
            external: vec![ip("2600::9")],
            ..Own::default()
        };
        world.server.set_own(six, world.now);
        allocate(world, &[UDP])
    }),
    Rule(
        "8656 §7.2 step 8: pair of ports, two families",
        400,
        |world| allocate(world, &[UDP, AND_IPV6, (EVEN_PORT, &[0x80])]),
    ),
    Rule("8656 §7.2 step 9: IPv4 is never the second", 400, |world| {
        let second = (ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0][..]);
        allocate(world, &[UDP, second])
    }),
    Rule("8656 §7.2: one more than a user may have", 486, |world| {
        world.allocated("alice", "1.2.3.4:1");
        world.allocated("alice", "1.2.3.4:2");
        allocate(world, &[UDP])
    }),
    Rule("8656 §7.2: one more than there may be", 508, |world| {
        for (name, at) in [
            ("bob", "1.2.3.4:1"),
            ("bob", "1.2.3.4:2"),
            ("carol", "1.2.3.4:3"),
        ] {
            world.allocated(name, at);
        }
        allocate(world, &[UDP])
    }),
    Rule(
        "8656 §7.2: no port that could be told apart",
        508,
        |world| {
            world.allocated("alice", "1.2.3.4:1");
            allocate(world, &[UDP])
        },
    ),
    Rule("an attribute that is none", 400, |world| {
        allocate(world, &[UDP, (EVEN_PORT, &[])])
    }),
    Rule("a family that is none", 400, |world| {
        allocate(world, &[UDP, (REQUESTED_ADDRESS_FAMILY, &[])])
    }),
    Rule("a lifetime that is none", 400, |world| {
        allocate(world, &[UDP, (LIFETIME, &[1, 2])])
    }),
];

const USING: &[Rule] = &[
    Rule("8656 §8.2: nothing to refresh", 437, |world| {
        without(world, Method::Refresh, &[])
    }),
    Rule("8656 §8.2: a family it does not have", 443, |world| {
        then(world, Method::Refresh, &[IPV6])
    }),
    Rule("a lifetime that is none", 400, |world| {
        then(world, Method::Refresh, &[(LIFETIME, &[0; 8])])
    }),
    Rule("8656 §10.2: no allocation", 437, |world| {
        without(world, Method::CreatePermission, &[])
    }),
    Rule("8656 §10.2: no peer", 400, |world| {
        then(world, Method::CreatePermission, &[])
    }),
    Rule("8656 §10.2: a peer that is no address", 400, |world| {
        let peer = (XOR_PEER_ADDRESS, &[0, 1, 2][..]);
        then(world, Method::CreatePermission, &[peer])
    }),
    Rule("8656 §10.2: a peer of another family", 443, |world| {
        permit(world, &["[2600::1]:7"])
    }),
    Rule("8656 §10.2: a peer that is not allowed", 403, |world| {
        permit(world, &["10.0.0.1:7"])
    }),
    Rule("8656 §10.2: more peers than there may be", 508, |world| {
        permit(world, &[PEER, "1.1.1.2:7", "1.1.1.3:7"])
    }),
    Rule("8656 §12.2: no allocation", 437, |world| {
        without(world, Method::ChannelBind, &[])
    }),
    Rule("8656 §12.2: neither number nor peer", 400, |world| {
        then(world, Method::ChannelBind, &[])
    }),
    Rule("8656 §12.2: a number that is no channel's", 400, |world| {
        bind(world, &[(0x3FFF, PEER)])
    }),
    Rule("8656 §12.2: the number has another peer", 400, |world| {
        bind(world, &[(0x4000, PEER), (0x4000, "1.1.1.1:8")])
    }),
    Rule("8656 §12.2: the peer has another number", 400, |world| {
        bind(world, &[(0x4000, PEER), (0x4001, PEER)])
    }),
    Rule("8656 §12.2: a peer of another family", 443, |world| {
        bind(world, &[(0x4000, "[2600::1]:7")])
    }),
    Rule("8656 §12.2: a peer that is not allowed", 403, |world| {
        bind(world, &[(0x4000, "127.0.0.1:7")])
    }),
    Rule(
        "8656 §12.2: more channels than there may be",
        508,
        |world| bind(world, &[(0x4000, PEER), (0x4001, "1.1.1.1:8")]),
    ),
];

/// Little of everything, so that each limit is near.
fn narrow(config: &mut Config) {
    config.limits.user_allocations = 2;
    config.limits.allocations = 3;
    config.limits.permissions = 2;
    config.limits.channels = 1;
}

#[test]
fn each_code_is_answered_where_the_rfcs_say_so_and_no_other_ever_is() {
    let mut told = BTreeSet::new();
    for Rule(rule, code, run) in AUTHENTICATION.iter().chain(ALLOCATING).chain(USING) {
        let mut world = World::with(|config| {
            narrow(config);
            if rule.ends_with("told apart") {
                config.relay_ports = (30_000, 30_000);
            }
        });
        assert_eq!(run(&mut world), *code, "RFC {rule}");
        told.insert(*code);
    }
    let all = [
        0, 400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 486, 508,
    ];
    assert_eq!(told, BTreeSet::from(all));
}

#[test]
fn mobility_is_not_ours_and_does_no_harm() {
    let mut world = World::new();
    let user = alice(&mut world);
    let ticket: Attribute = (0x8030, &[]);
    let answer = with(&mut world, &user, Method::Allocate, &[UDP, ticket]);
    assert_eq!((answer.code(), answer.attribute(0x8030)), (0, None));
}

#[test]
fn methods_that_are_not_ours_and_requests_of_what_is_none_are_dropped_unanswered() {
    let mut world = World::new();
    let user = alice(&mut world);
    for method in [Method::Send, Method::Data] {
        let bytes = signed(&user, method, [3; 12], |_| {});
        assert!(world.say(user.client, &bytes).is_none());
        assert!(world.unsigned(user.client, method).is_none());
    }
    // Connect and ConnectionBind of RFC 6062.
    let mut foreign = signed(&user, Method::Refresh, [3; 12], |_| {});
    for number in [10, 11] {
        foreign.truncate(foreign.len() - 8);
        foreign[1] = number;
        let len = (foreign.len() - 20) as u16;
        foreign[2..4].copy_from_slice(&len.to_be_bytes());
        foreign.extend_from_slice(&[0x80, 0x22, 0, 4, 0, 0, 0, 0]);
        let len = (foreign.len() - 20) as u16;
        foreign[2..4].copy_from_slice(&len.to_be_bytes());
        assert!(world.say(user.client, &foreign).is_none());
    }
    assert_eq!(world.server.stats().drops.malformed, 6);
}

#[test]
fn a_second_family_that_is_used_up_is_told_as_that_and_again_when_asked_again() {
    let mut world = World::with(|config| {
        config.relay_ports = (30_000, 30_000);
    });
    let first = world.user("alice", "1.2.3.4:1");
    let six = with(&mut world, &first, Method::Allocate, &[UDP, IPV6]);
    assert_eq!(six.code(), 0);
    let user = alice(&mut world);
    let bytes = signed(&user, Method::Allocate, [9; 12], |writer| {
        for (kind, value) in [UDP, AND_IPV6] {
            writer.bytes(kind, value);
        }
    });
    for _ in 0..2 {
        let both = world.say(user.client, &bytes).expect("an answer");
        assert_eq!((both.code(), both.relayed().ip()), (0, ip("9.9.9.9")));
        let missing = both.attribute(ADDRESS_ERROR_CODE).expect("told");
        assert_eq!(missing[..4], [2, 0, 5, 8]);
        assert_eq!(&missing[4..], b"Insufficient Capacity");
    }
}
