//! Whose media fails is led to other ways, and remembered.

use super::harness::{Client, World, leave};
use crate::advertise::Gone;
use crate::config::check::turn::Access;
use crate::ice_servers::{Credential, IceServer};
use crate::media::message::{Command as Media, Event, PathTransport, Side};
use crate::room::command::{Admin, Command, Join};
use crate::room::preference::{Preference, Reachable};
use crate::room::{Fallback, Settings};
use proto::livekit::client_info::Sdk;
use proto::livekit::leave_request::Action;
use proto::livekit::signal_request::Message as Request;
use proto::livekit::signal_response::Message;
use proto::livekit::simulate_scenario::Scenario;
use proto::livekit::{
    self, CandidateProtocol, ClientConfigSetting, ClientConfiguration, DisconnectReason,
    JoinResponse, ReconnectReason, ReconnectResponse,
};
use std::time::Duration;

const RELAYS: [&str; 3] = [
    "turn:192.0.2.1:3479?transport=udp",
    "turn:192.0.2.1:3479?transport=tcp",
    "turns:t.example:5350?transport=tcp",
];

fn relays() -> Vec<IceServer> {
    vec![IceServer {
        urls: RELAYS.map(str::to_owned).into(),
        credential: Credential::Theirs(Access::Open),
    }]
}

fn enter(world: &mut World, change: impl FnOnce(&mut Join)) -> Client {
    let alice = world.join_with("alice", |join| {
        join.ways.ice_servers = relays();
        change(join);
    });
    world.connect(&alice);
    world.advance(6_000);
    world.request(&alice, Request::Ping(1));
    alice
}

/// Resumes for this reason, and what is told first.
fn resume(world: &mut World, client: &Client, reason: ReconnectReason) -> (Client, Message) {
    let mut resume = world.resume_request(client);
    resume.reason = reason;
    resume.ice_servers = relays();
    let session = resume.session;
    world.act(Command::Resume(Box::new(resume)));
    let back = Client {
        session,
        ..client.clone()
    };
    let told = world.take(&back).swap_remove(0);
    world.request(&back, Request::Ping(1));
    (back, told)
}

fn reconnect(told: Message) -> ReconnectResponse {
    match told {
        Message::Reconnect(told) => told,
        other => panic!("{other:?}"),
    }
}

fn joined(world: &mut World, client: &Client) -> JoinResponse {
    match world.take(client).swap_remove(0) {
        Message::Join(told) => told,
        other => panic!("{other:?}"),
    }
}

fn is_forced(configuration: Option<&ClientConfiguration>) -> bool {
    configuration.is_some_and(|told| told.force_relay() == ClientConfigSetting::Enabled)
}

fn urls(servers: &[livekit::IceServer]) -> Vec<&str> {
    let urls = servers.iter().flat_map(|server| &server.urls);
    urls.map(String::as_str).collect()
}

/// What media was told to tell last, if anything.
fn only_tcp(world: &mut World) -> Option<bool> {
    let told = world.take_media().into_iter().rev();
    let mut told = told.filter_map(|command| match command {
        Media::TellTcp { only, .. } => Some(only),
        _ => None,
    });
    told.next()
}

use ReconnectReason::{RrPublisherFailed, RrSignalDisconnected, RrSubscriberFailed, RrUnknown};

#[test]
fn a_client_whose_media_fails_early_is_led_to_tcp_if_it_could_tell_and_may() {
    let led = |allowed: bool, reason: ReconnectReason| {
        let settings = Settings {
            fallback: Fallback {
                allowed,
                ..Fallback::default()
            },
            ..Settings::default()
        };
        let mut world = World::with(settings, None);
        let alice = enter(&mut world, |_| {});
        world.take_media();
        let (_, told) = resume(&mut world, &alice, reason);
        assert_eq!(urls(&reconnect(told).ice_servers), RELAYS);
        only_tcp(&mut world) == Some(true)
    };
    assert!(led(true, RrPublisherFailed) && led(true, RrSubscriberFailed));
    assert!(!led(true, RrSignalDisconnected));
    assert!(!led(false, RrPublisherFailed));
}

