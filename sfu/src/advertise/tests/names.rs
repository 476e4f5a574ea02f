//! Names: which of their addresses are told, and when one is gone.

use super::*;

#[test]
fn a_name_is_followed_and_a_look_up_that_fails_changes_nothing() {
    let mut world = World::new("node_ip: sfu.example.org");
    world.interfaces(&HOME);
    assert_eq!(world.advertiser.name(), Some("sfu.example.org"));
    assert!(!world.advertiser.is_ready());
    let local = "192.168.1.2:7882 [2001:db8::2]:7882";
    assert_eq!(world.told().as_deref(), Some(local));
    let ip = |text: &str| text.parse().expect("an address");
    let first = world.advertiser.handle_named(&[ip("203.0.113.7")]);
    assert_eq!(first, Belief::Learned);
    assert_eq!(world.told().as_deref(), Some("203.0.113.7:7882"));
    world.advertiser.handle_named(&[]);
    assert_eq!(world.told(), None);
    let [other, third] = [ip("203.0.113.8"), ip("203.0.113.9")];
    assert_eq!(world.advertiser.handle_named(&[other]), Belief::Doubted);
    assert_eq!(world.advertiser.handle_named(&[third]), Belief::Settled);
    assert_eq!(world.told(), None, "each was said once");
    assert_eq!(world.advertiser.handle_named(&[third]), Belief::Learned);
    assert_eq!(world.told().as_deref(), Some("203.0.113.9:7882"));
    assert!(world.advertiser.is_ready());
}

#[test]
fn a_name_that_tells_some_of_its_addresses_at_a_time_keeps_them_all() {
    let mut world = World::new("node_ip: sfu.example.org");
    let ips = |last: &[u8]| -> Vec<IpAddr> {
        last.iter()
            .map(|last| [203, 0, 113, *last].into())
            .collect()
    };
    world.advertiser.handle_named(&ips(&[1, 2]));
    world.told();
    // What is new is said twice.
    assert_eq!(
        world.advertiser.handle_named(&ips(&[2, 3])),
        Belief::Doubted
    );
    assert_eq!(
        world.advertiser.handle_named(&ips(&[2, 3])),
        Belief::Learned
    );
    let all = "203.0.113.1:7882 203.0.113.2:7882 203.0.113.3:7882";
    assert_eq!(world.told().as_deref(), Some(all));
    for turn in [[3, 1], [1, 2], [2, 3]].into_iter().cycle().take(99) {
        assert_eq!(world.advertiser.handle_named(&ips(&turn)), Belief::Settled);
        assert_eq!(world.told(), None);
    }
    world.advertiser.handle_named(&ips(&[1, 2, 3]));
    // One is gone for good.
    let mut looks = 0;
    while world.advertiser.handle_named(&ips(&[1, 3])) == Belief::Settled {
        assert_eq!(world.told(), None);
        looks += 1;
    }
    assert_eq!(looks, named::GONE_LOOKUPS - 1);
    let left = "203.0.113.1:7882 203.0.113.3:7882";
    assert_eq!(world.told().as_deref(), Some(left));
}

#[test]
fn a_name_s_addresses_that_lead_nowhere_are_of_no_use() {
    let usable = |text: &str, loopback| {
        let ip: IpAddr = text.parse().expect("an address");
        is_usable(ip, loopback)
    };
    for text in ["127.0.1.1", "::1", "::ffff:127.0.1.1"] {
        assert!(!usable(text, false) && usable(text, true), "{text}");
    }
    for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
        assert!(!usable(text, true), "{text}");
    }
    for text in ["192.0.2.1", "10.0.0.1", "2001:db8::1"] {
        assert!(usable(text, false), "{text}");
    }
}

const BOTH: [&str; 2] = ["203.0.113.1", "2001:db8::1"];

#[test]
fn the_families_of_a_name_change_each_by_itself() {
    let mut world = World::new("node_ip: sfu.example.org");
    world.named(&BOTH);
    world.told();
    let moved = ["203.0.113.2", "2001:db8::1"];
    assert_eq!(world.named(&moved), Belief::Doubted);
    assert_eq!(world.named(&moved), Belief::Learned);
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(gone(&change), "203.0.113.1");
    let told: Vec<_> = change
        .sources
        .iter()
        .map(|(ip, _)| ip.to_string())
        .collect();
    assert_eq!(told, moved);
}

#[test]
fn records_that_are_changed_one_after_the_other_are_each_believed_when_said_twice() {
    let mut world = World::new("node_ip: sfu.example.org");
    world.named(&BOTH);
    world.told();
    world.named(&["203.0.113.2", "2001:db8::1"]);
    // The other one is changed between the two look-ups.
    let moved = ["203.0.113.2", "2001:db8::2"];
    assert_eq!(world.named(&moved), Belief::Doubted);
    assert_eq!(world.gone().as_deref(), Some("203.0.113.1"));
    assert_eq!(world.named(&moved), Belief::Learned);
    assert_eq!(world.gone().as_deref(), Some("2001:db8::1"));
    let told: Vec<_> = world.advertiser.named.ips().collect();
    assert_eq!(
        told,
        moved.map(|ip| ip.parse::<IpAddr>().expect("an address"))
    );
}

#[test]
fn an_answer_without_a_family_takes_none_of_its_addresses_until_it_was_so_ten_times() {
    let mut world = World::new("node_ip: sfu.example.org");
    world.named(&BOTH);
    world.told();
    for _ in 1..named::GONE_LOOKUPS {
        assert_eq!(world.named(&BOTH[..1]), Belief::Settled);
    }
    world.named(&BOTH);
    for _ in 1..named::GONE_LOOKUPS {
        assert_eq!(world.named(&BOTH[..1]), Belief::Settled);
        assert_eq!(world.told(), None);
    }
    assert_eq!(world.named(&BOTH[..1]), Belief::Learned);
    assert_eq!(world.gone().as_deref(), Some("2001:db8::1"));
    // One that was said once is doubted for as long as its family is missing.
    assert_eq!(world.named(&["2001:db8::2"]), Belief::Learned);
    assert_eq!(world.named(&["2001:db8::3"]), Belief::Doubted);
    world.named(&BOTH[..1]);
    assert_eq!(world.named(&["2001:db8::3"]), Belief::Learned);
}

#[test]
fn a_name_of_very_many_addresses_has_sixteen_told() {
    let mut world = World::new("node_ip: sfu.example.org");
    let v4: Vec<IpAddr> = (1..=12).map(|last| [203, 0, 113, last].into()).collect();
    let v6 = (1..=12).map(|last| [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into());
    let all: Vec<IpAddr> = v4.iter().copied().chain(v6).collect();
    world.advertiser.handle_named(&all);
    let told: Vec<IpAddr> = world.advertiser.named.ips().collect();
    assert_eq!(told, all[..16]);
}

#[test]
fn until_a_name_is_looked_up_local_addresses_are_told_and_nobody_is_sent_back_when_it_is() {
    let mut world = World::new("node_ip: sfu.example.org");
    world.interfaces(&HOME);
    let local = "192.168.1.2:7882 [2001:db8::2]:7882";
    assert_eq!(world.told().as_deref(), Some(local));
    assert!(!world.advertiser.is_ready());
    world.named(&["203.0.113.7"]);
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(gone(&change), "", "whoever came by a local one still does");
    assert_eq!(change.sources, [from("203.0.113.7", Source::Name)]);
    assert!(world.advertiser.is_ready());
    let only = "node_ip: sfu.example.org, use_external_ip: true, external_ip_only: true";
    let mut world = World::new(only);
    world.interfaces(&HOME);
    assert_eq!(world.told(), None);
}
