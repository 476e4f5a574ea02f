//! Who was given a token for which Matrix room, and who has left that room since.
//!
//! Owns the match of Matrix rooms and users to rooms and participants of the SFU, whom nobody is to
//! let in any more, and when the homeserver is to be asked who is still joined. It asks nobody and
//! keeps no clock: what happens is told to it, and what the SFU is to do comes back as effects.
//! Called by `monitor`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Tokens remembered, some 400 bytes each: more participants than a process serves. One more is given
/// out and not watched, and counted.
const STAYS_MOST: usize = 100_000;
/// Of one user in one room. Clients take a new member id for each call they join; whoever asks for
/// more must wait until some have expired, lest one of them be forgotten while it still opens the door.
const STAYS_OF_ONE: usize = 256;
/// Those remembered who have left a room without a token of ours.
const LEFT_MOST: usize = 50_000;
/// How long: a request that was judged before must have ended by then.
const LEFT_FOR: Duration = Duration::from_secs(60);
/// How often what has expired is forgotten, and the joined are asked for unless configured otherwise.
pub const SWEEP: Duration = Duration::from_secs(60);
/// The SFU renews the token of whoever is there, for so long, and clocks may differ by a minute each
/// time one is shown. (LK: signalling §2.1, §2.4)
const RENEWED_FOR: Duration = Duration::from_secs(600 + 2 * proto::token::LEEWAY_S);

/// A token that is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The Matrix room.
    pub room: String,
    /// The Matrix user.
    pub user: String,
    /// The SFU's name of the room.
    pub alias: String,
    /// The participant's identity there.
    pub identity: String,
    /// How long the token may be used.
    pub lifetime: Duration,
}

/// What the SFU is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Let nobody of this identity in, until then.
    Deny(String, String, Instant),
    /// Let him in again.
    Allow(String, String),
    /// Take him out.
    Remove(String, String),
}

/// Why there is to be no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// He has left the Matrix room.
    Left,
    /// He has more tokens than anybody needs, or too many ask.
    TooMany,
}

/// Somebody whose membership the homeserver is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The Matrix room.
    pub room: String,
    /// The Matrix user.
    pub user: String,
    /// How much had been heard of him when it was asked: an answer to an older question is void.
    heard: u64,
}

/// Matrix room and user.
type Key = (String, String);

/// A place that one token leads to.
#[derive(Debug)]
struct Stay {
    alias: String,
    identity: String,
    /// When no token for it is good any more, unless it is renewed.
    good_until: Instant,
    present: bool,
}

impl Stay {
    fn ends(&self, now: Instant) -> Instant {
        if self.present {
            self.good_until.max(now + RENEWED_FOR)
        } else {
            self.good_until
        }
    }

    /// Remembered for as long as he is denied.
    fn leave(&mut self, now: Instant) -> [Effect; 2] {
        self.good_until = self.ends(now);
        let (alias, identity) = (self.alias.clone(), self.identity.clone());
        let deny = Effect::Deny(alias.clone(), identity.clone(), self.good_until);
        [deny, Effect::Remove(alias, identity)]
    }
}

#[derive(Debug, Default)]
struct Person {
    stays: Vec<Stay>,
    /// He has left, and gets no token until then.
    left_until: Option<Instant>,
    heard: u64,
}

/// All of them.
#[derive(Debug)]
pub struct Members {
    people: BTreeMap<Key, Person>,
    /// Whose a place is, by the SFU's names.
    places: BTreeMap<Key, Key>,
    /// `None`: nobody is asked for.
    interval: Option<Duration>,
    next_sweep: Instant,
    to_ask: VecDeque<Key>,
}

