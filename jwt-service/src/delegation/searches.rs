//! The searches at work: which participants an SFU elsewhere is asked for, and how many at a time.
//!
//! Owns their timers and the questions under way. When one is asked is decided in `leave::search`.
//! Used by the task of `delegation`. (LK: jwt-service §7.1)

use crate::leave::search::{Found, Search};
use crate::leave::{Fact, Leave};
use crate::twirp::{CallError, Twirp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

/// Questions under way, each a connection of its own; others wait their turn. They have places of their
/// own, so that an SFU that does not answer holds up no homeserver.
const QUESTIONS_MOST: usize = 32;

/// Between two lines of the log about an SFU that cannot be asked: there may be thousands of searches.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// An SFU that is another process.
#[derive(Clone)]
pub struct Beside {
    /// Its API.
    pub twirp: Twirp,
    /// How often it is asked for somebody who is there; `None`: not at all.
    pub sanity_check: Option<Duration>,
}

struct One {
    search: Search,
    room: String,
    identity: String,
    timer: Option<Instant>,
}

/// All searches, each by the number of its job.
pub(super) struct Searches {
    beside: Beside,
    all: HashMap<u64, One>,
    due: BTreeSet<(Instant, u64)>,
    asking: JoinSet<(u64, Result<Found, CallError>)>,
    warned: Option<Instant>,
    chance: StdRng,
}

impl Searches {
    pub(super) fn new(beside: Beside) -> Self {
        Self {
            beside,
            all: HashMap::new(),
            due: BTreeSet::new(),
            asking: JoinSet::new(),
            warned: None,
            chance: StdRng::from_os_rng(),
        }
    }

    /// Looks for the participant of a job; `known`: he is thought to be there.
    pub(super) fn begin(&mut self, serial: u64, leave: &Leave, known: bool) {
        let chance = StdRng::seed_from_u64(self.chance.random());
        let interval = self.beside.sanity_check;
        let search = Search::new(known, interval, chance, Instant::now().into_std());
        let one = One {
            search,
            room: leave.room.clone(),
            identity: leave.identity.clone(),
            timer: None,
        };
        self.all.insert(serial, one);
        self.arm(serial);
    }

    /// He is there.
    pub(super) fn joined(&mut self, serial: u64) {
        if let Some(one) = self.all.get_mut(&serial) {
            one.search.handle_joined(Instant::now().into_std());
            self.arm(serial);
        }
    }

    /// He may be somewhere else.
    pub(super) fn moved(&mut self, serial: u64) {
        if let Some(one) = self.all.get_mut(&serial) {
            one.search.handle_moved(Instant::now().into_std());
            self.arm(serial);
        }
    }

    /// Nobody wants to know any more.
    pub(super) fn end(&mut self, serial: u64) {
        if let Some(one) = self.all.remove(&serial)
            && let Some(timer) = one.timer
        {
            self.due.remove(&(timer, serial));
        }
    }

    /// When [`Self::attend`] has work that it may do.
    pub(super) fn next(&self) -> Option<Instant> {
        let free = self.asking.len() < QUESTIONS_MOST;
        let (at, _) = self.due.first().filter(|_| free)?;
        Some(*at)
    }

    /// Asks what is due.
    pub(super) fn attend(&mut self) {
        let now = Instant::now();
        while let Some(&(at, serial)) = self.due.first()
            && at <= now
            && self.asking.len() < QUESTIONS_MOST
        {
            self.due.remove(&(at, serial));
            let Some(one) = self.all.get_mut(&serial) else {
                continue;
            };
            one.timer = None;
            if one.search.poll_ask(now.into_std()) {
                let twirp = self.beside.twirp.clone();
                let (room, identity) = (one.room.clone(), one.identity.clone());
                self.asking.spawn(async move {
                    let asked = twirp.participant(&room, &identity).await;
                    let found = asked.map(|sid| sid.map_or(Found::Absent, Found::Here));
                    (serial, found)
                });
            }
            self.arm(serial);
        }
    }

    /// Waits for an answer; what it tells of the participant of which job. `None` once nothing is
    /// under way.
    pub(super) async fn found(&mut self) -> Option<(u64, Option<Fact>)> {
        let (serial, found) = match self.asking.join_next().await? {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "a question for a participant failed");
                return Some((0, None));
            }
        };
        let now = Instant::now();
        let found = found.unwrap_or_else(|error| {
            self.complain(&error, now);
            Found::Unknown
        });
        let one = self.all.get_mut(&serial);
        let fact = one.and_then(|one| one.search.handle_found(found, now.into_std()));
        self.arm(serial);
        Some((serial, fact))
    }

    /// Says why an SFU cannot be asked, not for every search there is.
    fn complain(&mut self, error: &CallError, now: Instant) {
        if self.warned.is_none_or(|at| at + WARN_EVERY <= now) {
            self.warned = Some(now);
            warn!(
                searches = self.all.len(),
                phase = error.label(),
                cause = %error,
                "the SFU cannot be asked for participants of delegated leaves"
            );
        }
    }

    fn arm(&mut self, serial: u64) {
        let Some(one) = self.all.get_mut(&serial) else {
            return;
        };
        let timer = one.search.poll_timeout().map(Instant::from_std);
        let before = std::mem::replace(&mut one.timer, timer);
        if let Some(before) = before {
            self.due.remove(&(before, serial));
        }
        if let Some(timer) = timer {
            self.due.insert((timer, serial));
        }
    }
}
