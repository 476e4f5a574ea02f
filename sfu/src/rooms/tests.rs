use super::*;
use crate::ids::PeerId;
use crate::media::message::{Event, Side};
use crate::room::Settings;
use crate::room::command::{Join, Resume};
use crate::room::preference::Preference;
use proto::livekit::signal_response::Message;
use proto::token::{Claims, Keys, Secret, VideoGrant};
use std::time::Duration;

fn keys() -> Keys {
    [(
        "key".to_owned(),
        Secret::new("open-sesame-open-sesame-open-sesame"),
    )]
    .into_iter()
    .collect()
}

fn rooms() -> Rooms {
    Rooms::start(Surroundings::on_loopback(Settings::default()))
}

fn join(rooms: &Rooms, identity: &str) -> Entry {
    Entry::Join(Box::new(Join {
        session: rooms.open_session(),
        peer: rooms.place(),
        claims: Claims {
            identity: identity.into(),
            expires_at: unix_ms() / 1000 + 3600,
            video: Some(VideoGrant::join("lobby")),
            ..Claims::default()
        },
        client: proto::livekit::ClientInfo::default(),
        address: None,
        auto_subscribe: true,
        adaptive_stream: false,
        metadata: String::new(),
        attributes: Vec::new(),
        add_tracks: Vec::new(),
        offer: None,
        publish_codecs: Vec::new(),
        subscribe_codecs: Vec::new(),
        one_codec_per_section: false,
        outside_only: false,
        dual: false,
        reuse_sections: true,
        passive_offers: false,
        client_configuration: None,
        ways: crate::room::command::Ways::default(),
    }))
}

fn resume(rooms: &Rooms, identity: &str) -> Entry {
    Entry::Resume(Box::new(Resume {
        session: rooms.open_session(),
        identity: identity.into(),
        sid: None,
        reason: proto::livekit::ReconnectReason::RrUnknown,
        client: proto::livekit::ClientInfo::default(),
        client_configuration: None,
        ice_servers: Vec::new(),
    }))
}

async fn message(attached: &mut Attached) -> Message {
    match attached.next().await {
        Some(Said::Message(message)) => *message,
        other => panic!("no message: {other:?}"),
    }
}

