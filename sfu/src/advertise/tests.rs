//! Tests of `advertise`: whose word counts, and when.

use super::*;
use crate::config::complaint::Complaints;

mod lines;
mod moves;
mod names;

fn rtc(yaml: &str) -> Rtc {
    use crate::config::raw::Values;
    let text = format!("keys: {{k: 0123456789abcdef0123456789abcdef}}\nrtc: {{{yaml}}}\n");
    let mut complaints = Complaints::default();
    let mut values = Values::default();
    values.read_yaml(&text, "test", true, &mut complaints);
    let config = crate::config::check::check(&mut values, &mut complaints);
    assert!(!complaints.has_errors(), "{:?}", complaints.list());
    config.rtc
}

/// A machine behind a NAT, at virtual times.
struct World {
    advertiser: Advertiser,
    now: Instant,
}

impl World {
    fn new(yaml: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        let now = Instant::now();
        Self {
            advertiser: Advertiser::new(rtc(yaml), 7882),
            now,
        }
    }

    /// Temporary ones have `~` before them.
    fn interfaces(&mut self, list: &[(&str, &str)]) {
        let list: Vec<Interface> = list
            .iter()
            .map(|(name, text)| {
                let ip = text.trim_start_matches('~');
                Interface {
                    name: (*name).to_owned(),
                    ip: ip.parse().expect("an address"),
                    temporary: ip != *text,
                }
            })
            .collect();
        self.advertiser.handle_interfaces(&list, self.now);
    }

    fn asked(&mut self, ip: &str) -> Belief {
        self.advertiser
            .handle_asked(ip.parse().expect("an address"), self.now)
    }

    fn named(&mut self, ips: &[&str]) -> Belief {
        let ips = ips.iter().map(|ip| ip.parse().expect("an address"));
        self.advertiser.handle_named(&ips.collect::<Vec<_>>())
    }

    /// A client of this network sees us there.
    fn seen(&mut self, by: &str, at: &str) -> Belief {
        let ip = |text: &str| text.parse().expect("an address");
        self.advertiser.handle_seen(ip(by), ip(at), self.now)
    }

    /// Both say so.
    fn seen_by_all(&mut self, at: &str) -> Belief {
        CLIENTS.map(|by| self.seen(by, at))[1]
    }

    fn after(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.advertiser.handle_timeout(self.now);
    }

    /// What UDP is told now, if it changed; internal addresses in brackets.
    fn told(&mut self) -> Option<String> {
        let change = self.advertiser.poll_change()?;
        let udp = change.candidates.iter();
        let udp = udp.filter(|one| one.transport == PathTransport::Udp);
        let shown = udp.map(|one| match one.internal {
            true => format!("({})", one.at),
            false => one.at.to_string(),
        });
        Some(shown.collect::<Vec<_>>().join(" "))
    }

    /// What is not told any more, if anything changed.
    fn gone(&mut self) -> Option<String> {
        self.advertiser.poll_change().map(|change| gone(&change))
    }
}

