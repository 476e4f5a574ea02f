//! Who gets an allocation, which, and for how long.

use super::*;
use crate::address::Transport;
use crate::event::{End, Reason};

#[test]
fn a_wrong_password_is_401_an_unknown_name_is_401_and_the_right_one_allocates() {
    let mut world = World::new();
    let wrong = world.user_with("alice", "bob's", client("1.2.3.4:5"));
    assert_eq!(world.allocate(&wrong).code(), 401);
    let nobody = world.user_with("mallory", "x", client("1.2.3.4:5"));
    assert_eq!(world.allocate(&nobody).code(), 401);
    let refused = world.events();
    assert!(refused.iter().all(|event| matches!(
        event,
        Event::Refused {
            code: 401,
            reason: Reason::WrongPassword,
            ..
        }
    )));
    assert_eq!((refused.len(), world.server.stats().denied), (2, 2));
    let (_, relayed) = world.allocated("alice", "1.2.3.4:5");
    assert!((30_000..=30_020).contains(&relayed.port()));
    assert_eq!(world.server.stats().allocations, 1);
}

#[test]
fn an_integrity_without_name_realm_or_nonce_is_400_and_a_wrong_realm_401() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    for left_out in [USERNAME, REALM, NONCE] {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Method::Allocate, Class::Request, &[1; 12]);
        let all: [(u16, &[u8]); 3] = [
            (USERNAME, b"alice"),
            (REALM, REALM_TEXT.as_bytes()),
            (NONCE, &user.nonce),
        ];
        for (kind, value) in all {
            if kind != left_out {
                writer.bytes(kind, value);
            }
        }
        writer.sign(&user.key, false).finish(false);
        assert_eq!(world.say(user.client, &out).expect("an answer").code(), 400);
    }
    let mut out = Vec::new();
    Writer::new(&mut out, Method::Allocate, Class::Request, &[1; 12])
        .bytes(USERNAME, b"alice")
        .bytes(REALM, b"elsewhere")
        .bytes(NONCE, &user.nonce)
        .sign(&Key::long_term("alice", "elsewhere", "alice's"), false)
        .finish(false);
    assert_eq!(world.say(user.client, &out).expect("an answer").code(), 401);
}

#[test]
fn an_old_nonce_is_438_with_a_new_one_that_is_good() {
    let mut world = World::new();
    let (mut user, _) = world.allocated("alice", "1.2.3.4:5");
    world.pass(seconds(599));
    assert_eq!(world.refresh(&user, 600).code(), 0);
    world.pass(seconds(2));
    let stale = world.refresh(&user, 600);
    assert_eq!(stale.code(), 438);
    user.nonce = stale.attribute(NONCE).expect("a nonce");
    assert_eq!(world.refresh(&user, 600).code(), 0);
    // Another's nonce is no better.
    let mut other = world.user("bob", "1.2.3.4:6");
    other.nonce = user.nonce.clone();
    assert_eq!(world.allocate(&other).code(), 438);
}

#[test]
fn a_repeated_allocate_is_answered_alike_and_a_second_one_is_437() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    let bytes = signed(&user, Method::Allocate, [9; 12], |writer| {
        writer.bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    let first = world.say(user.client, &bytes).expect("an answer");
    let again = world.say(user.client, &bytes).expect("an answer");
    assert_eq!((first.code(), first.relayed()), (0, again.relayed()));
    assert_eq!(world.allocate(&user).code(), 437);
    assert_eq!(world.server.stats().allocated, 1);
}

#[test]
fn what_is_asked_wrongly_gets_its_code() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    type Attribute = (u16, &'static [u8]);
    let udp: Attribute = (REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let cases: [(&[Attribute], u16); 13] = [
        (&[], 400),
        (&[(REQUESTED_TRANSPORT, &[6, 0, 0, 0])], 442),
        (&[(REQUESTED_TRANSPORT, &[])], 400),
        (&[udp, (REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0])], 440),
        (&[udp, (RESERVATION_TOKEN, &[1; 8])], 508),
        (&[udp, (RESERVATION_TOKEN, &[1; 7])], 400),
        (&[udp, (RESERVATION_TOKEN, &[1; 8]), (EVEN_PORT, &[0])], 400),
        (
            &[
                udp,
                (RESERVATION_TOKEN, &[1; 8]),
                (REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]),
            ],
            400,
        ),
        (&[udp, (ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0])], 400),
        (
            &[
                udp,
                (ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]),
                (EVEN_PORT, &[0x80]),
            ],
            400,
        ),
        (
            &[
                udp,
                (ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]),
                (REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
            ],
            400,
        ),
        (&[udp, (0x7FFF, &[1, 2])], 420),
        (&[udp, (DONT_FRAGMENT, &[]), (0x8FFF, &[1])], 0),
    ];
    for (attributes, code) in cases {
        let answer = world.ask(&user, Method::Allocate, |writer| {
            for (kind, value) in attributes {
                writer.bytes(*kind, value);
            }
        });
        assert_eq!(answer.code(), code, "{attributes:?}");
    }
}

