//! What goes with an address that is not told any more: whose calls may be cut off.

use super::*;

#[test]
fn a_local_address_beside_a_public_one_that_goes_says_that_it_is_local() {
    let mut world = World::new("node_ip: 203.0.113.7, advertise_internal_ip: true");
    let both = [("eth0", "192.168.1.2"), ("wg0", "10.9.0.1")];
    world.interfaces(&both);
    world.told();
    world.interfaces(&both[..1]);
    world.after(1_000);
    assert_eq!(world.gone().as_deref(), Some("(10.9.0.1)"));
    world
        .advertiser
        .handle_configuration(rtc("node_ip: 203.0.113.8"));
    // The local one leads here all the same.
    assert_eq!(world.gone().as_deref(), Some("203.0.113.7"));
}

#[test]
fn a_local_address_that_is_filtered_out_is_gone_and_one_that_gives_way_is_not() {
    let mut world = World::new("use_external_ip: true");
    world.interfaces(&[("eth0", "192.168.1.2"), ("eth1", "192.168.7.2")]);
    world.told();
    let filter = "use_external_ip: true, interfaces: {excludes: [eth1]}";
    world.advertiser.handle_configuration(rtc(filter));
    assert_eq!(world.gone().as_deref(), Some("192.168.7.2"));
    world.asked("203.0.113.7");
    assert_eq!(world.gone().as_deref(), Some(""));
}

/// Whoever is asked in its place.
const OTHERS: &str = "use_external_ip: true, stun_servers: [stun.example.com]";

#[test]
fn what_is_known_is_told_until_other_servers_have_answered() {
    for later in [OTHERS, "node_ip: home.example.org"] {
        let mut world = World::new(SERVERS);
        world.interfaces(&HOME);
        world.asked("203.0.113.7");
        world.told();
        world.advertiser.handle_configuration(rtc(later));
        world.advertiser.handle_unanswered(Family::V4);
        let change = world.advertiser.poll_change();
        assert!(
            change
                .is_none_or(|change| change.gone.is_empty()
                    && change.sources[0].0.to_string().ends_with(".7")),
            "{later}"
        );
        assert!(!world.advertiser.is_ready(), "{later}");
    }
}

#[test]
fn the_first_answer_of_other_servers_takes_the_place_of_what_was_known() {
    let mut world = World::new(SERVERS);
    world.interfaces(&HOME[..2]);
    world.asked("203.0.113.7");
    world.told();
    world.advertiser.handle_configuration(rtc(OTHERS));
    assert_eq!(world.told(), None);
    assert_eq!(world.asked("203.0.113.7"), Belief::Learned);
    assert_eq!((world.told(), world.advertiser.is_ready()), (None, true));
    world.advertiser.handle_configuration(rtc(SERVERS));
    world.told();
    assert_eq!(world.asked("203.0.113.8"), Belief::Learned);
    assert_eq!(world.gone().as_deref(), Some("203.0.113.7"));
    // A name, another one, and nobody.
    for name in ["home.example.org", "home.example.com"] {
        world
            .advertiser
            .handle_configuration(rtc(&format!("node_ip: {name}")));
        assert!(
            world
                .told()
                .is_none_or(|told| told.starts_with("203.0.113.8:"))
        );
        assert_eq!(world.named(&["203.0.113.8"]), Belief::Learned);
        assert_eq!((world.gone(), world.advertiser.is_ready()), (None, true));
    }
    world.advertiser.handle_configuration(rtc(""));
    assert_eq!(world.told().as_deref(), Some("192.168.1.2:7882"));
    assert!(world.advertiser.is_ready());
}

#[test]
fn a_name_in_the_place_of_an_address_takes_it_over_until_it_is_looked_up() {
    for before in ["node_ip: 203.0.113.7", "advertise: [203.0.113.7]"] {
        let mut world = World::new(before);
        world.interfaces(&HOME[..2]);
        world.told();
        world
            .advertiser
            .handle_configuration(rtc("node_ip: home.example.org"));
        let change = world.advertiser.poll_change().expect("another source");
        assert_eq!(change.sources, [from("203.0.113.7", Source::Name)]);
        assert!(change.gone.is_empty() && !world.advertiser.is_ready());
        world.named(&["203.0.113.9", "2001:db8::9"]);
        assert_eq!(world.gone().as_deref(), Some("203.0.113.7"));
    }
}

#[test]
fn what_servers_of_one_family_alone_are_not_asked_about_is_told_no_more() {
    let mut world = World::new(SERVERS);
    world.interfaces(&[("eth0", "192.168.1.2"), ("eth0", "2001:db8::2")]);
    world.asked("203.0.113.7");
    world.asked("2001:db8:7::7");
    world.told();
    world.advertiser.handle_configuration(rtc(OTHERS));
    world.advertiser.handle_unanswered(Family::V6);
    assert_eq!(world.told(), None, "nobody has answered yet");
    world.asked("203.0.113.7");
    world.advertiser.handle_unanswered(Family::V6);
    assert_eq!(world.gone().as_deref(), Some("2001:db8:7::7"));
    let change = world.advertiser.sources(&world.advertiser.candidates());
    assert!(
        change.contains(&from("2001:db8::2", Source::Interface)),
        "{change:?}"
    );
}
