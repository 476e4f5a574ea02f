//! Tests of `inquiry`: who is asked when, and whose answer counts.

use super::super::stun::client::Check;
use super::super::stun::{self, Request, Role};
use super::super::{ANSWER_MAX, Credentials, Event};
use super::*;
use crate::media::demux::{Carrier, Place};
use crate::media::message::FAILED_AFTER;
use rand::SeedableRng;
use rand::rngs::StdRng;

const THEIR_PASSWORD: &str = "their-password-of-22-ch";
const SEEN: &str = "203.0.113.7:7882";

fn credentials(seed: u64) -> Credentials {
    let place = Place {
        node: 1,
        generation: 2,
        worker: 3,
    };
    let rng = |seed| StdRng::seed_from_u64(seed);
    Credentials::random(place, &mut rng(seed), &mut rng(!seed))
}

fn them() -> Credentials {
    Credentials {
        ufrag: "them".into(),
        pwd: THEIR_PASSWORD.into(),
    }
}

/// An agent, its client by one path, and virtual time.
struct World {
    ice: Ice,
    path: Path,
    now: Instant,
}

impl World {
    /// Asked, and up by what carries media; media has come.
    fn by(carrier: Carrier) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Instant::now();
        let mut ice = Ice::new(credentials(1), [7; 16], now);
        ice.set_remote(them());
        ice.handle_inquiring(Some(now));
        let path = Path {
            carrier,
            local: None,
            port: 0,
            remote: "192.0.2.1:4000".parse().expect("an address"),
        };
        let mut world = Self { ice, path, now };
        world.check();
        assert_eq!(world.ask(), None, "not before media");
        world.ice.handle_authenticated(path, now);
        world
    }

    fn check(&mut self) {
        let local = self.ice.local().clone();
        let check = Check {
            username: Some(&format!("{}:them", local.ufrag)),
            password: Some(&local.pwd),
            priority: 1,
            nominate: true,
            controlled: false,
            extra: &[],
        };
        let bytes = check.bytes();
        let request = Request::parse(&bytes).expect("a check");
        self.ice
            .handle_binding(&request, self.path, &mut [0; ANSWER_MAX], self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ice.handle_timeout(self.now);
    }

    /// The question that is due, and whether it is the first for a silence.
    fn ask(&mut self) -> Option<(Vec<u8>, bool)> {
        let (path, at) = self.ice.poll_question()?;
        if at > self.now {
            return None;
        }
        assert_eq!(path, self.path);
        let mut out = [0; QUESTION_MAX];
        let question = self.ice.ask(&mut out, self.now);
        Some((out[..question.len].to_vec(), question.for_silence))
    }

    /// What becomes of the client's answer, signed with this.
    fn answer(&mut self, question: &[u8], password: Option<&str>) -> Reply {
        let request = Request::parse(question).expect("a check");
        let mut out = [0; ANSWER_MAX];
        let seen = SEEN.parse().expect("an address");
        let writer = Writer::success(&mut out, &request).mapped(seen, &request.transaction);
        self.reply(writer, password)
    }

    fn refuse(&mut self, question: &[u8], password: Option<&str>) -> Reply {
        let request = Request::parse(question).expect("a check");
        let mut out = [0; ANSWER_MAX];
        let writer = Writer::error(&mut out, &request, 403, "Forbidden");
        self.reply(writer, password)
    }

    fn reply(&mut self, writer: Writer<'_>, password: Option<&str>) -> Reply {
        let writer = match password {
            Some(password) => writer.sign(&Key::new(password)),
            None => writer,
        };
        let bytes = writer.into_bytes();
        let response = Response::parse(&bytes).expect("an answer");
        self.ice.handle_response(&response, self.path, self.now)
    }

    fn states(&mut self) -> Vec<State> {
        std::iter::from_fn(|| self.ice.poll_event())
            .filter_map(|event| match event {
                Event::State(state) => Some(state),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_client_is_asked_once_media_comes_and_then_each_minute() {
    let mut world = World::by(Carrier::Udp(0));
    let (question, for_silence) = world.ask().expect("a question");
    assert!(!for_silence);
    let seen = Reply::Seen(SEEN.parse().expect("an address"));
    assert_eq!(world.answer(&question, Some(THEIR_PASSWORD)), seen);
    let mut asked = Vec::new();
    for second in 1..=120 {
        world.pass(Duration::from_secs(1));
        world.check();
        if let Some((question, _)) = world.ask() {
            asked.push(second);
            assert_eq!(world.answer(&question, Some(THEIR_PASSWORD)), seen);
        }
    }
    assert_eq!(asked, [60, 120]);
}

#[test]
fn a_question_is_a_check_by_who_is_controlled() {
    let mut world = World::by(Carrier::Udp(0));
    let (question, _) = world.ask().expect("a question");
    let request = Request::parse(&question).expect("a check");
    let names = format!("them:{}", world.ice.local().ufrag);
    assert_eq!(request.username, Some(names.as_bytes()));
    assert_eq!(request.role, Some(Role::Controlled));
    assert!(request.priority.is_some() && !request.use_candidate);
    assert!(request.unknown.as_slice().is_empty());
    assert!(request.verify(&Key::new(THEIR_PASSWORD)));
    let again = World::by(Carrier::Udp(0)).ask().expect("a question").0;
    world.pass(EVERY);
    world.check();
    let (next, _) = world.ask().expect("a question");
    // One that is seen tells nothing of the next; a replay makes the same.
    assert_ne!(question[8..14], next[8..14]);
    assert_ne!(question[14..20], next[14..20]);
    assert_eq!(question[8..20], again[8..20]);
}

#[test]
fn the_longest_names_fit() {
    let mut world = World::by(Carrier::Udp(0));
    world.ice.set_remote(Credentials {
        ufrag: "x".repeat(256),
        pwd: THEIR_PASSWORD.into(),
    });
    let (question, _) = world.ask().expect("a question");
    assert!(Request::parse(&question).is_ok() && question.len() <= QUESTION_MAX);
}

#[test]
fn a_quiet_client_is_asked_each_second_until_it_is_given_up() {
    let mut world = World::by(Carrier::Udp(0));
    world.ask().expect("the first question");
    let mut asked = Vec::new();
    for tenth in 1..=200 {
        world.pass(Duration::from_millis(100));
        if let Some((_, for_silence)) = world.ask() {
            asked.push((tenth, for_silence));
        }
    }
    let expected: Vec<(i32, bool)> = (30..150).step_by(10).map(|at| (at, at == 70)).collect();
    assert_eq!(asked, expected);
    assert_eq!(world.ice.state(), State::Failed);
    assert!(Duration::from_secs(15) == FAILED_AFTER);
}

#[test]
fn an_answer_out_of_silence_renews_the_consent_and_ends_it() {
    let mut world = World::by(Carrier::Udp(0));
    world.ask();
    world.pass(Duration::from_secs(11));
    world.ask();
    world.pass(Duration::from_secs(1));
    let (question, for_silence) = world.ask().expect("a question");
    assert!(for_silence);
    assert_eq!(world.states(), [State::Disconnected]);
    world.answer(&question, Some(THEIR_PASSWORD));
    assert_eq!(world.states(), [State::Connected]);
    world.pass(SILENT_AFTER - Duration::from_millis(1));
    assert_eq!(world.ask(), None);
    world.pass(Duration::from_millis(1));
    let (_, for_silence) = world.ask().expect("a question");
    assert!(!for_silence, "it may be a pause");
    world.pass(QUIET_EVERY);
    let (_, for_silence) = world.ask().expect("a question");
    assert!(for_silence, "another silence");
}

#[test]
fn an_agent_wakes_for_its_questions() {
    let mut world = World::by(Carrier::Udp(0));
    let path = world.path;
    assert_eq!(world.ice.poll_question(), Some((path, world.now)));
    world.ask();
    let next = world.now + QUIET_AFTER;
    assert_eq!(world.ice.poll_question(), Some((path, next)));
    world.ice.handle_inquiring(None);
    assert_eq!(world.ice.poll_question(), None);
    let later = world.now + EVERY;
    world.ice.handle_inquiring(Some(later));
    assert_eq!(world.ice.poll_question(), Some((path, later)));
}

#[test]
fn nobody_is_asked_whose_answer_would_tell_nothing() {
    let relay = Carrier::Relay {
        slot: 1,
        generation: 1,
    };
    for carrier in [Carrier::Tcp(1), relay] {
        assert_eq!(World::by(carrier).ask(), None);
    }
    let mut world = World::by(Carrier::Udp(0));
    world.ice.handle_inquiring(None);
    assert_eq!(world.ask(), None, "switched off");
    world.ice.handle_inquiring(Some(world.now));
    world.ice.restart(credentials(2), world.now);
    assert_eq!(world.ask(), None, "the client is not described yet");
    world.ice.set_remote(them());
    assert_eq!(world.ask(), None, "which credentials it uses is open");
    world.check();
    world.ice.handle_authenticated(world.path, world.now);
    assert!(world.ask().is_some(), "the restart is over");
}

#[test]
fn an_answer_counts_that_the_client_signed_and_no_other() {
    let mut world = World::by(Carrier::Udp(0));
    let (question, _) = world.ask().expect("a question");
    assert_eq!(world.answer(&question, None), Reply::Foreign);
    let ours = world.ice.local().pwd.clone();
    assert_eq!(world.answer(&question, Some(&ours)), Reply::Foreign);
    let mut another = question.clone();
    another[19] ^= 1;
    stun::client::mark(&mut another);
    assert_eq!(
        world.answer(&another, Some(THEIR_PASSWORD)),
        Reply::Foreign,
        "to another question"
    );
    let path = world.path;
    world.path.remote.set_port(4001);
    assert_eq!(
        world.answer(&question, Some(THEIR_PASSWORD)),
        Reply::Foreign,
        "from elsewhere"
    );
    world.path = path;
    assert!(matches!(
        world.answer(&question, Some(THEIR_PASSWORD)),
        Reply::Seen(_)
    ));
}

#[test]
fn a_client_that_refuses_is_not_asked_again() {
    let mut world = World::by(Carrier::Udp(0));
    let (question, _) = world.ask().expect("a question");
    assert_eq!(
        world.refuse(&question, None),
        Reply::Foreign,
        "anybody may say so"
    );
    assert_eq!(
        world.refuse(&question, Some(THEIR_PASSWORD)),
        Reply::Refused
    );
    for _ in 0..120 {
        world.pass(Duration::from_secs(1));
        world.check();
        assert_eq!(world.ask(), None);
    }
}

#[test]
fn a_question_is_answered_once() {
    let mut world = World::by(Carrier::Udp(0));
    let (question, _) = world.ask().expect("a question");
    let seen = Reply::Seen(SEEN.parse().expect("an address"));
    assert_eq!(world.answer(&question, Some(THEIR_PASSWORD)), seen);
    assert_eq!(
        world.answer(&question, Some(THEIR_PASSWORD)),
        Reply::Foreign
    );
}

#[test]
fn answers_may_be_late_by_some_seconds_but_not_by_many_nor_come_to_another_path() {
    let mut world = World::by(Carrier::Udp(0));
    let mut asked = vec![world.ask().expect("a question").0];
    world.pass(QUIET_AFTER);
    while asked.len() < 7 {
        asked.push(world.ask().expect("a question").0);
        world.pass(QUIET_EVERY);
    }
    let mut answers =
        |number: usize| world.answer(&asked[number], Some(THEIR_PASSWORD)) != Reply::Foreign;
    assert!(!answers(2), "four questions ago");
    assert!(answers(4));
    assert!(!answers(3), "before one that was answered");
    assert!(answers(6));
    world.pass(SILENT_AFTER);
    let (before, _) = world.ask().expect("a question");
    world.path.remote.set_port(4001);
    world.check();
    world.ice.handle_authenticated(world.path, world.now);
    world.pass(SILENT_AFTER);
    let (after, _) = world.ask().expect("a question");
    assert_eq!(world.answer(&before, Some(THEIR_PASSWORD)), Reply::Foreign);
    assert_ne!(world.answer(&after, Some(THEIR_PASSWORD)), Reply::Foreign);
}

#[test]
fn each_silence_is_told_also_where_the_client_ends_it_itself() {
    let mut world = World::by(Carrier::Udp(0));
    world.ask();
    for _ in 0..3 {
        let mut told = 0;
        for _ in 0..9 {
            world.pass(Duration::from_secs(1));
            told += u32::from(world.ask().is_some_and(|(_, for_silence)| for_silence));
        }
        assert_eq!(told, 1);
        world.check();
    }
}

#[test]
fn a_client_that_is_quiet_by_nature_is_asked_as_seldom_as_others() {
    let mut world = World::by(Carrier::Udp(0));
    let mut asked = Vec::new();
    for second in 0..=180 {
        // As RFC 7675 has it.
        if second % 5 == 0 {
            world.check();
        }
        if let Some((question, _)) = world.ask() {
            asked.push(second);
            world.answer(&question, Some(THEIR_PASSWORD));
        }
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(asked, [0, 3, 63, 123]);
}

#[test]
fn what_has_no_room_is_lost_and_the_client_asked_again_later() {
    let mut world = World::by(Carrier::Udp(0));
    let question = world.ice.ask(&mut [], world.now);
    assert_eq!(question, Question::default());
    assert!(world.ask().is_none());
    world.pass(QUIET_AFTER);
    assert!(world.ask().is_some());
}

#[test]
fn who_refused_is_asked_again_in_its_next_session_and_nobody_is_late_for_our_absence() {
    let mut world = World::by(Carrier::Udp(0));
    let (question, _) = world.ask().expect("a question");
    world.refuse(&question, Some(THEIR_PASSWORD));
    world.ice.restart(credentials(2), world.now);
    world.ice.set_remote(them());
    world.check();
    world.ice.handle_authenticated(world.path, world.now);
    world.pass(QUIET_AFTER);
    assert!(world.ask().is_some());
    world.now += EVERY;
    world.ice.excuse(EVERY);
    assert!(world.ask().is_none(), "nobody could be asked");
}
