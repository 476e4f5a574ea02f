//! Delegated leaves at work: one task has all jobs, asks the homeservers, and hears of participants.
//!
//! Owns the jobs, their timers and how many requests are under way. What a job does is decided in
//! `leave`; where a homeserver is, in `client_api`; what survives a restart, in `store`. Called by
//! `routes`, and told of participants by the server, or by the webhook of an SFU that is another process,
//! which `searches` asks too. (MSC4140, MSC4195; LK: jwt-service §7)
#![allow(
    clippy::disallowed_methods,
    reason = "shell: when an event was restarted is kept by the wall clock"
)]

mod searches;

use crate::client_api::ClientApi;
use crate::dns::Dns;
use crate::fetch::Fetch;
use crate::leave::kept::Kept;
use crate::leave::{Action, Answer, Fact, Job, Leave};
use crate::settled::{Settled, SetupError};
use crate::store::{Keeping, Store};
use crate::watch::Watch;
use crate::webhook::{Step, Told};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
pub use searches::Beside;
use searches::Searches;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

/// Jobs at a time, some 600 bytes each: more participants than a process serves.
const JOBS_MOST: usize = 50_000;
/// Requests under way; others wait their turn.
const REQUESTS_MOST: usize = 64;
/// Participants remembered of whom no leave is known yet, some 200 bytes each. Whoever is one more
/// counts as not there if his leave is handed over late.
const PRESENT_MOST: usize = 100_000;
/// How long a leave waits for the disk before it is sent.
const KEPT_WITHIN: Duration = Duration::from_secs(1);
/// Orders that wait for the task, which answers each at once.
const ORDERS: usize = 1024;

/// Room and identity.
type Key = (String, String);

/// What the SFU tells of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The SFU's name of the room.
    pub room: String,
    /// The participant.
    pub identity: String,
    /// Under which sid he is there now; `None`: nobody of this identity is any more.
    pub sid: Option<String>,
}

/// Why a leave was not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untaken {
    /// As many as we take.
    #[error("as many delegated leaves as this server takes")]
    Full,
    /// It could not be kept.
    #[error("the leave could not be kept")]
    Store,
    /// The homeserver has no such event, or lets only its owner touch it.
    #[error("the homeserver does not let others touch the delayed event")]
    Forbidden,
    /// Another process takes them now.
    #[error("another process has the delegated leaves")]
    Elsewhere,
}

enum Order {
    Register(Kept, oneshot::Sender<Result<(), Untaken>>),
    Presence(Presence),
    Told(Told),
}

/// The way to the task; cheap to clone. The task ends with the last one.
#[derive(Clone)]
pub struct Delegations {
    orders: mpsc::Sender<Order>,
    api: Arc<ClientApi>,
    store: Store,
}

impl Delegations {
    /// Starts the task on the current runtime, with the jobs of before.
    ///
    /// # Errors
    /// A file of the configuration cannot be used.
    pub fn start(settled: &Settled, watch: Arc<dyn Watch>) -> Result<Self, SetupError> {
        Self::start_beside(settled, watch, None)
    }

    /// The same where the SFU is another process, which is asked for participants.
    ///
    /// # Errors
    /// A file of the configuration cannot be used.
    pub fn start_beside(
        settled: &Settled,
        watch: Arc<dyn Watch>,
        beside: Option<Beside>,
    ) -> Result<Self, SetupError> {
        let fetch = Fetch::new(Dns::of_system(), settled.clone());
        let api = Arc::new(ClientApi::new(settled.clone(), fetch));
        let config = settled.config();
        let (store, kept) = match (&config.store, &config.redis) {
            (Some(path), _) => Store::open(path)?,
            (None, Some(url)) => Store::redis(&url.0)?,
            (None, None) => (Store::none(), Vec::new()),
        };
        let (orders, inbox) = mpsc::channel(ORDERS);
        let mut desk = Desk {
            api: Arc::clone(&api),
            store: store.clone(),
            watch,
            jobs: HashMap::new(),
            keys: HashMap::new(),
            due: BTreeSet::new(),
            present: HashMap::new(),
            asking: JoinSet::new(),
            searches: beside.map(Searches::new),
            serial: 0,
            chance: StdRng::from_os_rng(),
            elsewhere: false,
        };
        desk.restore(kept);
        tokio::spawn(desk.run(inbox));
        Ok(Self { orders, api, store })
    }

