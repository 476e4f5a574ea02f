use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn origin() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    Instant::now()
}

/// A token for `user` in room `!r`, leading to the participant `member`.
fn issued(user: &str, member: &str) -> Issued {
    Issued {
        room: "!r".into(),
        user: user.into(),
        alias: "alias".into(),
        identity: member.into(),
        lifetime: HOUR,
    }
}

fn place(member: &str) -> (String, String) {
    ("alias".into(), member.into())
}

struct World {
    members: Members,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = origin();
        Self {
            members: Members::new("x", SWEEP, now),
            now,
        }
    }

    fn issue(&mut self, user: &str, member: &str) -> Result<bool, Refused> {
        self.members.handle_issued(issued(user, member), self.now)
    }

    fn turns(&mut self, user: &str, joined: bool) -> Vec<Effect> {
        let (effects, remembered) = self
            .members
            .handle_membership(("!r", user), joined, self.now);
        assert!(remembered);
        effects
    }

    fn seen(&mut self, member: &str, seen: Seen) -> Vec<Effect> {
        let (effects, remembered) = self.members.handle_presence(&place(member), seen, self.now);
        assert!(remembered);
        effects
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.members.handle_timeout(self.now);
    }

    /// Whom it asks for.
    fn asks(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.members.poll_question())
            .map(|question| question.user)
            .collect()
    }
}

#[test]
fn whoever_leaves_is_taken_out_everywhere_and_kept_out_until_his_tokens_expire() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "one"), Ok(true));
    world.passes(Duration::from_secs(30));
    assert_eq!(world.issue("@a:x", "two"), Ok(true));
    assert_eq!(world.issue("@b:x", "other"), Ok(true));
    let first = world.now - Duration::from_secs(30) + HOUR + RENEWED_FOR;
    let second = world.now + HOUR + RENEWED_FOR;
    let (one, two) = (place("one"), place("two"));
    assert_eq!(
        world.turns("@a:x", false),
        [
            Effect::Deny(one.0.clone(), one.1.clone(), first),
            Effect::Remove(one.0, one.1),
            Effect::Deny(two.0.clone(), two.1.clone(), second),
            Effect::Remove(two.0, two.1),
        ]
    );
    assert_eq!(world.issue("@a:x", "three"), Err(Refused::Left));
    assert_eq!(world.issue("@b:x", "again"), Ok(true), "somebody else");
    world.passes(HOUR);
    assert_eq!(world.issue("@a:x", "three"), Err(Refused::Left));
    world.passes(RENEWED_FOR);
    assert_eq!(world.issue("@a:x", "three"), Ok(true));
}

#[test]
fn a_rejoin_lets_him_in_again() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "one"), Ok(true));
    world.turns("@a:x", false);
    let (alias, identity) = place("one");
    let allowed = [Effect::Allow(alias, identity)];
    assert_eq!(world.turns("@a:x", true), allowed);
    assert_eq!(world.issue("@a:x", "one"), Ok(true));
    assert_eq!(world.turns("@a:x", true), [], "a change of his name");
    assert_eq!(
        world.turns("@a:x", false).len(),
        2,
        "and he can leave again"
    );
}

#[test]
fn who_leaves_while_his_request_is_judged_gets_no_token() {
    let mut world = World::new();
    assert_eq!(world.turns("@a:x", false), []);
    assert_eq!(world.issue("@a:x", "one"), Err(Refused::Left));
    world.passes(LEFT_FOR);
    assert_eq!(world.issue("@a:x", "one"), Ok(true));
    assert_eq!(world.turns("@nobody:x", true), []);
}

#[test]
fn a_token_is_watched_until_it_has_expired_and_whoever_is_there_for_longer() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "gone"), Ok(true));
    assert_eq!(world.issue("@b:x", "there"), Ok(true));
    assert_eq!(world.seen("there", Seen::Here), []);
    world.passes(HOUR + RENEWED_FOR);
    assert_eq!(world.members.watched(), 1);
    assert_eq!(world.asks(), ["@b:x"]);
    // His token was renewed a moment ago.
    let effects = world.turns("@b:x", false);
    let until = world.now + RENEWED_FOR;
    let (alias, identity) = place("there");
    assert_eq!(effects[0], Effect::Deny(alias, identity, until));
    assert_eq!(world.seen("there", Seen::Gone), []);
    world.passes(RENEWED_FOR);
    assert_eq!(world.members.watched(), 0);
    assert!(world.members.people.is_empty());
}