#[test]
fn requests_without_an_allocation_are_437_and_another_name_on_one_is_441() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    assert_eq!(world.refresh(&user, 600).code(), 437);
    assert_eq!(world.permit(&user, &["1.1.1.1:1"]), 437);
    assert_eq!(world.bind(&user, 0x4000, "1.1.1.1:1"), 437);
    assert_eq!(world.allocate(&user).code(), 0);
    let other = world.user("bob", "1.2.3.4:5");
    assert_eq!(world.refresh(&other, 600).code(), 441);
}

#[test]
fn lifetimes_are_between_the_default_and_the_maximum_and_end_an_allocation() {
    let mut world = World::new();
    for (asked, told) in [(0, 600), (60, 600), (1800, 1800), (7200, 3600)] {
        let user = world.user("alice", &format!("1.2.3.4:{}", 1000 + asked));
        let answer = world.ask(&user, Method::Allocate, |writer| {
            writer
                .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .word(LIFETIME, asked);
        });
        assert_eq!(answer.lifetime(), told);
    }
    world.events();
    world.pass(seconds(599));
    assert_eq!(world.server.stats().allocations, 4);
    world.pass(seconds(1));
    assert_eq!(world.server.stats().allocations, 2);
    world.pass(seconds(3000));
    assert_eq!(
        (
            world.server.stats().allocations,
            world.server.stats().expired
        ),
        (0, 4)
    );
    let ended = world.events();
    assert!(ended.iter().all(|event| matches!(
        event,
        Event::Ended {
            reason: End::Expired,
            ..
        }
    )));
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn a_refresh_of_zero_ends_it_and_a_closed_connection_too() {
    let mut world = World::new();
    let (user, _) = world.allocated("alice", "1.2.3.4:5");
    let answer = world.refresh(&user, 0);
    assert_eq!((answer.code(), answer.lifetime()), (0, 0));
    assert_eq!(world.refresh(&user, 0).code(), 437);
    let mut stream = client("1.2.3.4:5");
    stream.transport = Transport::Tls;
    let user = world.user_with("alice", "alice's", stream);
    assert_eq!(world.allocate(&user).code(), 0);
    assert!(world.server.has_allocation(&stream));
    world.server.handle_closed(&stream, world.now);
    assert!(!world.server.has_allocation(&stream));
    assert_eq!(
        (world.server.stats().released, world.server.stats().closed),
        (1, 1)
    );
}

#[test]
fn expired_credentials_make_no_allocation_but_keep_the_one_they_made() {
    let mut world = World::new();
    let name = "1700000100:dora";
    let password = crate::credentials::password_of(&Secret::new("north"), name);
    let mut user = world.user_with(name, password.expose(), client("1.2.3.4:5"));
    assert_eq!(world.allocate(&user).code(), 0);
    world.pass(seconds(100));
    assert_eq!(world.refresh(&user, 600).code(), 0);
    assert_eq!(world.permit(&user, &["1.1.1.1:1"]), 0);
    world.events();
    user.client = client("1.2.3.4:6");
    user.nonce = world.user_with(name, "", user.client).nonce;
    assert_eq!(world.allocate(&user).code(), 401);
    assert!(matches!(
        world.events()[..],
        [Event::Refused {
            reason: Reason::CredentialExpired,
            ..
        }]
    ));
    // Even when the secret is gone the allocation lives.
    world.server.set_credentials(Credentials::default());
    user.client = client("1.2.3.4:5");
    user.nonce = world.user_with(name, "", user.client).nonce;
    assert_eq!(world.refresh(&user, 600).code(), 0);
}

#[test]
fn a_later_name_of_the_same_user_is_good_for_his_allocation_and_nobody_else_s() {
    let mut world = World::new();
    let at = client("1.2.3.4:5");
    let named = |world: &mut World, name: &str| {
        let password = crate::credentials::password_of(&Secret::new("north"), name);
        world.user_with(name, password.expose(), at)
    };
    let first = named(&mut world, "1700000100:@a:example");
    assert_eq!(world.allocate(&first).code(), 0);
    let later = named(&mut world, "1700000200:@a:example");
    assert_eq!(world.refresh(&later, 600).code(), 0);
    assert_eq!(world.permit(&later, &["1.1.1.1:1"]), 0);
    assert_eq!(world.bind(&later, 0x4000, "1.1.1.1:1"), 0);
    assert_eq!(world.refresh(&first, 600).code(), 0);
    let forged = world.user_with("1700000200:@a:example", "guessed", at);
    let neighbour = named(&mut world, "1700000200:@b:example");
    let lapsed = named(&mut world, "1700000000:@a:example");
    for (other, code) in [(forged, 401), (neighbour, 441), (lapsed, 441)] {
        assert_eq!(world.refresh(&other, 600).code(), code, "{}", other.name);
    }
    assert_eq!(world.refresh(&later, 0).code(), 0);
    assert_eq!(world.server.stats().released, 1);
}

#[test]
fn one_client_never_has_a_port_twice_and_508_says_when_the_range_is_used_up() {
    let mut world = World::with(|config| config.limits.user_allocations = 0);
    let mut ports = Vec::new();
    for n in 0..21 {
        ports.push(
            world
                .allocated("alice", &format!("1.2.3.4:{}", 100 + n))
                .1
                .port(),
        );
    }
    ports.sort_unstable();
    assert_eq!(ports, (30_000..=30_020).collect::<Vec<u16>>());
    let one_more = world.user("alice", "1.2.3.4:99");
    assert_eq!(world.allocate(&one_more).code(), 508);
    // Others, and she from elsewhere, still get theirs.
    world.allocated("bob", "1.2.3.4:98");
    world.allocated("alice", "1.2.3.5:99");
}

#[test]
fn hundreds_of_participants_share_the_ports_evenly() {
    let mut world = World::with(|config| {
        config.limits.user_allocations = 0;
        config.limits.unknown_answers_burst = 10_000;
    });
    let mut load = [0; 21];
    for n in 0..420_u32 {
        let remote = format!("1.2.{}.{}:5", n / 200, n % 200);
        let (_, relayed) = world.allocated("alice", &remote);
        load[usize::from(relayed.port() - 30_000)] += 1;
    }
    assert_eq!(load, [20; 21]);
}

#[test]
fn an_even_port_and_its_reserved_neighbour_are_given() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    let bytes = signed(&user, Method::Allocate, [8; 12], |writer| {
        writer
            .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .bytes(EVEN_PORT, &[0x80]);
    });
    let answer = world.say(user.client, &bytes).expect("an answer");
    let again = world.say(user.client, &bytes).expect("an answer");
    assert_eq!(
        again.attribute(RESERVATION_TOKEN),
        answer.attribute(RESERVATION_TOKEN)
    );
    let (relayed, token) = (
        answer.relayed(),
        answer.attribute(RESERVATION_TOKEN).expect("a token"),
    );
    assert_eq!(relayed.port() % 2, 0);
    let ask = |world: &mut World, user: &User| {
        world.ask(user, Method::Allocate, |writer| {
            writer
                .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .bytes(RESERVATION_TOKEN, &token);
        })
    };
    let eve = world.user("bob", "1.2.3.4:7");
    assert_eq!(ask(&mut world, &eve).code(), 508);
    let second = world.user("alice", "1.2.3.4:6");
    assert_eq!(
        ask(&mut world, &second).relayed().port(),
        relayed.port() + 1
    );
}