    /// Is the client-server API of this homeserver known? Without it nothing can be taken over.
    pub async fn can_reach(&self, server: &str) -> bool {
        self.api.find(server).await.is_some()
    }

    /// Takes a leave over; it is kept when this returns. One of the same participant is replaced.
    ///
    /// A client that hands its leave over stops caring for it. So the homeserver is asked first whether
    /// it lets us; one that cannot be reached just now is given the benefit of the doubt.
    ///
    /// # Errors
    /// Why not.
    pub async fn register(&self, leave: Leave) -> Result<(), Untaken> {
        if self.store.is_lost() {
            return Err(Untaken::Elsewhere);
        }
        let api = &self.api;
        let may = api.update(&leave, Action::Restart).await;
        if matches!(may, Answer::Denied | Answer::Gone) {
            return Err(Untaken::Forbidden);
        }
        let (room, identity) = (leave.room.clone(), leave.identity.clone());
        let kept = Kept {
            leave,
            restarted: SystemTime::now(),
            leaving: false,
        };
        if let Err(error) = self.store.keep(&kept).await {
            warn!(%error, "a delegated leave is not taken over");
            return Err(Untaken::Store);
        }
        let (done, taken) = oneshot::channel();
        let sent = self.orders.send(Order::Register(kept, done)).await;
        if sent.is_err() {
            return Err(Untaken::Store);
        }
        let taken = taken.await.unwrap_or(Err(Untaken::Store));
        if taken.is_err() {
            self.store.forget(&room, &identity);
        }
        taken
    }

    /// The SFU tells of somebody.
    pub async fn tell(&self, presence: Presence) {
        // It fails only once the task has ended, with the process.
        let _ = self.orders.send(Order::Presence(presence)).await;
    }

    /// The webhook of the SFU tells of somebody.
    pub async fn hear(&self, told: Told) {
        // As above.
        let _ = self.orders.send(Order::Told(told)).await;
    }
}

struct Entry {
    job: Job,
    serial: u64,
    timer: Option<Instant>,
    /// As it was kept last.
    restarted: SystemTime,
    leaving: bool,
    /// That he has gone is on its way to the disk.
    keeping: Option<Keeping>,
}

impl Entry {
    fn kept(&self) -> Kept {
        Kept {
            leave: self.job.leave().clone(),
            restarted: self.restarted,
            leaving: self.leaving,
        }
    }
}

/// What a request brought.
struct Asked {
    serial: u64,
    action: Action,
    answer: Answer,
}

struct Desk {
    api: Arc<ClientApi>,
    store: Store,
    watch: Arc<dyn Watch>,
    jobs: HashMap<Key, Entry>,
    /// The key of a job by its number, so that an answer for a replaced one finds nobody.
    keys: HashMap<u64, Key>,
    due: BTreeSet<(Instant, u64)>,
    /// Who is in a room now: a leave may be handed over late.
    present: HashMap<Key, String>,
    asking: JoinSet<Asked>,
    /// For participants of whom an SFU elsewhere does not tell reliably.
    searches: Option<Searches>,
    serial: u64,
    chance: StdRng,
    /// Another process has the jobs.
    elsewhere: bool,
}

impl Desk {
    /// Jobs of before the restart wait for their participants anew, or go on to be sent; those whose event
    /// has fired meanwhile are over.
    fn restore(&mut self, kept: Vec<Kept>) {
        let now = SystemTime::now();
        for kept in kept {
            if kept.left(now).is_none() || self.jobs.len() >= JOBS_MOST {
                self.store.forget(&kept.leave.room, &kept.leave.identity);
                continue;
            }
            self.insert(kept);
        }
        if !self.jobs.is_empty() {
            info!(jobs = self.jobs.len(), "delegated leaves taken up again");
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        loop {
            self.attend();
            let free = self.asking.len() < REQUESTS_MOST;
            let job = self.due.first().filter(|_| free).map(|(at, _)| *at);
            let search = self.searches.as_ref().and_then(Searches::next);
            let next = [job, search].into_iter().flatten().min();
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(asked) = self.asking.join_next() => match asked {
                    Ok(asked) => self.answered(&asked),
                    Err(error) => warn!(%error, "a request for a delegated leave failed"),
                },
                Some((serial, fact)) = found(&mut self.searches) => self.found(serial, fact),
                () = self.store.lost() => self.let_go(),
                () = until(next) => {}
            }
        }
    }