#[test]
fn who_has_left_is_taken_out_again_whenever_he_is_seen() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "one"), Ok(true));
    assert_eq!(world.issue("@a:x", "two"), Ok(true));
    assert_eq!(world.seen("one", Seen::Here), [], "a member");
    world.turns("@a:x", false);
    assert_eq!(world.seen("one", Seen::Gone), []);
    // His SFU asks nobody about a token, and renews it as long as he is there.
    world.passes(HOUR);
    let until = world.now + RENEWED_FOR;
    let (alias, identity) = place("one");
    let out = [
        Effect::Deny(alias.clone(), identity.clone(), until),
        Effect::Remove(alias, identity),
    ];
    assert_eq!(world.seen("one", Seen::Here), out);
    // It was not heard: the next answer that he is no member has him taken out again.
    let asked = world.members.question("!r", "@a:x");
    let again = world.members.handle_answer(asked, false, world.now);
    assert_eq!(again, out);
    assert!(world.members.is_to_go(&place("one"), world.now));
    world.turns("@a:x", true);
    assert_eq!(world.seen("one", Seen::Here), [], "a member again");
    assert!(!world.members.is_to_go(&place("one"), world.now));
}

#[test]
fn sessions_beside_his_own_are_his() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "own#1"), Ok(true));
    assert_eq!(world.seen("own#1", Seen::Here), []);
    assert_eq!(world.seen("own#1#whip", Seen::Here), []);
    assert_eq!(world.seen("own#2", Seen::Here), [], "somebody else");
    // One of them goes: the other keeps the place.
    assert_eq!(world.seen("own#1", Seen::Gone), []);
    world.passes(HOUR + RENEWED_FOR);
    assert_eq!(world.members.watched(), 1);
    let removed = |effects: Vec<Effect>| -> Vec<String> {
        let removed = effects.into_iter().filter_map(|effect| match effect {
            Effect::Remove(_, identity) => Some(identity),
            _ => None,
        });
        removed.collect()
    };
    assert_eq!(removed(world.turns("@a:x", false)), ["own#1", "own#1#whip"]);
    assert!(world.members.is_to_go(&place("own#1#whip"), world.now));
    assert!(!world.members.is_to_go(&place("own#2"), world.now));
    let back = world.seen("own#1#other", Seen::Here);
    assert!(removed(back).contains(&"own#1#other".to_owned()));
}

#[test]
fn so_many_sessions_beside_one_are_remembered() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "own"), Ok(true));
    for n in 0..HERE_MOST {
        assert_eq!(world.seen(&format!("own#{n}"), Seen::Here), []);
    }
    let one_more = place("own#more");
    let come = |world: &mut World| {
        let members = &mut world.members;
        members.handle_presence(&one_more, Seen::Here, world.now)
    };
    assert_eq!(come(&mut world), (Vec::new(), false));
    assert_eq!(world.turns("@a:x", false).len(), 2 + HERE_MOST);
    let (effects, _) = come(&mut world);
    let (alias, identity) = place("own#more");
    assert!(effects.contains(&Effect::Remove(alias, identity)));
}

#[test]
fn a_webhook_is_believed_for_half_a_day() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "lost"), Ok(true));
    assert_eq!(world.issue("@b:x", "again"), Ok(true));
    assert_eq!(world.issue("@c:x", "here"), Ok(true));
    assert_eq!(world.seen("lost", Seen::Heard), []);
    assert_eq!(world.seen("again", Seen::Heard), []);
    assert_eq!(world.seen("here", Seen::Here), []);
    world.passes(PRESENT_FOR / 2);
    assert_eq!(world.members.watched(), 3);
    assert_eq!(world.seen("again", Seen::Heard), []);
    world.passes(PRESENT_FOR / 2);
    assert_eq!(
        world.members.watched(),
        3,
        "his token was renewed a moment ago"
    );
    world.passes(RENEWED_FOR);
    assert_eq!(world.members.watched(), 2);
    world.passes(PRESENT_FOR);
    assert_eq!(world.asks(), ["@c:x"]);
}

#[test]
fn all_are_asked_for_once_an_interval() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "one"), Ok(true));
    assert_eq!(world.issue("@b:x", "two"), Ok(true));
    assert_eq!(world.members.poll_timeout(), world.now + SWEEP);
    world.passes(SWEEP / 2);
    assert_eq!(world.asks(), Vec::<String>::new());
    world.passes(SWEEP / 2);
    assert_eq!(world.asks(), ["@a:x", "@b:x"]);
    assert_eq!(world.asks(), Vec::<String>::new());
    world.passes(SWEEP);
    assert_eq!(world.asks(), ["@a:x", "@b:x"]);
    let mut never = Members::new("x", Duration::ZERO, world.now);
    never
        .handle_issued(issued("@a:x", "one"), world.now)
        .expect("issued");
    never.handle_timeout(world.now + SWEEP);
    assert_eq!(never.poll_question(), None);
    never.handle_timeout(world.now + HOUR + RENEWED_FOR);
    assert_eq!(never.watched(), 0);
}