impl Members {
    /// Nobody; asked for every `interval`, or never if that is zero.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        let interval = Some(interval).filter(|interval| !interval.is_zero());
        Self {
            people: BTreeMap::new(),
            places: BTreeMap::new(),
            interval,
            next_sweep: now + interval.unwrap_or(SWEEP),
            to_ask: VecDeque::new(),
        }
    }

    /// A token is about to be given out. False if it cannot be watched: there are too many.
    ///
    /// # Errors
    /// It must not be.
    pub fn handle_issued(&mut self, issued: Issued, now: Instant) -> Result<bool, Refused> {
        let key = (issued.room, issued.user);
        if self.has_left(&key, now) {
            return Err(Refused::Left);
        }
        let good_until = now + issued.lifetime + RENEWED_FOR;
        let place = (issued.alias, issued.identity);
        let is_known = self.places.contains_key(&place);
        if !is_known && self.places.len() >= STAYS_MOST {
            self.forget(now);
            if self.places.len() >= STAYS_MOST {
                return Ok(false);
            }
        }
        let person = self.people.entry(key.clone()).or_default();
        if let Some(stay) = person.stay(&place) {
            stay.good_until = stay.good_until.max(good_until);
            return Ok(true);
        }
        if person.stays.len() >= STAYS_OF_ONE {
            return Err(Refused::TooMany);
        }
        person.stays.push(Stay {
            alias: place.0.clone(),
            identity: place.1.clone(),
            good_until,
            present: false,
        });
        self.places.insert(place, key);
        Ok(true)
    }

    /// The SFU tells that somebody is there now, or not any more. An SFU that lets in whoever has a token
    /// has to take out again who has left.
    pub fn handle_presence(
        &mut self,
        place: &(String, String),
        present: bool,
        now: Instant,
    ) -> Vec<Effect> {
        let key = self.places.get(place);
        let Some(person) = key.and_then(|key| self.people.get_mut(key)) else {
            return Vec::new();
        };
        if let Some(stay) = person.stay(place) {
            stay.good_until = stay.ends(now);
            stay.present = present;
        }
        if present && person.has_left(now) {
            return person.stay_out(now);
        }
        Vec::new()
    }

    /// The homeserver tells that somebody joined a Matrix room, or is in it no more. False beside the
    /// effects if that could not be remembered.
    pub fn handle_membership(
        &mut self,
        (room, user): (&str, &str),
        joined: bool,
        now: Instant,
    ) -> (Vec<Effect>, bool) {
        let key = (room.to_owned(), user.to_owned());
        if !self.people.contains_key(&key) {
            if joined {
                return (Vec::new(), true);
            }
            if self.people.len() >= STAYS_MOST + LEFT_MOST {
                self.forget(now);
                if self.people.len() >= STAYS_MOST + LEFT_MOST {
                    return (Vec::new(), false);
                }
            }
        }
        let person = self.people.entry(key).or_default();
        person.heard += 1;
        (person.become_joined(joined, now), true)
    }

    /// A question about somebody, for [`Self::handle_answer`].
    #[must_use]
    pub fn question(&self, room: &str, user: &str) -> Question {
        let key = (room.to_owned(), user.to_owned());
        let heard = self.people.get(&key).map_or(0, |person| person.heard);
        Question {
            room: key.0,
            user: key.1,
            heard,
        }
    }

    /// What the homeserver answered, as long as nothing has happened since it was asked.
    pub fn handle_answer(&mut self, asked: Question, joined: bool, now: Instant) -> Vec<Effect> {
        let key = (asked.room, asked.user);
        let Some(person) = self.people.get_mut(&key) else {
            return Vec::new();
        };
        if person.heard != asked.heard {
            return Vec::new();
        }
        if !joined && person.has_left(now) {
            return person.stay_out(now);
        }
        person.become_joined(joined, now)
    }

    /// Has he left, as far as is remembered?
    #[must_use]
    pub fn is_away(&self, room: &str, user: &str, now: Instant) -> bool {
        self.has_left(&(room.to_owned(), user.to_owned()), now)
    }

    fn has_left(&self, key: &Key, now: Instant) -> bool {
        let person = self.people.get(key);
        person.is_some_and(|person| person.has_left(now))
    }

    /// Is whoever this place belongs to still to go? He may be back since that was settled.
    #[must_use]
    pub fn is_to_go(&self, place: &(String, String), now: Instant) -> bool {
        let key = self.places.get(place);
        key.is_some_and(|key| self.has_left(key, now))
    }

    /// Time has passed: what has expired is forgotten, and all others are to be asked for.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + self.interval.unwrap_or(SWEEP);
        self.forget(now);
        // One that takes longer than its time is not begun anew.
        if self.interval.is_some() && self.to_ask.is_empty() {
            let watched = self.people.iter().filter(|(_, p)| !p.stays.is_empty());
            self.to_ask = watched.map(|(key, _)| key.clone()).collect();
        }
    }

    /// When [`Self::handle_timeout`] has work.
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        self.next_sweep
    }

    /// Whom to ask for next.
    pub fn poll_question(&mut self) -> Option<Question> {
        while let Some((room, user)) = self.to_ask.pop_front() {
            if self.people.contains_key(&(room.clone(), user.clone())) {
                return Some(self.question(&room, &user));
            }
        }
        None
    }

    fn forget(&mut self, now: Instant) {
        let places = &mut self.places;
        self.people.retain(|_, person| {
            person.stays.retain(|stay| {
                let lasts = stay.present || now < stay.good_until;
                if !lasts {
                    places.remove(&(stay.alias.clone(), stay.identity.clone()));
                }
                lasts
            });
            person.left_until = person.left_until.filter(|until| now < *until);
            !person.stays.is_empty() || person.left_until.is_some()
        });
    }

    /// How many tokens are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.places.len()
    }
}

impl Person {
    fn stay(&mut self, (alias, identity): &(String, String)) -> Option<&mut Stay> {
        let mut stays = self.stays.iter_mut();
        stays.find(|stay| stay.alias == *alias && stay.identity == *identity)
    }

    fn has_left(&self, now: Instant) -> bool {
        self.left_until.is_some_and(|until| now < until)
    }

    /// He has left and is known to have: wherever he is nevertheless, he is to go, and stays away as long
    /// as what he has there is good for. Elsewhere he stays away as long as was settled before.
    fn stay_out(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        for stay in self.stays.iter_mut().filter(|stay| stay.present) {
            effects.extend(stay.leave(now));
            self.left_until = self.left_until.max(Some(stay.good_until));
        }
        effects
    }

    fn become_joined(&mut self, joined: bool, now: Instant) -> Vec<Effect> {
        let names = |stay: &Stay| (stay.alias.clone(), stay.identity.clone());
        if joined {
            if self.left_until.take().is_none() {
                return Vec::new();
            }
            let allowed = self.stays.iter().map(names);
            return allowed
                .map(|(alias, identity)| Effect::Allow(alias, identity))
                .collect();
        }
        let mut left_until = now + LEFT_FOR;
        let mut effects = Vec::new();
        for stay in &mut self.stays {
            effects.extend(stay.leave(now));
            left_until = left_until.max(stay.good_until);
        }
        self.left_until = Some(left_until);
        effects
    }
}

#[cfg(test)]
mod tests;