/// Internal addresses in brackets.
fn gone(change: &Change) -> String {
    let shown = change.gone.iter().map(|one| match one.internal {
        true => format!("({})", one.ip),
        false => one.ip.to_string(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

const HOME: [(&str, &str); 6] = [
    ("lo", "127.0.0.1"),
    ("eth0", "192.168.1.2"),
    ("docker0", "172.17.0.1"),
    ("podman1", "10.89.0.1"),
    ("eth0", "fe80::1"),
    ("eth0", "2001:db8::2"),
];

fn told(yaml: &str) -> String {
    let mut world = World::new(yaml);
    world.interfaces(&HOME);
    world.told().unwrap_or_default()
}

#[test]
fn the_operators_word_goes_before_what_the_interfaces_have() {
    assert_eq!(told(""), "192.168.1.2:7882 [2001:db8::2]:7882");
    assert_eq!(told("node_ip: 203.0.113.7"), "203.0.113.7:7882");
    assert_eq!(
        told("node_ip: 203.0.113.7, advertise: [198.51.100.1, '[2001:db8::9]:40000/udp']"),
        "198.51.100.1:7882 [2001:db8::9]:40000"
    );
    assert_eq!(told("advertise: [198.51.100.1/tcp]"), "");
}

#[test]
fn further_addresses_are_told_beside_whatever_else_is_once_each() {
    const FURTHER: &str =
        "additional_host_ips: [10.8.0.1, '::ffff:10.8.0.1', 192.168.1.2, '2001:db8::7']";
    let with = |yaml: &str| told(&format!("{FURTHER}{yaml}"));
    assert_eq!(
        with(""),
        "192.168.1.2:7882 [2001:db8::2]:7882 10.8.0.1:7882 [2001:db8::7]:7882"
    );
    assert_eq!(
        with(", node_ip: 203.0.113.7"),
        "203.0.113.7:7882 10.8.0.1:7882 192.168.1.2:7882 [2001:db8::7]:7882"
    );
    assert_eq!(
        with(", advertise: ['10.8.0.1:40000/udp']"),
        "10.8.0.1:40000 192.168.1.2:7882 [2001:db8::7]:7882"
    );
    let mut world = World::new("node_ip: 203.0.113.7, additional_host_ips: [10.8.0.1]");
    let change = world.advertiser.poll_change().expect("a change");
    let sources = change.sources.iter().map(|(_, source)| *source);
    assert!(sources.eq([Source::NodeIp, Source::Advertise]));
}

#[test]
fn without_ipv4_nobody_is_ready_who_must_find_one() {
    let ready = |yaml: &str, interfaces: &[(&str, &str)]| {
        let mut world = World::new(yaml);
        world.interfaces(interfaces);
        world.advertiser.is_ready()
    };
    let v6 = [("eth0", "2001:db8::2")];
    assert!(ready("", &v6) && !ready("require_ipv4: true", &v6));
    assert!(ready("require_ipv4: true", &HOME));
    assert!(ready("require_ipv4: true, node_ip: '2001:db8::2'", &v6));
    assert!(ready("require_ipv4: true, advertise: ['2001:db8::2']", &v6));
    // A STUN server is asked for it, whatever the interfaces have.
    let mut world = World::new("require_ipv4: true, use_external_ip: true");
    world.interfaces(&HOME);
    world.asked("2001:db8::2");
    assert!(!world.advertiser.is_ready());
    world.asked("203.0.113.7");
    assert!(world.advertiser.is_ready());
}

#[test]
fn local_addresses_are_told_beside_public_ones_where_asked_for() {
    assert_eq!(
        told("node_ip: 203.0.113.7, advertise_internal_ip: true"),
        "(192.168.1.2:7882) 203.0.113.7:7882".replace(
            "(192.168.1.2:7882)",
            "(192.168.1.2:7882) [2001:db8::2]:7882"
        )
    );
    assert_eq!(
        told("advertise: [192.168.1.2], advertise_internal_ip: true"),
        "[2001:db8::2]:7882 192.168.1.2:7882",
        "what is public is not told a second time"
    );
}

#[test]
fn loopback_link_local_and_container_addresses_are_kept_to_ourselves() {
    assert_eq!(
        told("enable_loopback_candidate: true"),
        "127.0.0.1:7882 192.168.1.2:7882 [2001:db8::2]:7882"
    );
    assert_eq!(
        told("enable_loopback_candidate: true, ips: {excludes: [127.0.0.0/8]}"),
        "192.168.1.2:7882 [2001:db8::2]:7882"
    );
    assert_eq!(told("interfaces: {includes: [docker0]}"), "172.17.0.1:7882");
    assert_eq!(told("interfaces: {excludes: [eth0]}"), "");
    assert_eq!(told("ips: {excludes: [2001:db8::/32]}"), "192.168.1.2:7882");
}

#[test]
fn transports_have_their_ports_and_may_be_switched_off() {
    let all = |yaml: &str| {
        let mut world = World::new(yaml);
        world.interfaces(&[("eth0", "192.0.2.1")]);
        let change = world.advertiser.poll_change().expect("a change");
        let one = |candidate: &Candidate| (candidate.transport, candidate.at.port());
        change.candidates.iter().map(one).collect::<Vec<_>>()
    };
    let (udp, tcp) = (PathTransport::Udp, PathTransport::Tcp);
    assert_eq!(all(""), [(udp, 7882), (tcp, 7881)]);
    assert_eq!(all("tcp_port: 0"), [(udp, 7882)]);
    assert_eq!(all("force_tcp: true"), [(tcp, 7881)]);
    let own = all("advertise: ['192.0.2.1:40000/udp', '192.0.2.1:443/tcp']");
    assert_eq!(own, [(udp, 40_000), (tcp, 443)]);
}

#[test]
fn a_stun_server_is_believed_at_once_and_believed_again_when_it_says_so_twice() {
    let mut world = World::new("use_external_ip: true, advertise_internal_ip: true");
    world.interfaces(&HOME[..2]);
    assert_eq!(world.told().as_deref(), Some("192.168.1.2:7882"));
    assert!(
        !world.advertiser.is_ready(),
        "the public address is not known"
    );
    assert_eq!(world.asked("203.0.113.7"), Belief::Learned);
    let both = "(192.168.1.2:7882) 203.0.113.7:7882";
    assert_eq!(world.told().as_deref(), Some(both));
    assert!(world.advertiser.is_ready());
    // Another answer is doubted, and a third one too.
    assert_eq!(world.asked("203.0.113.8"), Belief::Doubted);
    assert_eq!(world.asked("203.0.113.9"), Belief::Doubted);
    assert_eq!(world.told(), None);
    assert_eq!(world.asked("203.0.113.7"), Belief::Settled);
    assert_eq!(world.asked("203.0.113.9"), Belief::Doubted);
    assert_eq!(world.asked("203.0.113.9"), Belief::Learned);
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(gone(&change), "203.0.113.7");
    let stun = |ip: &str| (ip.parse::<IpAddr>().expect("an address"), Source::Stun);
    assert_eq!(change.sources[1], stun("203.0.113.9"));
}

#[test]
fn a_public_address_takes_the_place_of_the_local_ones_of_its_family_only() {
    let mut world = World::new("use_external_ip: true");
    world.interfaces(&HOME);
    world.asked("203.0.113.7");
    assert_eq!(
        world.told().as_deref(),
        Some("[2001:db8::2]:7882 203.0.113.7:7882")
    );
    world.asked("2001:db8::2");
    assert_eq!(
        world.told().as_deref(),
        Some("203.0.113.7:7882 [2001:db8::2]:7882")
    );
    let mut world = World::new("use_external_ip: true, external_ip_only: true");
    world.interfaces(&HOME);
    assert_eq!(world.told(), None);
    world.asked("203.0.113.7");
    assert_eq!(world.told().as_deref(), Some("203.0.113.7:7882"));
}

#[test]
fn nobody_is_asked_where_the_operator_has_said_it() {
    let asks = |yaml: &str| !World::new(yaml).advertiser.stun_servers().is_empty();
    assert!(asks("use_external_ip: true"));
    assert!(!asks("stun_servers: ['192.0.2.1']"));
    assert!(!asks("use_external_ip: true, node_ip: 192.0.2.1"));
    assert!(!asks("use_external_ip: true, node_ip: sfu.example.org"));
    assert!(!asks("use_external_ip: true, advertise: [192.0.2.1]"));
    let from = |yaml: &str| {
        let mut world = World::new(yaml);
        world.interfaces(&[("eth0", "192.168.1.2"), ("wan1", "192.168.7.2")]);
        world
            .advertiser
            .asking_from(Family::V4)
            .map(|ip| ip.to_string())
    };
    assert_eq!(from("use_external_ip: true"), None);
    let chosen = from("use_external_ip: true, interfaces: {includes: [wan1]}");
    assert_eq!(chosen.as_deref(), Some("192.168.7.2"));
}

#[test]
fn a_new_address_is_told_at_once_and_one_that_goes_only_if_it_stays_away() {
    let mut world = World::new("");
    world.interfaces(&[("eth0", "192.0.2.1")]);
    world.told();
    world.interfaces(&[("eth0", "192.0.2.1"), ("eth1", "192.0.2.2")]);
    assert_eq!(
        world.told().as_deref(),
        Some("192.0.2.1:7882 192.0.2.2:7882")
    );
    world.interfaces(&[("eth1", "192.0.2.2")]);
    world.after(400);
    world.interfaces(&[("eth0", "192.0.2.1"), ("eth1", "192.0.2.2")]);
    world.after(2_000);
    assert_eq!(world.told(), None, "a lease was renewed");
    world.interfaces(&[("eth1", "192.0.2.2")]);
    let due = world.advertiser.poll_timeout().expect("a deadline");
    assert_eq!(due, world.now + GONE_AFTER);
    world.after(500);
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(gone(&change), "192.0.2.1");
    assert_eq!(world.advertiser.poll_timeout(), None);
    // The last one stays told: there is nothing better to say.
    world.interfaces(&[]);
    world.after(500);
    assert_eq!(world.told(), None);
    assert!(!world.advertiser.is_ready());
}

#[test]
fn a_change_that_nobody_was_told_of_goes_on_in_the_next_one() {
    let mut world = World::new("node_ip: sfu.example.org");
    let ip = |last: u8| IpAddr::from([203, 0, 113, last]);
    let mut change = |last: u8| {
        for _ in 0..2 {
            world.advertiser.handle_named(&[ip(last)]);
        }
        world.advertiser.poll_change().expect("a change")
    };
    let [_, second, third] = [1, 2, 3].map(&mut change);
    assert_eq!(
        (gone(&second), gone(&third)),
        ("203.0.113.1".into(), "203.0.113.2".into())
    );
    let owed = third.clone().after(second);
    assert_eq!(gone(&owed), "203.0.113.1 203.0.113.2");
    assert_eq!(owed.candidates, third.candidates);
}

#[test]
fn another_configuration_counts_at_once_and_opens_no_other_port() {
    let mut world = World::new("use_external_ip: true");
    world.interfaces(&HOME[..2]);
    world.asked("203.0.113.7");
    assert_eq!(world.told().as_deref(), Some("203.0.113.7:7882"));
    let says = |world: &mut World, yaml: &str| world.advertiser.handle_configuration(rtc(yaml));
    says(
        &mut world,
        "use_external_ip: true, advertise_internal_ip: true, tcp_port: 0",
    );
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(
        change.candidates.len(),
        4,
        "both addresses, both transports"
    );
    says(&mut world, "node_ip: 198.51.100.1");
    assert_eq!(world.told().as_deref(), Some("198.51.100.1:7882"));
    // Other servers are asked anew.
    says(
        &mut world,
        "use_external_ip: true, stun_servers: [stun.example.org]",
    );
    assert!(!world.advertiser.is_ready());
    assert_eq!(world.asked("203.0.113.9"), Belief::Learned);
    assert_eq!(world.told().as_deref(), Some("203.0.113.9:7882"));
}

const SERVERS: &str = "use_external_ip: true, stun_servers: [stun.example.org]";
const CLIENTS: [&str; 2] = ["192.0.2.1", "198.51.100.1"];

fn from(ip: &str, source: Source) -> (IpAddr, Source) {
    (ip.parse().expect("an address"), source)
}

#[test]
fn what_clients_see_is_told_beside_what_is_known_while_no_stun_server_answers() {
    let mut world = World::new(SERVERS);
    world.interfaces(&[("eth0", "192.168.1.2")]);
    world.asked("203.0.113.7");
    assert_eq!(world.told().as_deref(), Some("203.0.113.7:7882"));
    assert_eq!(world.seen(CLIENTS[0], "203.0.113.8"), Belief::Settled);
    assert_eq!(world.seen(CLIENTS[1], "203.0.113.8"), Belief::Doubted);
    assert_eq!(
        world.told(),
        None,
        "a server has answered, and is to be asked again"
    );
    world.advertiser.handle_unanswered(Family::V4);
    let change = world.advertiser.poll_change().expect("a change");
    let sources = [
        from("203.0.113.7", Source::Stun),
        from("203.0.113.8", Source::Client),
    ];
    assert_eq!(change.sources, sources);
    assert!(change.gone.is_empty());
    world.asked("203.0.113.7");
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(change.sources, sources[..1]);
    assert!(
        change.gone.is_empty(),
        "nobody is sent back for what clients said"
    );
    // Another one, said twice, is believed.
    world.asked("203.0.113.9");
    world.asked("203.0.113.9");
    let change = world.advertiser.poll_change().expect("a change");
    assert_eq!(change.sources, [from("203.0.113.9", Source::Stun)]);
    assert_eq!(gone(&change), "203.0.113.7");
    world.advertiser.handle_unanswered(Family::V4);
    assert_eq!(world.told(), None, "what was said before that is forgotten");
}

#[test]
fn clients_that_agree_on_what_they_like_take_nothing_from_anybody() {
    for (yaml, before) in [
        (SERVERS, "192.0.2.77:7882 [2001:db8::2]:7882"),
        (
            "node_ip: home.example.org, advertise_internal_ip: true",
            "192.0.2.77:7882 [2001:db8::2]:7882",
        ),
    ] {
        let mut world = World::new(yaml);
        world.interfaces(&[("eth0", "192.0.2.77"), ("eth0", "2001:db8::2")]);
        assert_eq!(world.told().as_deref(), Some(before), "{yaml}");
        for by in ["2001:db9::1", "2001:dba::1"] {
            world.seen(by, "2001:dbf::bad");
        }
        let change = world.advertiser.poll_change().expect("a change");
        assert!(change.gone.is_empty(), "{:?}", change.gone);
        let told: Vec<_> = change.sources.iter().map(|(_, source)| *source).collect();
        let expected = [Source::Interface, Source::Interface, Source::Client];
        assert_eq!(told, expected, "{yaml}");
        assert!(change.candidates.iter().all(|one| !one.internal));
        // Others outvote them.
        world.after(60_000);
        for by in ["2001:dbb::1", "2001:dbc::1", "2001:dbd::1"] {
            world.seen(by, "2001:db8::2");
        }
        let change = world.advertiser.poll_change().expect("a change");
        assert!(
            change.gone.is_empty() && !change.sources.iter().any(|(_, by)| *by == Source::Client)
        );
    }
}

#[test]
fn what_clients_said_is_not_told_for_long_once_they_are_gone_unless_nobody_knows_better() {
    let mut world = World::new("node_ip: home.example.org");
    world.interfaces(&[("eth0", "192.168.1.2")]);
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    world.advertiser.handle_named(&[ip("203.0.113.7")]);
    world.seen_by_all("203.0.113.8");
    let expected = "203.0.113.7:7882 203.0.113.8:7882";
    assert_eq!(world.told().as_deref(), Some(expected));
    world.after(100_000);
    world.seen(CLIENTS[0], "203.0.113.8");
    world.after(149_999);
    assert_eq!(world.told(), None);
    assert_eq!(
        world.advertiser.poll_timeout(),
        Some(world.now + Duration::from_millis(1))
    );
    world.after(1);
    assert_eq!(world.told().as_deref(), Some("203.0.113.7:7882"));
    let mut world = World::new(SERVERS);
    world.interfaces(&[("eth0", "192.168.1.2")]);
    assert!(!world.advertiser.is_ready());
    world.seen_by_all("203.0.113.8");
    let expected = "192.168.1.2:7882 203.0.113.8:7882";
    assert_eq!(world.told().as_deref(), Some(expected));
    assert!(world.advertiser.is_ready(), "they have got here");
    world.after(1_000_000);
    assert_eq!(world.told(), None, "nobody else knows any");
}

#[test]
fn what_everybody_says_is_no_news_and_a_wrong_word_goes_with_it() {
    let mut world = World::new("node_ip: home.example.org");
    world.interfaces(&[("eth0", "203.0.113.1")]);
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    world.advertiser.handle_named(&[ip("203.0.113.7")]);
    world.told();
    assert_eq!(world.seen_by_all("203.0.113.1"), Belief::Learned);
    assert_eq!(world.told(), None);
    assert_eq!(world.seen_by_all("203.0.113.8"), Belief::Doubted);
    assert!(
        world
            .told()
            .is_some_and(|told| told.contains("203.0.113.8"))
    );
    world.after(60_000);
    assert_eq!(world.seen_by_all("203.0.113.7"), Belief::Learned);
    assert_eq!(world.told().as_deref(), Some("203.0.113.7:7882"));
}

#[test]
fn clients_are_not_asked_where_the_configuration_says_the_address_or_that_there_is_none() {
    for (yaml, asks) in [
        (SERVERS, true),
        ("use_external_ip: true", true),
        ("node_ip: home.example.org", true),
        ("", false),
        ("node_ip: 203.0.113.7", false),
        ("use_external_ip: true, advertise: [203.0.113.7]", false),
    ] {
        let mut world = World::new(yaml);
        world.interfaces(&[("eth0", "192.168.1.2")]);
        world.told();
        assert_eq!(world.advertiser.asks_clients(), asks, "{yaml}");
        let news = world.seen_by_all("203.0.113.8") == Belief::Doubted;
        assert_eq!((news, world.told().is_some()), (asks, asks), "{yaml}");
    }
    let mut world = World::new(SERVERS);
    world.interfaces(&[("eth0", "192.168.1.2")]);
    world.seen_by_all("203.0.113.8");
    assert!(
        world
            .told()
            .is_some_and(|told| told.contains("203.0.113.8"))
    );
    world.advertiser.handle_configuration(rtc(""));
    assert_eq!(world.told().as_deref(), Some("192.168.1.2:7882"));
}

#[test]
fn what_the_operator_adds_stays_his_word_when_clients_say_it_too() {
    let mut world = World::new(&format!("{SERVERS}, additional_host_ips: [203.0.113.8]"));
    world.interfaces(&[("eth0", "192.168.1.2")]);
    world.told();
    assert_eq!(world.seen_by_all("203.0.113.8"), Belief::Learned);
    assert_eq!(world.told(), None);
    let ours = from("203.0.113.8", Source::Advertise);
    assert!(world.advertiser.told_by.contains(&ours));
}
