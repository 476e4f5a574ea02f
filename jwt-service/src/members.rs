//! Who was given a token for which Matrix room, and who has left that room since.
//!
//! Owns the match of Matrix rooms and users to rooms and participants of the SFU, whom nobody is to
//! let in any more, and when the homeserver is to be asked who is still joined. It asks nobody and
//! keeps no clock: what happens is told to it, and what the SFU is to do comes back as effects.
//! Called by `monitor`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Tokens remembered, some 400 bytes each: more participants than a process serves. Users of our
/// homeserver get no more then, and that is counted.
const STAYS_MOST: usize = 100_000;
/// Of those, of users of other homeservers: strangers, who must leave room for ours. One more is given out
/// and not watched, and counted.
const FOREIGN_MOST: usize = STAYS_MOST / 2;
/// Of users of one other homeserver.
const FOREIGN_OF_ONE: usize = STAYS_MOST / 10;
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

/// How long somebody is believed to be there of whom only a webhook has told: the one that he has gone may
/// have been lost. Few calls last for longer.
const PRESENT_FOR: Duration = Duration::from_secs(12 * 3600);
/// Identities that are there by one token. Clients join once, and once more to send by WHIP; one more is
/// not found when he is to go, and counted.
const HERE_MOST: usize = 16;
/// Separates an identity from what a session beside it adds. (LK: signalling §1.5)
const BESIDE: char = '#';

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

/// What the SFU tells of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// He is there until it tells otherwise.
    Here,
    /// He is there, and it may not be told when he goes.
    Heard,
    /// He is not there any more.
    Gone,
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
    /// The identities that are there by it, his own and those of sessions beside it, and until when that is
    /// believed.
    here: BTreeMap<String, Option<Instant>>,
}

impl Stay {
    /// The token of whoever is there has been renewed until now, or for as long as he was.
    fn settle(&mut self, now: Instant) {
        let good_until = &mut self.good_until;
        self.here.retain(|_, until| {
            let last = until.map_or(now, |until| until.min(now));
            *good_until = (*good_until).max(last + RENEWED_FOR);
            until.is_none_or(|until| now < until)
        });
    }

    /// Remembered for as long as he is denied.
    fn leave(&mut self, now: Instant) -> Vec<Effect> {
        self.settle(now);
        let (alias, own) = (&self.alias, &self.identity);
        let beside = self.here.keys().filter(|identity| *identity != own);
        let out = std::iter::once(own).chain(beside);
        let out = out.map(|identity| Effect::Remove(alias.clone(), identity.clone()));
        let deny = Effect::Deny(alias.clone(), own.clone(), self.good_until);
        std::iter::once(deny).chain(out).collect()
    }
}

#[derive(Debug, Default)]
struct Person {
    stays: Vec<Stay>,
    /// He has left, and gets no token until then.
    left_until: Option<Instant>,
    heard: u64,
}

/// How many tokens are remembered of users of other homeservers.
#[derive(Debug, Default)]
struct Foreign {
    all: usize,
    by_server: BTreeMap<String, usize>,
}

impl Foreign {
    fn is_full(&self, server: &str) -> bool {
        let of_one = self.by_server.get(server);
        self.all >= FOREIGN_MOST || of_one.is_some_and(|count| *count >= FOREIGN_OF_ONE)
    }

    fn add(&mut self, server: &str) {
        self.all += 1;
        *self.by_server.entry(server.to_owned()).or_default() += 1;
    }

    fn remove(&mut self, server: &str) {
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.by_server.get_mut(server) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_server.remove(server);
            }
        }
    }
}

/// The server of a user, if it is not `ours`.
fn foreign<'a>(user: &'a str, ours: &str) -> Option<&'a str> {
    let server = user.split_once(':').map_or("", |(_, server)| server);
    Some(server).filter(|server| *server != ours)
}

/// Zero is never.
fn asked_every(interval: Duration) -> Option<Duration> {
    Some(interval).filter(|interval| !interval.is_zero())
}

/// All of them.
#[derive(Debug)]
pub struct Members {
    /// The name of our homeserver.
    ours: String,
    foreign: Foreign,
    people: BTreeMap<Key, Person>,
    /// Whose a place is, by the SFU's names.
    places: BTreeMap<Key, Key>,
    /// `None`: nobody is asked for.
    interval: Option<Duration>,
    next_sweep: Instant,
    to_ask: VecDeque<Key>,
}

