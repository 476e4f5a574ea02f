//! One delegated leave: a delayed event that is kept from firing while its participant is in the
//! call, and sent when he has gone.
//!
//! Owns the state of one job and its times. It asks nobody and keeps no clock: facts, answers and
//! time are told to it, and what to ask the homeserver is fetched with [`Job::poll_action`]. Called by
//! `delegation`. (MSC4140, MSC4195; LK: jwt-service §7)
//!
//! Where the reference is weak it decides otherwise: a participant is told by his sid, so that one who
//! came back under the same identity has not left; who could not connect may try again; and what the
//! homeserver will never let us do ends the job at once.

pub mod kept;
pub mod search;

use rand::Rng;
use rand::rngs::StdRng;
use std::fmt;
use std::time::{Duration, Instant};

/// A participant must come within this, or within the event's own time. (MSC4354: stickiness)
const JOIN_WITHIN: Duration = Duration::from_secs(3600);
/// A leave is sent again for so long at most.
const SEND_FOR: Duration = Duration::from_secs(3600);
/// And for so long at least.
const SEND_FOR_LEAST: Duration = Duration::from_secs(1);
/// The first wait after a failure; each further one is half as long again.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const BACKOFF_MOST: Duration = Duration::from_secs(60);

/// What is delegated. The id of a delayed event is a secret: who has it can send the event.
#[derive(Clone, PartialEq, Eq)]
pub struct Leave {
    /// Names the delayed event at its homeserver.
    pub delay_id: String,
    /// It fires so long after it was last restarted.
    pub timeout: Duration,
    /// The homeserver's name.
    pub server: String,
    /// The SFU's name of the room.
    pub room: String,
    /// The participant's identity there.
    pub identity: String,
    /// Whose event it is, if the homeserver is to be asked in his name.
    pub owner: Option<String>,
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leave")
            .field("timeout", &self.timeout)
            .field("server", &self.server)
            .field("room", &self.room)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// What the SFU tells of the participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// He is there, under this sid; empty if that was not told.
    Joined(String),
    /// He who had this sid has gone, for good.
    Left(String),
    /// Nobody of this identity is there.
    Absent,
}

/// What the homeserver is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin the event's time anew.
    Restart,
    /// Send the event now.
    Send,
}

/// What it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// There is no such event, or it has been sent or cancelled.
    Gone,
    /// Only its owner may.
    Denied,
    /// Not now; perhaps it said when.
    Later(Option<Duration>),
}

/// Why a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The leave was sent.
    Sent,
    /// The event is no more, without us.
    Gone,
    /// The homeserver does not let us.
    Denied,
    /// The homeserver did not answer in time: the event has fired by itself, or will.
    Late,
}

impl End {
    /// One word for logs and counters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Late => "late",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The participant has not been seen.
    Waiting { until: Instant },
    /// He is in the call under this sid; the event fires then unless it is restarted.
    Connected { sid: String, fires: Instant },
    /// He has gone: the event is to be sent, and tried so long.
    Leaving { until: Instant },
    /// Nothing is left to do.
    Over(End),
}

/// A job.
#[derive(Debug)]
pub struct Job {
    leave: Leave,
    state: State,
    /// When the homeserver is to be asked next.
    due: Option<Instant>,
    /// What it is being asked.
    asking: Option<Action>,
    failures: i32,
    chance: StdRng,
}

impl Job {
    /// Waits for the participant.
    #[must_use]
    pub fn new(leave: Leave, chance: StdRng, now: Instant) -> Self {
        let until = now + leave.timeout.min(JOIN_WITHIN);
        Self {
            leave,
            state: State::Waiting { until },
            due: None,
            asking: None,
            failures: 0,
            chance,
        }
    }

    /// The participant has gone, before a restart of ours; the event fires by itself in so long.
    #[must_use]
    pub fn leaving(leave: Leave, chance: StdRng, fires_in: Duration, now: Instant) -> Self {
        let mut job = Self::new(leave, chance, now);
        job.depart(fires_in.clamp(SEND_FOR_LEAST, SEND_FOR), now);
        job
    }

    /// What is delegated.
    #[must_use]
    pub const fn leave(&self) -> &Leave {
        &self.leave
    }