#[test]
fn ipv6_is_given_alone_or_besides_and_each_is_refreshed_by_itself() {
    let mut world = World::new();
    let user = world.user("alice", "1.2.3.4:5");
    let answer = world.ask(&user, Method::Allocate, |writer| {
        writer
            .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .bytes(REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    assert_eq!(answer.relayed().ip(), ip("2600::9"));
    let six = |writer: &mut Writer<'_>| {
        writer
            .word(LIFETIME, 0)
            .bytes(REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    };
    let four = |writer: &mut Writer<'_>| {
        writer
            .word(LIFETIME, 0)
            .bytes(REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    };
    assert_eq!(world.ask(&user, Method::Refresh, four).code(), 443);
    assert_eq!(world.ask(&user, Method::Refresh, six).code(), 0);
    assert_eq!(world.server.stats().allocations, 0);

    let both = world.ask(&user, Method::Allocate, |writer| {
        writer
            .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .bytes(ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    let message = both.message();
    let relays = message
        .attributes()
        .filter(|(kind, _)| *kind == XOR_RELAYED_ADDRESS);
    let relays: Vec<IpAddr> = relays
        .map(|(_, value)| {
            unmask(value, &message.transaction)
                .expect("an address")
                .ip()
        })
        .collect();
    assert_eq!(relays, [ip("9.9.9.9"), ip("2600::9")]);
    assert_eq!(world.permit(&user, &["1.1.1.1:1", "[2600::1]:1"]), 0);
    assert_eq!(world.ask(&user, Method::Refresh, six).code(), 0);
    assert_eq!(world.server.stats().allocations, 1);
    assert_eq!(world.permit(&user, &["[2600::1]:1"]), 443);
    assert_eq!(world.permit(&user, &["1.1.1.1:1"]), 0);
}

#[test]
fn a_family_without_relays_is_440_and_told_when_it_was_only_additional() {
    let mut world = World::with(|config| config.own.external = vec![ip("9.9.9.9")]);
    let user = world.user("alice", "1.2.3.4:5");
    let six = world.ask(&user, Method::Allocate, |writer| {
        writer
            .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .bytes(REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    assert_eq!(six.code(), 440);
    let both = world.ask(&user, Method::Allocate, |writer| {
        writer
            .bytes(REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .bytes(ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    assert_eq!((both.code(), both.relayed().ip()), (0, ip("9.9.9.9")));
    let missing = both.attribute(ADDRESS_ERROR_CODE).expect("told");
    assert_eq!(missing[..4], [2, 0, 4, 40]);
}

#[test]
fn however_many_end_at_once_each_is_told_and_what_is_told_besides_is_bounded() {
    let mut world = World::with(|config| {
        config.limits.user_allocations = 0;
        config.limits.unknown_answers_burst = 10_000;
    });
    let mut made = 0;
    for n in 0..1500_u32 {
        world.allocated("alice", &format!("1.2.{}.{}:5", n / 200, n % 200));
        made += world.events().len();
    }
    // Nobody takes an event meanwhile.
    let wrong = world.user_with("alice", "bob's", client("3.3.3.3:5"));
    for _ in 0..1000 {
        let _ = world.say(
            wrong.client,
            &signed(&wrong, Method::Allocate, [1; 12], |_| {}),
        );
    }
    world.pass(seconds(600));
    let told = world.events();
    let ends = told
        .iter()
        .filter(|event| matches!(event, Event::Ended { .. }));
    assert_eq!((made, ends.count()), (1500, 1500));
    assert_eq!(told.len(), 1500 + 256, "a quarter is left to refusals");
    assert_eq!(world.server.stats().drops.events, 1000 - 256);
}