/// Reads until the message for which `wanted` is true.
async fn find(attached: &mut Attached, wanted: impl Fn(&Message) -> bool) -> Message {
    loop {
        let message = message(attached).await;
        if wanted(&message) {
            return message;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_makes_the_room_and_is_answered_by_it() {
    let rooms = rooms();
    assert!(!rooms.exists("lobby").await);
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    let Message::Join(joined) = message(&mut alice).await else {
        panic!("not a join");
    };
    assert_eq!(joined.room.map(|room| room.name), Some("lobby".into()));
    assert_eq!(
        joined.participant.map(|info| info.identity),
        Some("alice".into())
    );
    assert!(rooms.exists("lobby").await);
    assert!(!rooms.exists("other").await);
}

#[tokio::test(start_paused = true)]
async fn a_joined_session_gets_a_token_that_verifies_here() {
    let rooms = rooms();
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    let renewed = find(&mut alice, |message| {
        matches!(message, Message::RefreshToken(_))
    })
    .await;
    let Message::RefreshToken(token) = renewed else {
        unreachable!("found by its kind");
    };
    let now = unix_ms() / 1000;
    let claims = keys().verify(&token, now).expect("valid");
    assert_eq!(claims.identity, "alice");
    let left = claims.expires_at.saturating_sub(now);
    assert!((3500..=3600).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn a_resume_of_nobody_is_told_to_start_over_and_let_go() {
    let rooms = rooms();
    let mut ghost = rooms
        .enter("lobby", resume(&rooms, "ghost"))
        .await
        .expect("entered");
    let Message::Leave(leave) = message(&mut ghost).await else {
        panic!("not a leave");
    };
    assert_eq!(
        leave.action(),
        proto::livekit::leave_request::Action::Reconnect
    );
    assert_eq!(
        leave.reason(),
        proto::livekit::DisconnectReason::StateMismatch
    );
    assert!(ghost.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_last_session_is_lost_ends_by_itself() {
    let rooms = rooms();
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    message(&mut alice).await;
    drop(alice);
    // Time is virtual: it runs to the room's own deadlines while nothing else is to be done.
    let mut waited = 0;
    while rooms.exists("lobby").await {
        tokio::time::advance(Duration::from_secs(1)).await;
        waited += 1;
        assert!(waited < 3600, "the room does not end");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_denied_and_expelled_is_out_and_comes_in_no_more() {
    let rooms = rooms();
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    rooms.expel("attic", "alice").await;
    rooms.deny(
        "lobby",
        "alice",
        tokio::time::Instant::now().into_std() + Duration::from_secs(60),
    );
    rooms.expel("lobby", "alice").await;
    let left = find(&mut alice, |message| matches!(message, Message::Leave(_))).await;
    let Message::Leave(left) = left else {
        unreachable!("found by its kind");
    };
    let removed = proto::livekit::DisconnectReason::ParticipantRemoved;
    assert_eq!(left.reason(), removed);
    while alice.next().await.is_some() {}
    for entry in [
        join(&rooms, "alice"),
        join(&rooms, "alice#screen"),
        resume(&rooms, "alice"),
    ] {
        let denied = rooms.enter("lobby", entry).await;
        assert_eq!(denied.err(), Some(EnterError::Denied));
    }
    assert!(rooms.denies("lobby", "alice") && !rooms.denies("lobby", "bob"));
    assert!(rooms.enter("attic", join(&rooms, "alice")).await.is_ok());
    rooms.allow("lobby", "alice");
    assert!(rooms.enter("lobby", join(&rooms, "alice")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn going_down_tells_every_session_and_lets_nobody_in() {
    let rooms = rooms();
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    let mut bob = rooms
        .enter("attic", join(&rooms, "bob"))
        .await
        .expect("entered");
    let other = rooms.clone();
    let down = tokio::spawn(async move { other.shut_down().await });
    for session in [&mut alice, &mut bob] {
        find(session, |message| matches!(message, Message::Leave(_))).await;
        while session.next().await.is_some() {}
    }
    down.await.expect("down");
    let late = rooms.enter("lobby", join(&rooms, "carol")).await;
    assert_eq!(late.err(), Some(EnterError::Draining));
}

#[tokio::test(start_paused = true)]
async fn whoever_meets_a_closing_room_gets_a_fresh_one() {
    let rooms = rooms();
    // A room that is over, under whose name the directory still knows a mailbox.
    let found = rooms
        .ask(|reply| Ask::Open {
            name: "lobby".into(),
            config: None,
            reply,
        })
        .await
        .expect("answer")
        .expect("room");
    let down = Command::Admin(Admin::Shutdown);
    let down = Letter::Tell(Box::new(down));
    found.letters.send(down).await.expect("sent");
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    assert!(matches!(message(&mut alice).await, Message::Join(_)));
    let again = rooms.ask(|reply| Ask::Open {
        name: "lobby".into(),
        config: None,
        reply,
    });
    let again = again.await.expect("answer").expect("room");
    assert_ne!(again.id, found.id);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_takes_nothing_is_given_up() {
    let rooms = rooms();
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    message(&mut alice).await;
    let (full, mut said) = mpsc::channel(1);
    let (verdict, judged) = oneshot::channel();
    let entry = join(&rooms, "bob");
    let letter = Letter::Enter {
        entry,
        outbox: full,
        verdict,
    };
    // Join and token are two messages; there is place for one.
    alice.letters.send(letter).await.expect("sent");
    assert_eq!(judged.await, Ok(Verdict::Entered));
    assert!(matches!(said.recv().await, Some(Said::Message(_))));
    assert!(said.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_join_that_nobody_waits_for_any_more_is_undone() {
    let rooms = rooms();
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    let mut entering = Box::pin(rooms.enter("lobby", join(&rooms, "bob")));
    // The first poll asks the directory, the later ones wait for the room.
    for _ in 0..3 {
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready(entering.as_mut().poll(cx)));
        let entered = once.await.is_ready();
        tokio::task::yield_now().await;
        if entered {
            break;
        }
    }
    drop(entering);
    message(&mut alice).await;
    drop(alice);
    // A forgotten bob would keep the room open for ever.
    let mut waited = 0;
    while rooms.exists("lobby").await {
        tokio::time::advance(Duration::from_secs(1)).await;
        waited += 1;
        assert!(waited < 3600, "the room does not end");
    }
}

#[tokio::test(start_paused = true)]
async fn events_for_a_stranger_hurt_nobody() {
    let rooms = rooms();
    let mut alice = rooms
        .enter("lobby", join(&rooms, "alice"))
        .await
        .expect("entered");
    message(&mut alice).await;
    let peer = rooms.place();
    let side = Side::Publisher;
    let event = Event::Disconnected { peer, side };
    let letter = Letter::Tell(Box::new(Command::Media(event)));
    alice.letters.send(letter).await.expect("sent");
    let bob = rooms.enter("lobby", join(&rooms, "bob")).await;
    assert!(bob.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_joins_ends_after_its_time() {
    let rooms = rooms();
    let opened = rooms.ask(|reply| Ask::Open {
        name: "lobby".into(),
        config: None,
        reply,
    });
    opened.await.expect("answer").expect("room");
    let empty_timeout = Settings::default().empty_timeout.as_secs();
    let mut waited = 0;
    while rooms.exists("lobby").await {
        tokio::time::advance(Duration::from_secs(1)).await;
        waited += 1;
        assert!(waited < empty_timeout + 5, "the room does not end");
    }
    assert!(waited >= empty_timeout, "it ended after {waited} s");
}

/// What the room of `attached` is told.
async fn tell(attached: &Attached, command: Command) {
    let letter = Letter::Tell(Box::new(command));
    attached.letters.send(letter).await.expect("sent");
}

fn connected(peer: PeerId, side: Side) -> Command {
    let path = crate::media::message::PathReport {
        local: "192.0.2.1:7882".parse().expect("address"),
        remote: "198.51.100.7:40000".parse().expect("address"),
        transport: crate::media::message::PathTransport::Udp,
    };
    Command::Media(Event::Connected { peer, side, path })
}

#[tokio::test(start_paused = true)]
async fn each_step_of_a_stay_is_logged_and_counted_once() {
    let (log, _guard) = crate::telemetry::tests::captured();
    let surroundings = Surroundings::on_loopback(Settings::default());
    let metrics = surroundings.metrics.clone();
    let rooms = Rooms::start(surroundings);
    let Entry::Join(entry) = join(&rooms, "alice") else {
        unreachable!("a join");
    };
    let peer = entry.peer;
    let entered = rooms.enter("lobby", Entry::Join(entry)).await;
    let mut alice = entered.expect("entered");
    for side in [Side::Publisher, Side::Publisher, Side::Subscriber] {
        tell(&alice, connected(peer, side)).await;
    }
    let leave = signal_request::Message::Leave(proto::livekit::LeaveRequest::default());
    alice.request(leave).await;
    while alice.next().await.is_some() {}
    let bob = rooms.enter("lobby", join(&rooms, "bob")).await;
    drop(bob);
    rooms.shut_down().await;
    let text = log.text();
    let lines = |message: &str| -> Vec<&str> {
        let info = text.lines().filter(|line| line.contains(" INFO "));
        info.filter(|line| line.contains(message)).collect()
    };
    assert_eq!(lines("starting RTC session").len(), 2, "{text}");
    let active = lines("participant active");
    assert_eq!(active.len(), 1, "{text}");
    for part in [
        "room{room=lobby}",
        "participant=alice",
        "udp4 host 192.0.2.1:7882",
    ] {
        assert!(active[0].contains(part), "{part} in {}", active[0]);
    }
    assert_eq!(lines("ice reconnected or switched pair").len(), 1, "{text}");
    assert_eq!(lines("second connection up").len(), 1, "{text}");
    let closing = lines("participant closing");
    assert_eq!(closing.len(), 2, "{text}");
    assert!(closing[0].contains("CLIENT_INITIATED"), "{}", closing[0]);
    assert!(closing[1].contains("active=false"), "{}", closing[1]);
    assert_eq!(
        lines("participant left").len() + lines("participant joined").len(),
        0
    );
    assert_eq!(lines("room closed").len(), 1, "{text}");
    let states = crate::metrics::tests::labels(&metrics, "livekit_participant_join_total", "state");
    let wanted = [
        "rtc_active",
        "rtc_canceled",
        "rtc_connected",
        "rtc_init",
        "rtc_success",
    ];
    assert_eq!(states, wanted);
    let page = metrics.page();
    let count = |name: &str| crate::metrics::tests::value(&page, name, &[]);
    assert_eq!(count("livekit_session_start_time_ms_count"), "1");
    assert_eq!(count("livekit_session_duration_ms_count"), "2");
    assert_eq!(count("livekit_participant_total"), "0");
    assert_eq!(count("livekit_room_total"), "0");
}

#[tokio::test(start_paused = true)]
async fn the_sid_of_whoever_has_left_for_good_is_told_and_not_before() {
    let mut surroundings = Surroundings::on_loopback(Settings::default());
    let (departures, mut gone) = mpsc::channel(4);
    surroundings.told.departures = departures;
    let rooms = Rooms::start(surroundings);
    let entry = join(&rooms, "alice");
    let mut alice = rooms.enter("lobby", entry).await.expect("entered");
    let Message::Join(joined) = message(&mut alice).await else {
        panic!("not a join");
    };
    let sid = joined.participant.map(|info| info.sid).expect("a sid");
    // She comes back by another session.
    let again = resume(&rooms, "alice");
    let _alice = rooms.enter("lobby", again).await.expect("entered");
    while alice.next().await.is_some() {}
    assert!(gone.try_recv().is_err(), "she may still resume");
    rooms.expel("lobby", "alice").await;
    assert_eq!(gone.recv().await, Some(sid));
}

#[tokio::test]
async fn a_room_to_come_knows_what_the_addresses_have_become() {
    let rooms = rooms();
    let leads = async |identity: &str, tcp: bool| {
        let metrics = &rooms.metrics;
        rooms
            .preferences
            .keep(identity, identity, Preference::Tcp, metrics);
        rooms.readdress(Vec::new(), Vec::new(), Reachable { udp: true, tcp });
        let entry = join(&rooms, identity);
        let mut attached = rooms.enter(identity, entry).await.expect("entered");
        let joined = find(&mut attached, |one| matches!(one, Message::Join(_))).await;
        matches!(joined, Message::Join(told) if !told.fast_publish)
    };
    assert!(leads("alice", true).await);
    assert!(!leads("bob", false).await, "there is no TCP any more");
    assert!(leads("carol", true).await);
}