    /// Another process has the jobs, and does what is to be done for them.
    fn let_go(&mut self) {
        self.elsewhere = true;
        let jobs = std::mem::take(&mut self.jobs);
        let count = jobs.len();
        for (_, entry) in jobs {
            self.unlist(&entry);
            self.watch.leave_ended("elsewhere");
        }
        self.watch.leaves(0);
        error!(
            jobs = count,
            "another process has taken the delegated leaves in Redis: this one lets go of them and takes \
             no more; end the other and restart this one if it is to have them"
        );
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Register(kept, done) => {
                // Whoever asked may have gone; the job is there all the same.
                let _ = done.send(self.register(kept));
            }
            Order::Presence(presence) => self.presence(presence),
            Order::Told(told) => self.told(told),
        }
    }

    fn register(&mut self, kept: Kept) -> Result<(), Untaken> {
        if self.elsewhere {
            return Err(Untaken::Elsewhere);
        }
        let leave = &kept.leave;
        let key = (leave.room.clone(), leave.identity.clone());
        if self.jobs.len() >= JOBS_MOST && !self.jobs.contains_key(&key) {
            self.watch.limit_reached("jwt_leaves");
            return Err(Untaken::Full);
        }
        if let Some(before) = self.jobs.remove(&key) {
            self.unlist(&before);
            self.watch.leave_ended("replaced");
        }
        // Since it was kept, the end of the one before may have struck its name out.
        self.store.update(&kept);
        self.insert(kept);
        Ok(())
    }

    fn insert(&mut self, kept: Kept) {
        let key = (kept.leave.room.clone(), kept.leave.identity.clone());
        let now = Instant::now();
        let chance = StdRng::seed_from_u64(self.chance.random());
        let left = kept.left(SystemTime::now()).unwrap_or_default();
        let (restarted, leaving) = (kept.restarted, kept.leaving);
        let mut job = if leaving {
            Job::leaving(kept.leave, chance, left, now.into_std())
        } else {
            Job::new(kept.leave, chance, now.into_std())
        };
        let known = self.present.get(&key);
        if let Some(sid) = known {
            job.handle_fact(Fact::Joined(sid.clone()), now.into_std());
        }
        self.serial += 1;
        let serial = self.serial;
        if let Some(searches) = self.searches.as_mut().filter(|_| !leaving) {
            searches.begin(serial, job.leave(), known.is_some());
        }
        info!(
            room = key.0,
            participant = key.1,
            "delegated leave taken over"
        );
        self.keys.insert(serial, key.clone());
        let entry = Entry {
            job,
            serial,
            timer: None,
            restarted,
            leaving,
            keeping: None,
        };
        self.jobs.insert(key, entry);
        self.arm(serial);
        self.watch.leaves(self.jobs.len());
    }

    /// Messages may come late, twice or not at all: who left is told by his sid.
    fn told(&mut self, told: Told) {
        let Told {
            room,
            identity,
            sid,
            step,
        } = told;
        if step == Step::Joined || (step == Step::Left && sid.is_empty()) {
            return self.presence(Presence {
                room,
                identity,
                sid: (step == Step::Joined).then_some(sid),
            });
        }
        let key = (room, identity);
        if self.present.get(&key).is_some_and(|known| *known == sid) {
            self.present.remove(&key);
        }
        let Some(entry) = self.jobs.get_mut(&key) else {
            return;
        };
        let serial = entry.serial;
        if step == Step::Left {
            let now = Instant::now().into_std();
            entry.job.handle_fact(Fact::Left(sid), now);
            self.arm(serial);
        } else if let Some(searches) = &mut self.searches {
            searches.moved(serial);
        }
    }

    /// The SFU was asked for the participant of a job.
    fn found(&mut self, serial: u64, fact: Option<Fact>) {
        let (Some(fact), Some(key)) = (fact, self.keys.get(&serial)) else {
            return;
        };
        // A message told of him was wrong, or lost.
        if fact == Fact::Absent {
            self.present.remove(key);
        }
        if let Some(entry) = self.jobs.get_mut(key) {
            entry.job.handle_fact(fact, Instant::now().into_std());
            self.arm(serial);
        }
    }

    fn presence(&mut self, presence: Presence) {
        let key = (presence.room, presence.identity);
        let fact = match presence.sid {
            Some(sid) => {
                if self.present.len() < PRESENT_MOST || self.present.contains_key(&key) {
                    self.present.insert(key.clone(), sid.clone());
                } else {
                    self.watch.limit_reached("jwt_present");
                }
                Fact::Joined(sid)
            }
            None => {
                self.present.remove(&key);
                Fact::Absent
            }
        };
        if let Some(entry) = self.jobs.get_mut(&key) {
            let serial = entry.serial;
            if let (Fact::Joined(_), Some(searches)) = (&fact, &mut self.searches) {
                searches.joined(serial);
            }
            entry.job.handle_fact(fact, Instant::now().into_std());
            self.arm(serial);
        }
    }

    fn answered(&mut self, asked: &Asked) {
        let Some(entry) = self.entry(asked.serial) else {
            return;
        };
        let now = Instant::now().into_std();
        entry.job.handle_answer(asked.action, asked.answer, now);
        let restarted = asked.action == Action::Restart && asked.answer == Answer::Done;
        if restarted && entry.job.end().is_none() {
            entry.restarted = SystemTime::now();
            let kept = entry.kept();
            self.store.update(&kept);
        }
        self.arm(asked.serial);
    }

    /// Does what is due, as far as requests may be made.
    fn attend(&mut self) {
        if let Some(searches) = &mut self.searches {
            searches.attend();
        }
        let now = Instant::now();
        while let Some(&(at, serial)) = self.due.first()
            && at <= now
            && self.asking.len() < REQUESTS_MOST
        {
            self.due.remove(&(at, serial));
            let Some(entry) = self.entry(serial) else {
                continue;
            };
            entry.timer = None;
            entry.job.handle_timeout(now.into_std());
            let action = entry.job.poll_action(now.into_std());
            let leave = entry.job.leave().clone();
            if let Some(action) = action {
                let keeping = entry.keeping.take();
                let api = Arc::clone(&self.api);
                self.asking.spawn(async move {
                    if let Some(keeping) = keeping {
                        // Sent all the same if it cannot be kept.
                        let _ = timeout(KEPT_WITHIN, keeping).await;
                    }
                    let answer = api.update(&leave, action).await;
                    Asked {
                        serial,
                        action,
                        answer,
                    }
                });
            }
            self.arm(serial);
        }
    }

    fn entry(&mut self, serial: u64) -> Option<&mut Entry> {
        let key = self.keys.get(&serial)?;
        self.jobs.get_mut(key)
    }

    /// Whoever has gone is to be gone after a restart of ours too: that is kept before his leave is sent.
    fn note_leaving(&mut self, serial: u64) {
        let Some(entry) = self.entry(serial) else {
            return;
        };
        let is_new = entry.job.is_leaving() && !entry.leaving;
        if is_new {
            entry.leaving = true;
            let kept = entry.kept();
            let keeping = self.store.begin(&kept).unwrap_or_else(|error| {
                warn!(%error, "that a participant has gone is not kept");
                None
            });
            if let Some(entry) = self.entry(serial) {
                entry.keeping = keeping;
            }
        }
    }

    /// Sets a job's timer, or takes it away if it is over.
    fn arm(&mut self, serial: u64) {
        self.note_leaving(serial);
        let Some(entry) = self.entry(serial) else {
            return;
        };
        let before = entry.timer.take();
        let end = entry.job.end();
        let stays = entry.job.needs_participant();
        entry.timer = match end {
            None => entry.job.poll_timeout().map(Instant::from_std),
            Some(_) => None,
        };
        let timer = entry.timer;
        if let Some(searches) = self.searches.as_mut().filter(|_| !stays) {
            searches.end(serial);
        }
        if let Some(before) = before {
            self.due.remove(&(before, serial));
        }
        if let Some(timer) = timer {
            self.due.insert((timer, serial));
        }
        let Some(end) = end else { return };
        let Some(entry) = self.keys.get(&serial).and_then(|key| self.jobs.remove(key)) else {
            return;
        };
        self.unlist(&entry);
        let leave = entry.job.leave();
        self.store.forget(&leave.room, &leave.identity);
        let (room, participant) = (&leave.room, &leave.identity);
        info!(
            room,
            participant,
            server = leave.server,
            end = end.label(),
            "delegated leave is over"
        );
        self.watch.leave_ended(end.label());
        self.watch.leaves(self.jobs.len());
    }

    fn unlist(&mut self, entry: &Entry) {
        self.keys.remove(&entry.serial);
        if let Some(searches) = &mut self.searches {
            searches.end(entry.serial);
        }
        if let Some(timer) = entry.timer {
            self.due.remove(&(timer, entry.serial));
        }
    }
}

async fn found(searches: &mut Option<Searches>) -> Option<(u64, Option<Fact>)> {
    searches.as_mut()?.found().await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
