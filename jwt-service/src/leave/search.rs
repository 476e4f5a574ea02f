//! When an SFU that is another process is asked whether a participant is there.
//!
//! Owns the times of asking and what an answer is worth. Its messages may be lost, so a leave that is
//! handed over is looked into at once, one in doubt a moment later, and if the operator wants it
//! everybody from time to time. Asks nobody itself and keeps no clock. Called by `delegation`.
//! (LK: jwt-service §7.1)
//!
//! Unlike the reference a job whose participant came by a message is looked at from time to time too.

use crate::leave::{Fact, backoff};
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// How long somebody who left for another connection gets to be on it.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// How long that is asked of an SFU that does not answer. One that never comes back took the call with
/// it, and the users are not to be shown in it for ever.
const DOUBTED_FOR: Duration = Duration::from_secs(5 * 60);

/// What the SFU answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// He is there, under this sid.
    Here(String),
    /// It says that he is not.
    Absent,
    /// It could not be asked.
    Unknown,
}

/// Why it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// He has not been seen.
    Find,
    /// He was there when last seen.
    Watch,
    /// He may have gone; after this time he has, if nobody knows.
    Doubt(Option<Instant>),
}

/// The search for one participant.
#[derive(Debug)]
pub struct Search {
    goal: Goal,
    due: Option<Instant>,
    asking: bool,
    /// Something was heard of him while the SFU was asked: the answer is older.
    outdated: bool,
    failures: i32,
    /// Between two looks at somebody who is there.
    interval: Option<Duration>,
    chance: StdRng,
}

impl Search {
    /// Begins at once; for somebody who is `known` to be there, to make sure.
    #[must_use]
    pub const fn new(
        known: bool,
        interval: Option<Duration>,
        chance: StdRng,
        now: Instant,
    ) -> Self {
        Self {
            goal: if known { Goal::Doubt(None) } else { Goal::Find },
            due: Some(now),
            asking: false,
            outdated: false,
            failures: 0,
            interval,
            chance,
        }
    }

    /// He is there.
    pub fn handle_joined(&mut self, now: Instant) {
        self.turn_to(Goal::Watch, self.interval.map(|interval| now + interval));
    }

    /// He was told to have gone on elsewhere.
    pub fn handle_moved(&mut self, now: Instant) {
        // Who is still looked for was not there to move.
        if self.goal != Goal::Find {
            let doubt = Goal::Doubt(Some(now + DOUBTED_FOR));
            self.turn_to(doubt, Some(now + BACK_WITHIN));
        }
    }

    fn turn_to(&mut self, goal: Goal, due: Option<Instant>) {
        self.goal = goal;
        self.due = due;
        self.failures = 0;
        self.outdated = self.asking;
    }

    /// The SFU has answered; what that tells of him.
    pub fn handle_found(&mut self, found: Found, now: Instant) -> Option<Fact> {
        self.asking = false;
        if std::mem::take(&mut self.outdated) {
            return None;
        }
        match (self.goal, found) {
            (_, Found::Here(sid)) => {
                self.handle_joined(now);
                Some(Fact::Joined(sid))
            }
            (Goal::Doubt(Some(until)), Found::Unknown) if until <= now => Some(Fact::Absent),
            // He may still come. Who is in doubt may have gone: that must be known.
            (Goal::Find, Found::Absent) | (Goal::Find | Goal::Doubt(_), Found::Unknown) => {
                self.due = Some(now + backoff(self.failures, &mut self.chance));
                self.failures += 1;
                None
            }
            (Goal::Watch, Found::Unknown) => {
                self.due = self.interval.map(|interval| now + interval);
                None
            }
            (Goal::Watch | Goal::Doubt(_), Found::Absent) => Some(Fact::Absent),
        }
    }

    /// Is the SFU to be asked now? Each time once; its answer is told to [`Self::handle_found`].
    pub fn poll_ask(&mut self, now: Instant) -> bool {
        let asks = self.poll_timeout().is_some_and(|due| due <= now);
        if asks {
            self.due = None;
            self.asking = true;
        }
        asks
    }