#[test]
fn where_tcp_fails_too_a_client_is_led_to_a_relay_over_tls_and_nothing_else() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    world.connect_by(&back, Side::Publisher, PathTransport::Tcp);
    assert_eq!(only_tcp(&mut world), Some(true));
    world.advance(30_000);
    world.request(&back, Request::Ping(1));
    let (_, told) = resume(&mut world, &back, RrPublisherFailed);
    let told = reconnect(told);
    assert!(is_forced(told.client_configuration.as_ref()), "{told:?}");
    assert_eq!(urls(&told.ice_servers), RELAYS[1..]);
    // The relay comes to us by UDP.
    assert_eq!(only_tcp(&mut world), Some(false));
    let preferred: Vec<_> = world.preferred.iter().map(|(_, what)| *what).collect();
    assert_eq!(preferred, [Preference::Tcp, Preference::Relay]);
    assert!(world.preferred.iter().all(|(who, _)| who == "alice"));
}

#[test]
fn what_we_notice_counts_like_what_the_client_tells_if_signalling_lives() {
    for alive in [true, false] {
        let mut world = World::new();
        let alice = enter(&mut world, |_| {});
        world.advance(15_000);
        if alive {
            world.request(&alice, Request::Ping(1));
        }
        world.take_media();
        world.fail(&alice);
        assert_eq!(only_tcp(&mut world), alive.then_some(true), "{alive}");
        // The same, as its client takes it.
        resume(&mut world, &alice, RrPublisherFailed);
        assert_eq!(world.preferred.len(), usize::from(alive));
    }
}

#[test]
fn who_was_led_somewhere_begins_there_the_next_time() {
    let remembered = |preference| {
        let mut world = World::new();
        let alice = world.join_with("alice", |join| {
            join.ways.ice_servers = relays();
            join.ways.preference = preference;
        });
        (joined(&mut world, &alice), only_tcp(&mut world))
    };
    let (any, tcp) = remembered(Preference::Any);
    assert!(any.fast_publish && tcp.is_none());
    let (told, tcp) = remembered(Preference::Tcp);
    assert!(!told.fast_publish && !is_forced(told.client_configuration.as_ref()));
    assert_eq!((urls(&told.ice_servers), tcp), (RELAYS.into(), Some(true)));
    let (told, tcp) = remembered(Preference::Relay);
    assert!(!told.fast_publish && is_forced(told.client_configuration.as_ref()));
    assert_eq!((urls(&told.ice_servers), tcp), (RELAYS[1..].to_vec(), None));
}

#[test]
fn nobody_is_led_where_there_is_nothing_any_more() {
    let told = |allowed, preference| {
        let settings = Settings {
            fallback: Fallback {
                allowed,
                tcp: false,
                ..Fallback::default()
            },
            ..Settings::default()
        };
        let mut world = World::with(settings, None);
        let alice = world.join_with("alice", |join| {
            join.ways.preference = preference;
            if !allowed {
                join.ways.ice_servers = relays();
            }
        });
        (
            joined(&mut world, &alice).fast_publish,
            only_tcp(&mut world),
        )
    };
    assert_eq!(told(true, Preference::Tcp), (true, None));
    assert_eq!(told(true, Preference::Relay), (true, None));
    assert_eq!(told(false, Preference::Relay), (true, None));
}

#[test]
fn a_way_nobody_comes_by_is_given_up_before_clients_give_up() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    world.take_media();
    world.advance(11_000);
    world.request(&back, Request::Ping(1));
    world.advance(1_000);
    assert_eq!(only_tcp(&mut world), Some(false));
    assert_eq!(
        leave(&world.take(&back)),
        Some((Action::Resume, DisconnectReason::ConnectionTimeout))
    );
    let (back, told) = resume(&mut world, &back, RrUnknown);
    assert!(is_forced(reconnect(told).client_configuration.as_ref()));
    world.advance(11_000);
    world.request(&back, Request::Ping(1));
    world.advance(1_000);
    let (back, told) = resume(&mut world, &back, RrUnknown);
    let told = reconnect(told);
    assert!(!is_forced(told.client_configuration.as_ref()));
    assert_eq!(urls(&told.ice_servers), RELAYS);
    world.take(&back);
    world.request(&back, Request::Ping(1));
    world.advance(12_000);
    assert_eq!(leave(&world.take(&back)), None, "everything is open");
    let preferred: Vec<_> = world.preferred.iter().map(|(_, what)| *what).collect();
    use Preference::{Any, Relay, Tcp};
    assert_eq!(preferred, [Tcp, Relay, Any]);
}