    /// Why it is over, once it is.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        match self.state {
            State::Over(end) => Some(end),
            _ => None,
        }
    }

    /// One word for counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self.state {
            State::Waiting { .. } => "waiting",
            State::Connected { .. } => "connected",
            State::Leaving { .. } => "leaving",
            State::Over(_) => "over",
        }
    }

    /// Is the participant thought to be in the call?
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected { .. })
    }

    /// Has he gone, and is the event being sent?
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    /// Does it still matter whether the participant is there?
    #[must_use]
    pub const fn needs_participant(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Connected { .. })
    }

    /// The SFU tells something.
    pub fn handle_fact(&mut self, fact: Fact, now: Instant) {
        match (&mut self.state, fact) {
            (State::Waiting { .. }, Fact::Joined(sid)) => {
                let fires = now + self.leave.timeout;
                self.state = State::Connected { sid, fires };
                self.due = Some(now);
            }
            // He is back before the old connection was missed.
            (State::Connected { sid, .. }, Fact::Joined(newer)) => *sid = newer,
            (State::Connected { sid, .. }, Fact::Left(who)) if !sid.is_empty() && *sid != who => {}
            (State::Connected { fires, .. }, Fact::Left(_) | Fact::Absent) => {
                let left = fires.saturating_duration_since(now);
                self.depart(left.clamp(SEND_FOR_LEAST, SEND_FOR), now);
            }
            // Who did not get in may try again as long as there is time.
            (State::Waiting { .. } | State::Leaving { .. } | State::Over(_), _) => {}
        }
    }

    fn depart(&mut self, patience: Duration, now: Instant) {
        self.state = State::Leaving {
            until: now + patience,
        };
        self.due = Some(now);
        self.failures = 0;
    }

    /// The homeserver has answered.
    pub fn handle_answer(&mut self, action: Action, answer: Answer, now: Instant) {
        if self.asking == Some(action) {
            self.asking = None;
        }
        match (&mut self.state, action, answer) {
            (State::Connected { fires, .. }, Action::Restart, Answer::Done) => {
                *fires = now + self.leave.timeout;
                self.due = Some(now + self.leave.timeout * 8 / 10);
                self.failures = 0;
            }
            (State::Connected { .. }, Action::Restart, Answer::Gone) => self.over(End::Gone),
            (State::Leaving { .. }, Action::Send, Answer::Done | Answer::Gone) => {
                self.over(End::Sent);
            }
            (State::Connected { .. }, Action::Restart, Answer::Denied)
            | (State::Leaving { .. }, Action::Send, Answer::Denied) => self.over(End::Denied),
            (State::Connected { fires: until, .. }, Action::Restart, Answer::Later(hint))
            | (State::Leaving { until }, Action::Send, Answer::Later(hint)) => {
                let until = *until;
                let chance = &mut self.chance;
                let again = now + hint.unwrap_or_else(|| backoff(self.failures, chance));
                self.failures += 1;
                if again > until {
                    self.over(End::Late);
                } else {
                    self.due = Some(again);
                }
            }
            // He left while a restart was under way: what it brought does not matter any more.
            _ => {}
        }
    }

    fn over(&mut self, end: End) {
        self.state = State::Over(end);
        self.due = None;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            // He has never come: his membership must not stay.
            State::Waiting { until } if now >= until => self.depart(SEND_FOR_LEAST, now),
            State::Connected { fires, .. } if now >= fires && self.asking.is_none() => {
                self.over(End::Late);
            }
            _ => {}
        }
    }

    /// What to ask the homeserver now, each once; its answer is told to [`Self::handle_answer`].
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        let action = match self.state {
            State::Connected { .. } => Action::Restart,
            State::Leaving { .. } => Action::Send,
            State::Waiting { .. } | State::Over(_) => return None,
        };
        // A send does not wait for a restart under way.
        if self.asking == Some(action) || self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        self.asking = Some(action);
        Some(action)
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_action`] have work.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = match self.state {
            State::Waiting { until } => Some(until),
            State::Connected { fires, .. } => Some(fires).filter(|_| self.asking.is_none()),
            State::Leaving { .. } | State::Over(_) => None,
        };
        [self.due, ends].into_iter().flatten().min()
    }
}

/// 1 s, half as long again each time, 60 s at most, give or take a half.
fn backoff(failures: i32, chance: &mut StdRng) -> Duration {
    // Beyond a dozen the cap holds anyway.
    let grown = BACKOFF_FIRST.mul_f64(1.5_f64.powi(failures.min(12)));
    grown
        .min(BACKOFF_MOST)
        .mul_f64(chance.random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    const SECOND: Duration = Duration::from_secs(1);

    fn origin() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        Instant::now()
    }

    fn leave(timeout: Duration) -> Leave {
        Leave {
            delay_id: "secret-id".into(),
            timeout,
            server: "example.com".into(),
            room: "room".into(),
            identity: "alice".into(),
            owner: None,
        }
    }

    struct World {
        job: Job,
        now: Instant,
        start: Instant,
    }

    impl World {
        fn new(timeout: Duration) -> Self {
            let start = origin();
            Self {
                job: Job::new(leave(timeout), StdRng::seed_from_u64(1), start),
                now: start,
                start,
            }
        }

        fn fact(&mut self, fact: Fact) {
            self.job.handle_fact(fact, self.now);
        }

        /// Lets time pass; each action is answered at once. What was asked, and when.
        fn run(&mut self, by: Duration, answer: impl Fn(Action) -> Answer) -> Vec<(u64, Action)> {
            let end = self.now + by;
            let mut asked = Vec::new();
            loop {
                self.job.handle_timeout(self.now);
                while let Some(action) = self.job.poll_action(self.now) {
                    let at = self.now - self.start;
                    asked.push((at.as_millis() as u64, action));
                    self.job.handle_answer(action, answer(action), self.now);
                }
                match self.job.poll_timeout().filter(|at| *at <= end) {
                    Some(at) => self.now = self.now.max(at),
                    None => break,
                }
            }
            self.now = end;
            asked
        }
    }

    fn joined(sid: &str) -> Fact {
        Fact::Joined(sid.into())
    }

    fn left(sid: &str) -> Fact {
        Fact::Left(sid.into())
    }

    #[test]
    fn what_was_being_sent_before_a_restart_is_sent_at_once_and_for_as_long_as_it_matters() {
        let started = |fires_in| {
            let mut world = World::new(10 * SECOND);
            let chance = StdRng::seed_from_u64(1);
            world.job = Job::leaving(leave(10 * SECOND), chance, fires_in, world.now);
            world
        };
        let mut world = started(5 * SECOND);
        world.fact(joined("PA_1"));
        assert_eq!(world.run(SECOND, |_| Answer::Done), [(0, Action::Send)]);
        assert_eq!(world.job.end(), Some(End::Sent));
        let mut world = started(5 * SECOND);
        let tried = world.run(60 * SECOND, |_| Answer::Later(None));
        assert!(tried.len() > 2 && tried.iter().all(|(at, _)| *at <= 5000));
        assert_eq!(world.job.end(), Some(End::Late));
    }

    #[test]
    fn while_the_participant_is_there_the_event_is_restarted_and_then_it_is_sent() {
        let mut world = World::new(10 * SECOND);
        assert!(world.run(SECOND, |_| Answer::Done).is_empty());
        world.fact(joined("PA_1"));
        let asked = world.run(20 * SECOND, |_| Answer::Done);
        let restart = |at| (at, Action::Restart);
        assert_eq!(asked, [restart(1000), restart(9000), restart(17_000)]);
        world.fact(left("PA_1"));
        assert_eq!(
            world.run(SECOND, |_| Answer::Done),
            [(21_000, Action::Send)]
        );
        assert_eq!(world.job.end(), Some(End::Sent));
    }

    #[test]
    fn who_came_back_under_another_sid_has_not_left() {
        let mut world = World::new(10 * SECOND);
        world.fact(joined("PA_1"));
        world.fact(joined("PA_2"));
        world.fact(left("PA_1"));
        assert!(world.job.is_connected());
        world.fact(left("PA_2"));
        assert!(!world.job.is_connected());
    }

    #[test]
    fn whose_sid_was_not_told_leaves_under_any() {
        let mut world = World::new(10 * SECOND);
        world.fact(joined(""));
        world.fact(left("PA_1"));
        assert!(!world.job.needs_participant());
        assert!(world.job.end().is_none());
    }

    #[test]
    fn who_never_comes_is_taken_off_the_call() {
        let mut world = World::new(8 * SECOND);
        world.fact(left("PA_1"));
        world.fact(Fact::Absent);
        let asked = world.run(9 * SECOND, |_| Answer::Done);
        assert_eq!(asked, [(8000, Action::Send)]);
        assert_eq!(world.job.end(), Some(End::Sent));
        // No job waits for longer than an hour.
        let mut world = World::new(24 * 3600 * SECOND);
        let asked = world.run(2 * 3600 * SECOND, |_| Answer::Done);
        assert_eq!(asked, [(3_600_000, Action::Send)]);
    }

    #[test]
    fn a_homeserver_that_is_away_is_asked_again_until_the_event_has_fired() {
        let mut world = World::new(10 * SECOND);
        world.fact(joined("PA_1"));
        let asked = world.run(20 * SECOND, |_| Answer::Later(None));
        assert!((3..12).contains(&asked.len()), "{asked:?}");
        assert!(asked.iter().all(|(at, _)| *at <= 10_000));
        assert_eq!(world.job.end(), Some(End::Late));
        // It says when.
        let mut world = World::new(10 * SECOND);
        world.fact(joined("PA_1"));
        let asked = world.run(9 * SECOND, |_| Answer::Later(Some(4 * SECOND)));
        assert_eq!(
            asked.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            [0, 4000, 8000]
        );
    }

    #[test]
    fn a_leave_is_sent_again_as_long_as_the_event_would_wait() {
        let mut world = World::new(60 * SECOND);
        world.fact(joined("PA_1"));
        world.run(SECOND, |_| Answer::Done);
        world.fact(left("PA_1"));
        let asked = world.run(200 * SECOND, |_| Answer::Later(None));
        assert!(asked.len() > 3 && asked.iter().all(|(_, action)| *action == Action::Send));
        assert!(asked.iter().all(|(at, _)| *at <= 61_000), "{asked:?}");
        assert_eq!(world.job.end(), Some(End::Late));
    }

    #[test]
    fn what_will_never_be_possible_ends_the_job() {
        for (answer, end) in [(Answer::Gone, End::Gone), (Answer::Denied, End::Denied)] {
            let mut world = World::new(10 * SECOND);
            world.fact(joined("PA_1"));
            world.run(SECOND, |_| answer);
            assert_eq!(world.job.end(), Some(end));
        }
        let mut world = World::new(10 * SECOND);
        world.fact(joined("PA_1"));
        world.run(SECOND, |_| Answer::Done);
        world.fact(Fact::Absent);
        // It has been sent already: that is what we wanted.
        world.run(SECOND, |_| Answer::Gone);
        assert_eq!(world.job.end(), Some(End::Sent));
    }

    #[test]
    fn a_leave_does_not_wait_for_a_restart_under_way() {
        let mut world = World::new(10 * SECOND);
        world.fact(joined("PA_1"));
        assert_eq!(world.job.poll_action(world.now), Some(Action::Restart));
        world.fact(left("PA_1"));
        assert_eq!(world.job.poll_action(world.now), Some(Action::Send));
        let late = Answer::Gone;
        world.job.handle_answer(Action::Restart, late, world.now);
        assert_eq!(world.job.end(), None);
        world
            .job
            .handle_answer(Action::Send, Answer::Done, world.now);
        assert_eq!(world.job.end(), Some(End::Sent));
    }

    #[test]
    fn the_id_is_in_no_debug_output() {
        let job = World::new(SECOND).job;
        assert!(!format!("{job:?}").contains("secret-id"));
    }

    proptest! {
        /// Whatever happens, a job asks one thing at a time, never waits for nothing, and ends.
        #[test]
        fn any_story_comes_to_an_end(
            timeout in 1_u64..100_000,
            story in proptest::collection::vec((0_u8..9, 0_u64..30_000), 0..60),
        ) {
            let mut world = World::new(Duration::from_millis(timeout));
            for (what, wait) in story {
                world.now += Duration::from_millis(wait);
                world.job.handle_timeout(world.now);
                match what {
                    0 => world.fact(joined("PA_1")),
                    1 => world.fact(joined("PA_2")),
                    2 => world.fact(left("PA_1")),
                    3 => world.fact(left("PA_2")),
                    4 => world.fact(Fact::Absent),
                    _ => {
                        let answers = [Answer::Done, Answer::Gone, Answer::Denied, Answer::Later(None)];
                        if let Some(action) = world.job.poll_action(world.now) {
                            prop_assert_eq!(world.job.poll_action(world.now), None);
                            let answer = answers[usize::from(what - 5)];
                            world.job.handle_answer(action, answer, world.now);
                        }
                    }
                }
                let waits = world.job.poll_timeout().is_some() || world.job.asking.is_some();
                prop_assert!(waits || world.job.end().is_some());
            }
            world.fact(Fact::Absent);
            world.run(Duration::from_secs(2 * 3600), |_| Answer::Later(None));
            prop_assert!(world.job.end().is_some());
        }
    }
}