    /// When [`Self::poll_ask`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| !self.asking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    struct World {
        search: Search,
        start: Instant,
        now: Instant,
    }

    impl World {
        fn new(known: bool, interval: Option<Duration>) -> Self {
            #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
            let start = Instant::now();
            Self {
                search: Search::new(known, interval, StdRng::seed_from_u64(1), start),
                start,
                now: start,
            }
        }

        /// Lets time pass, with every question answered so at once. When it was asked, in ms, and what
        /// that told.
        fn run(&mut self, by: Duration, found: &Found) -> (Vec<u128>, Vec<Fact>) {
            let end = self.now + by;
            let (mut asked, mut facts) = (Vec::new(), Vec::new());
            while let Some(due) = self.search.poll_timeout().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                assert!(self.search.poll_ask(self.now) && !self.search.poll_ask(self.now));
                asked.push((self.now - self.start).as_millis());
                facts.extend(self.search.handle_found(found.clone(), self.now));
            }
            self.now = end;
            (asked, facts)
        }
    }

    fn here() -> Found {
        Found::Here("PA_1".into())
    }

    fn joined() -> Fact {
        Fact::Joined("PA_1".into())
    }

    #[test]
    fn who_is_not_there_yet_is_looked_for_again_less_and_less_often() {
        for found in [Found::Absent, Found::Unknown] {
            let mut world = World::new(false, None);
            let (asked, facts) = world.run(60 * MINUTE, &found);
            assert_eq!((asked[0], facts), (0, vec![]));
            assert!((60..120).contains(&asked.len()), "{}", asked.len());
            let longest = asked.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(longest <= Some(90_000), "{longest:?}");
            // He is found at last, and no more is asked.
            let (asked, facts) = world.run(2 * MINUTE, &here());
            assert_eq!((asked.len(), facts), (1, vec![joined()]));
            assert_eq!(world.search.poll_timeout(), None);
        }
    }

    #[test]
    fn who_is_there_is_looked_at_from_time_to_time_if_that_is_wanted() {
        let mut world = World::new(false, Some(30 * SECOND));
        let (asked, _) = world.run(MINUTE, &here());
        assert_eq!(asked, [0, 30_000, 60_000]);
        // That nobody knows is no reason to believe that he has gone.
        assert_eq!(world.run(MINUTE, &Found::Unknown).1, []);
        assert_eq!(world.run(MINUTE, &Found::Absent).1, [Fact::Absent]);
        assert_eq!(world.search.poll_timeout(), None);
    }

    #[test]
    fn who_came_by_a_message_is_looked_at_too() {
        let mut world = World::new(false, Some(30 * SECOND));
        world.search.handle_joined(world.now);
        let (asked, _) = world.run(29 * SECOND, &here());
        assert!(asked.is_empty(), "{asked:?}");
        assert_eq!(world.run(MINUTE, &Found::Absent).1, [Fact::Absent]);
    }

    #[test]
    fn who_went_on_elsewhere_is_looked_for_until_somebody_knows() {
        let mut world = World::new(false, None);
        world.run(SECOND, &here());
        world.search.handle_moved(world.now);
        assert!(world.run(14 * SECOND, &Found::Unknown).0.is_empty());
        let (asked, facts) = world.run(10 * SECOND, &Found::Unknown);
        assert!(asked.len() > 2 && facts.is_empty(), "{asked:?}");
        assert_eq!(world.run(MINUTE, &Found::Absent).1, [Fact::Absent]);
        // An SFU that does not come back.
        let mut world = World::new(false, None);
        world.run(SECOND, &here());
        world.search.handle_moved(world.now);
        assert_eq!(world.run(4 * MINUTE, &Found::Unknown).1, []);
        assert_eq!(world.run(3 * MINUTE, &Found::Unknown).1, [Fact::Absent]);
        assert_eq!(world.search.poll_timeout(), None);
        // Another one is back.
        let mut world = World::new(false, None);
        world.run(SECOND, &here());
        world.search.handle_moved(world.now);
        assert_eq!(world.run(MINUTE, &here()).1, [joined()]);
        assert_eq!(world.search.poll_timeout(), None);
    }

    #[test]
    fn one_who_is_remembered_is_made_sure_of() {
        let mut world = World::new(true, None);
        // Nobody said that he left.
        assert_eq!(world.run(60 * MINUTE, &Found::Unknown).1, []);
        assert_eq!(world.run(2 * MINUTE, &Found::Absent).1, [Fact::Absent]);
        let mut world = World::new(true, None);
        assert_eq!(world.run(SECOND, &here()).1, [joined()]);
    }

    #[test]
    fn an_answer_that_is_older_than_a_message_counts_for_nothing() {
        let mut world = World::new(true, Some(30 * SECOND));
        assert!(world.search.poll_ask(world.now));
        world.search.handle_joined(world.now);
        let fact = world.search.handle_found(Found::Absent, world.now);
        assert_eq!(fact, None);
        assert_eq!(world.search.poll_timeout(), Some(world.now + 30 * SECOND));
        assert_eq!(world.run(MINUTE, &here()).1.len(), 2);
    }
}