#[test]
fn a_client_that_gives_a_way_up_sooner_is_led_on_at_once_if_it_has_tried() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    world.advance(4_900);
    let (back, told) = resume(&mut world, &back, RrPublisherFailed);
    assert!(!is_forced(reconnect(told).client_configuration.as_ref()));
    world.advance(100);
    let (_, told) = resume(&mut world, &back, RrPublisherFailed);
    assert!(is_forced(reconnect(told).client_configuration.as_ref()));
}

#[test]
fn a_trial_ends_when_media_comes_by_what_is_preferred_and_waits_for_who_is_away() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    world.lose(&back);
    world.advance(13_000);
    assert_eq!(world.preferred.len(), 1);
    let (back, _) = resume(&mut world, &back, RrUnknown);
    world.connect_by(&back, Side::Publisher, PathTransport::Tcp);
    world.take(&back);
    world.request(&back, Request::Ping(1));
    world.advance(13_000);
    assert_eq!(leave(&world.take(&back)), None);
    assert_eq!(world.preferred.len(), 1);
}

#[test]
fn who_is_only_just_joining_and_does_not_come_finds_another_way_the_next_time() {
    let mut world = World::new();
    let alice = world.join_with("alice", |join| {
        join.ways.ice_servers = relays();
        join.ways.preference = Preference::Tcp;
    });
    world.take(&alice);
    world.advance(12_000);
    assert_eq!(leave(&world.take(&alice)), None);
    assert_eq!(world.preferred, [("alice".to_owned(), Preference::Relay)]);
    assert_eq!(only_tcp(&mut world), Some(false));
}

#[test]
fn after_five_minutes_a_resume_may_come_by_anything() {
    let mut world = World::new();
    let alice = enter(&mut world, |join| join.ways.preference = Preference::Tcp);
    world.connect_by(&alice, Side::Publisher, PathTransport::Tcp);
    world.advance(290_000);
    world.take_media();
    let (back, _) = resume(&mut world, &alice, RrSignalDisconnected);
    assert_eq!(only_tcp(&mut world), None);
    world.advance(10_000);
    resume(&mut world, &back, RrSignalDisconnected);
    assert_eq!(only_tcp(&mut world), Some(false));
}

#[test]
fn a_slow_road_is_led_past_tcp_where_the_operator_says_so() {
    let led = |rtt: i64| {
        let settings = Settings {
            fallback: Fallback {
                tcp_rtt_below_ms: 200,
                ..Fallback::default()
            },
            ..Settings::default()
        };
        let mut world = World::with(settings, None);
        let alice = enter(&mut world, |_| {});
        world.request(
            &alice,
            Request::PingReq(livekit::Ping { timestamp: 1, rtt }),
        );
        resume(&mut world, &alice, RrPublisherFailed);
        world.preferred[0].1
    };
    assert_eq!(led(199), Preference::Tcp);
    assert_eq!(led(200), Preference::Relay);
}

/// Much of a client's media is lost; whether it is sent back for it.
fn lose(world: &mut World, client: &Client, side: Side) -> bool {
    world.take(client);
    world.take_media();
    world.event(Event::HeavyLoss {
        peer: client.peer,
        side,
        rtt: Some(Duration::from_millis(30)),
    });
    leave(&world.take(client)) == Some((Action::Resume, DisconnectReason::ConnectionTimeout))
}