#[test]
fn an_answer_counts_unless_something_has_happened_since() {
    let mut world = World::new();
    assert_eq!(world.issue("@a:x", "one"), Ok(true));
    let asked = world.members.question("!r", "@a:x");
    let answered = |world: &mut World, asked: &Question, joined| {
        world
            .members
            .handle_answer(asked.clone(), joined, world.now)
    };
    assert_eq!(answered(&mut world, &asked, true), []);
    assert_eq!(answered(&mut world, &asked, false).len(), 2);
    assert!(world.members.is_away("!r", "@a:x", world.now));
    assert_eq!(answered(&mut world, &asked, false), [], "known already");
    // The event that he is back was lost.
    assert_eq!(answered(&mut world, &asked, true).len(), 1);
    world.turns("@a:x", false);
    assert_eq!(
        answered(&mut world, &asked, true),
        [],
        "asked before he left"
    );
    let asked = world.members.question("!r", "@a:x");
    world.turns("@a:x", true);
    assert_eq!(
        answered(&mut world, &asked, false),
        [],
        "asked before he came"
    );
    let stranger = world.members.question("!r", "@s:x");
    assert_eq!(answered(&mut world, &stranger, false), []);
}

#[test]
fn one_user_has_only_so_many_tokens_and_none_is_forgotten_early() {
    let mut world = World::new();
    for n in 0..STAYS_OF_ONE {
        assert_eq!(world.issue("@a:x", &n.to_string()), Ok(true));
    }
    assert_eq!(world.issue("@a:x", "more"), Err(Refused::TooMany));
    assert_eq!(world.issue("@a:x", "0"), Ok(true), "the same again");
    assert_eq!(world.turns("@a:x", false).len(), 2 * STAYS_OF_ONE);
}

#[test]
fn strangers_take_no_more_than_their_share_and_one_server_less() {
    let mut world = World::new();
    let mut issued = 0;
    for server in 0..6 {
        for n in 0..FOREIGN_OF_ONE {
            let watched = world.issue(&format!("@{n}:{server}"), &format!("{server}-{n}"));
            assert_eq!(watched, Ok(issued < FOREIGN_MOST));
            issued += 1;
        }
        let more = world.issue(&format!("@more:{server}"), "more");
        assert_eq!(more, Ok(false), "{server}");
    }
    assert_eq!(world.members.watched(), FOREIGN_MOST);
    assert_eq!(world.issue("@0:0", "0-0"), Ok(true), "he has it already");
    assert_eq!(world.issue("@a:x", "ours"), Ok(true));
    world.passes(HOUR + RENEWED_FOR);
    assert_eq!(world.issue("@more:0", "more"), Ok(true));
    assert_eq!(world.members.foreign.all, 1);
}

#[test]
fn a_flood_of_names_takes_no_more_than_its_place() {
    let mut world = World::new();
    for n in 0..STAYS_MOST {
        assert_eq!(world.issue(&format!("@{n}:x"), &n.to_string()), Ok(true));
    }
    assert_eq!(world.issue("@late:x", "late"), Err(Refused::TooMany));
    assert_eq!(world.issue("@late:y", "late"), Ok(false));
    assert_eq!(world.issue("@0:x", "0"), Ok(true), "he has it already");
    assert_eq!(world.members.watched(), STAYS_MOST);
    for n in 0..LEFT_MOST {
        world.turns(&format!("@left{n}:x"), false);
    }
    let leaves = world
        .members
        .handle_membership(("!r", "@y:x"), false, world.now);
    assert_eq!(leaves, (Vec::new(), false));
    world.passes(LEFT_FOR);
    world.turns("@y:x", false);
    world.passes(HOUR + RENEWED_FOR);
    assert_eq!(world.issue("@late:x", "late"), Ok(true));
    assert_eq!(world.members.watched(), 1);
}

#[test]
fn another_interval_counts_from_the_moment_it_is_settled() {
    let now = origin();
    let mut members = Members::new("x", HOUR, now);
    members
        .handle_issued(issued("@a:x", "m"), now)
        .expect("watched");
    let second = Duration::from_secs(1);
    members.handle_interval(10 * second, now + second);
    assert_eq!(members.poll_timeout(), now + 11 * second);
    members.handle_timeout(now + 11 * second);
    assert!(members.poll_question().is_some());
    // Never: what is forgotten is, and nobody is asked for.
    members.handle_interval(Duration::ZERO, now + 11 * second);
    members.handle_timeout(members.poll_timeout());
    assert!(members.poll_question().is_none());
}