impl Members {
    /// Nobody; asked for every `interval`, or never if that is zero. `ours` is our homeserver's name.
    #[must_use]
    pub fn new(ours: &str, interval: Duration, now: Instant) -> Self {
        let interval = asked_every(interval);
        Self {
            ours: ours.to_owned(),
            foreign: Foreign::default(),
            people: BTreeMap::new(),
            places: BTreeMap::new(),
            interval,
            next_sweep: now + interval.unwrap_or(SWEEP),
            to_ask: VecDeque::new(),
        }
    }

    /// A token is about to be given out. False if it is not watched: there are too many of strangers.
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
        if !is_known && !self.has_place(&key.1, now)? {
            return Ok(false);
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
            here: BTreeMap::new(),
        });
        if let Some(server) = foreign(&key.1, &self.ours) {
            self.foreign.add(server);
        }
        self.places.insert(place, key);
        Ok(true)
    }

    /// Can one more token of this user be watched? None of ours is to be given out otherwise.
    fn has_place(&mut self, user: &str, now: Instant) -> Result<bool, Refused> {
        let has_place = self.places.len() < STAYS_MOST;
        if let Some(server) = foreign(user, &self.ours) {
            return Ok(has_place && !self.foreign.is_full(server));
        }
        if !has_place {
            self.forget(now);
        }
        if self.places.len() < STAYS_MOST {
            return Ok(true);
        }
        Err(Refused::TooMany)
    }

    /// The SFU tells of somebody. One that lets in whoever has a token has to take out again who has left.
    /// False beside the effects if it could not be remembered.
    pub fn handle_presence(
        &mut self,
        place: &(String, String),
        seen: Seen,
        now: Instant,
    ) -> (Vec<Effect>, bool) {
        let Some((own, key)) = self.own(place) else {
            return (Vec::new(), true);
        };
        let (own, key) = (own.clone(), key.clone());
        let Some(person) = self.people.get_mut(&key) else {
            return (Vec::new(), true);
        };
        let until = match seen {
            Seen::Here => None,
            Seen::Heard => Some(now + PRESENT_FOR),
            Seen::Gone => {
                if let Some(stay) = person.stay(&own) {
                    stay.settle(now);
                    stay.here.remove(&place.1);
                }
                return (Vec::new(), true);
            }
        };
        let mut remembered = true;
        if let Some(stay) = person.stay(&own) {
            stay.settle(now);
            remembered = stay.here.len() < HERE_MOST || stay.here.contains_key(&place.1);
            if remembered {
                stay.here.insert(place.1.clone(), until);
            }
        }
        if !person.has_left(now) {
            return (Vec::new(), remembered);
        }
        let mut effects = person.stay_out(now);
        if !remembered {
            effects.push(Effect::Remove(place.0.clone(), place.1.clone()));
        }
        (effects, remembered)
    }

    /// The place that somebody there has a token for, and whose it is: sessions beside his own are his too.
    fn own(&self, (alias, identity): &(String, String)) -> Option<(&Key, &Key)> {
        let own = identity.match_indices(BESIDE).rev();
        let own = own.map(|(at, _)| &identity[..at]);
        let mut all = std::iter::once(identity.as_str()).chain(own);
        all.find_map(|own| self.places.get_key_value(&(alias.clone(), own.to_owned())))
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
        let own = self.own(place);
        own.is_some_and(|(_, key)| self.has_left(key, now))
    }

    /// Everybody is asked for this often from now on, or never if that is zero.
    pub fn handle_interval(&mut self, interval: Duration, now: Instant) {
        self.interval = asked_every(interval);
        let next = now + self.interval.unwrap_or(SWEEP);
        self.next_sweep = self.next_sweep.min(next);
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
        let (places, strangers, ours) = (&mut self.places, &mut self.foreign, &self.ours);
        self.people.retain(|(_, user), person| {
            person.stays.retain_mut(|stay| {
                stay.settle(now);
                let lasts = now < stay.good_until;
                if !lasts {
                    if let Some(server) = foreign(user, ours) {
                        strangers.remove(server);
                    }
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
        for stay in self.stays.iter_mut().filter(|stay| !stay.here.is_empty()) {
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