#[test]
fn whose_media_is_lost_is_sent_back_for_tcp_and_none_of_his_paths_outlives_that() {
    let mut world = World::unsteady();
    let alice = enter(&mut world, |_| {});
    assert!(lose(&mut world, &alice, Side::Publisher));
    let told = world.take_media();
    assert!(
        told.contains(&Media::TellTcp {
            peer: alice.peer,
            only: true
        }),
        "{told:?}"
    );
    assert!(
        told.contains(&Media::LeavePath {
            peer: alice.peer,
            leaves: true
        }),
        "{told:?}"
    );
    assert_eq!(world.preferred, [("alice".to_owned(), Preference::Tcp)]);
    // His media fails before he has another way: that is the old one's.
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    assert_eq!(world.preferred.len(), 1);
    world.connect_by(&back, Side::Publisher, PathTransport::Tcp);
    world.advance(13_000);
    world.request(&back, Request::Ping(1));
    assert_eq!(leave(&world.take(&back)), None);
    assert!(!lose(&mut world, &back, Side::Publisher), "he comes by TCP");
}

#[test]
fn who_knows_no_tcp_is_led_to_a_relay_for_his_losses_and_nobody_where_there_is_nothing() {
    let go = |join: &mut Join| join.client.set_sdk(Sdk::Go);
    let mut world = World::unsteady();
    let alice = enter(&mut world, go);
    assert!(lose(&mut world, &alice, Side::Publisher));
    assert_eq!(world.preferred[0].1, Preference::Relay);
    let bob = world.join_with("bob", go);
    world.connect(&bob);
    assert!(!lose(&mut world, &bob, Side::Publisher));
    assert_eq!(world.preferred.len(), 1);
    world.fail(&bob);
    assert!(!world.take(&bob).is_empty(), "his failures count as ever");
}

#[test]
fn nobody_is_led_for_losses_unless_wanted_nor_while_signalling_is_slower_nor_by_tcp() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    assert!(!lose(&mut world, &alice, Side::Publisher));
    let mut world = World::unsteady();
    let alice = enter(&mut world, |_| {});
    let ping = |rtt| Request::PingReq(livekit::Ping { timestamp: 1, rtt });
    world.request(&alice, ping(101));
    assert!(!lose(&mut world, &alice, Side::Publisher));
    world.request(&alice, ping(100));
    assert!(!lose(&mut world, &alice, Side::Subscriber), "it has none");
    assert!(lose(&mut world, &alice, Side::Publisher));
    let mut world = World::unsteady();
    let alice = enter(&mut world, |_| {});
    world.connect_by(&alice, Side::Publisher, PathTransport::Tcp);
    assert!(!lose(&mut world, &alice, Side::Publisher));
    // Who is away takes up his session by himself.
    world.connect_by(&alice, Side::Publisher, PathTransport::Udp);
    world.lose(&alice);
    assert!(!lose(&mut world, &alice, Side::Publisher));
    assert!(world.preferred.is_empty());
}

#[test]
fn a_client_may_ask_for_a_way_there_is() {
    let ask = |world: &mut World, alice: &Client, protocol: CandidateProtocol| {
        let scenario = Some(Scenario::SwitchCandidateProtocol(protocol.into()));
        let request = livekit::SimulateScenario { scenario };
        world.request(alice, Request::Simulate(request));
        world.preferred.last().map(|(_, what)| *what)
    };
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    for (protocol, expected) in [
        (CandidateProtocol::Tcp, Preference::Tcp),
        (CandidateProtocol::Tls, Preference::Relay),
        (CandidateProtocol::Udp, Preference::Any),
    ] {
        assert_eq!(ask(&mut world, &alice, protocol), Some(expected));
    }
    let bob = world.enter("bob");
    assert_eq!(
        ask(&mut world, &bob, CandidateProtocol::Tls),
        Some(Preference::Any),
        "he was told of no relay"
    );
}

const ALL: Reachable = Reachable {
    udp: true,
    tcp: true,
};

/// We are reached by this address now instead of the other one.
fn readdress(world: &mut World, (gone, still): (&str, &str), reachable: Reachable) {
    let (gone, still) = (gone.parse().into_iter(), still.parse().into_iter());
    let outside = |ip| Gone {
        ip,
        internal: false,
    };
    let (gone, still) = (gone.map(outside).collect(), still.collect());
    world.act(Command::Admin(Admin::Readdress {
        gone,
        still,
        reachable,
    }));
}

/// An address that is none of this machine, and another one.
const CHANGE: (&str, &str) = ("198.51.100.8", "198.51.100.9");

#[test]
fn whom_an_address_that_was_ours_no_more_led_elsewhere_may_come_by_anything_again() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    assert_eq!(only_tcp(&mut world), Some(true));
    readdress(&mut world, CHANGE, ALL);
    let told = world.take_media();
    let peer = alice.peer;
    for expected in [
        Media::TellTcp { peer, only: false },
        Media::LeavePath {
            peer,
            leaves: false,
        },
    ] {
        assert!(told.contains(&expected), "{told:?}");
    }
    assert_eq!(world.preferred.last().expect("told").1, Preference::Any);
    let (action, _) = leave(&world.take(&back)).expect("he is sent back");
    assert_eq!(action, Action::Resume);
    // What he noticed of the old one leads nowhere, and what is noticed of the new one later does.
    let (back, told) = resume(&mut world, &back, RrPublisherFailed);
    assert!(!is_forced(reconnect(told).client_configuration.as_ref()));
    assert_eq!((only_tcp(&mut world), world.preferred.len()), (None, 2));
    world.advance(20_000);
    world.request(&back, Request::Ping(1));
    resume(&mut world, &back, RrPublisherFailed);
    assert_eq!(only_tcp(&mut world), Some(true));
}

#[test]
fn whoever_was_led_elsewhere_long_before_an_address_changed_stays_there() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    world.connect_by(&back, Side::Publisher, PathTransport::Tcp);
    world.advance(180_000);
    world.request(&back, Request::Ping(1));
    world.forget();
    readdress(&mut world, CHANGE, ALL);
    assert!(leave(&world.take(&back)).is_some(), "he is sent back");
    assert_eq!(only_tcp(&mut world), None);
    assert_eq!(world.preferred, [("alice".to_owned(), Preference::Tcp)]);
}

#[test]
fn an_address_of_this_network_that_goes_frees_nobody_who_was_led_elsewhere() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    let (back, _) = resume(&mut world, &alice, RrPublisherFailed);
    assert_eq!(only_tcp(&mut world), Some(true));
    let internal = Gone {
        ip: CHANGE.0.parse().expect("an address"),
        internal: true,
    };
    world.act(Command::Admin(Admin::Readdress {
        gone: vec![internal],
        still: vec![CHANGE.1.parse().expect("an address")],
        reachable: ALL,
    }));
    assert_eq!(leave(&world.take(&back)), None);
    assert_eq!(only_tcp(&mut world), None);
    assert_eq!(world.preferred, [("alice".to_owned(), Preference::Tcp)]);
}

#[test]
fn whoever_comes_by_an_address_that_stays_still_fails_by_himself() {
    let mut world = World::new();
    let alice = enter(&mut world, |_| {});
    readdress(&mut world, ("192.0.2.9", "192.0.2.1"), ALL);
    assert_eq!(leave(&world.take(&alice)), None);
    resume(&mut world, &alice, RrPublisherFailed);
    assert_eq!(only_tcp(&mut world), Some(true));
}

#[test]
fn whoever_joined_while_an_address_was_ours_no_more_begins_anew() {
    let mut world = World::new();
    let joining = world.join_with("alice", |join| join.ways.preference = Preference::Tcp);
    assert_eq!(only_tcp(&mut world), Some(true));
    world.take(&joining);
    readdress(&mut world, CHANGE, ALL);
    assert_eq!(only_tcp(&mut world), Some(false));
    assert_eq!(leave(&world.take(&joining)), None);
    world.advance(12_000);
    assert_eq!(world.preferred, [("alice".to_owned(), Preference::Any)]);
}

#[test]
fn nobody_is_led_where_no_address_is_told_that_leads_here() {
    let led = |udp: bool, tcp: bool| {
        let mut world = World::new();
        let alice = enter(&mut world, |_| {});
        let reachable = Reachable { udp, tcp };
        readdress(&mut world, ("", CHANGE.1), reachable);
        assert_eq!(leave(&world.take(&alice)), None, "nothing has gone");
        resume(&mut world, &alice, RrPublisherFailed);
        world.preferred.last().map(|(_, what)| *what)
    };
    assert_eq!(led(true, true), Some(Preference::Tcp));
    assert_eq!(led(true, false), Some(Preference::Relay));
    assert_eq!(led(false, false), None);
}
