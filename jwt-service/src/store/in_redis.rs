//! Delegated leaves in Redis, where the reference keeps them and in its form: an operator may change
//! from one to the other. (LK: jwt-service §7.4)
//!
//! Owns the connection, and the key that says whose the jobs are: two that send the same leaves would
//! undo each other's work. The only file that names the crate. Used by `store`.
#![allow(
    clippy::disallowed_methods,
    reason = "shell: a claim is renewed by the clock"
)]

use super::{Change, StoreError};
use crate::leave::kept::Kept;
use rand::Rng as _;
use redis::{Client, Connection, RedisError, RedisResult, cmd, pipe};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::park_timeout;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The reference's hash of all jobs.
const JOBS: &str = "lk-jwt:jobs";
/// Who has them.
const OWNER: &str = "lk-jwt:owner";
/// A claim that is not renewed lapses after this: so long a start waits after a crash.
const CLAIM: Duration = Duration::from_secs(6);
/// It is renewed so often.
const RENEW: Duration = Duration::from_secs(2);
/// To connect, and for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Changes that wait for Redis to come back, the last one of each job: as many jobs as there may be,
/// and as many that ended meanwhile.
const OWED_MOST: usize = 100_000;
/// Changes written at once.
const BATCH: usize = 256;

/// Renews the claim if it is ours; 1 if so.
const HOLD: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then \
    return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end";
/// Ends it if it is ours.
const LET_GO: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then \
    return redis.call('del', KEYS[1]) else return 0 end";

/// Our side of the connection.
pub(super) struct Keeper {
    client: Client,
    /// What the owner's key holds while it is ours.
    name: String,
    connection: Option<Connection>,
    /// It did not answer last time.
    away: bool,
    /// By job: its last state, or that it is over.
    owed: BTreeMap<String, Option<String>>,
    /// Another process has taken the jobs over, and who is told so.
    lost: bool,
    lose: watch::Sender<bool>,
}

/// Connects, claims the jobs and reads them.
pub(super) fn open(
    url: &str,
    lose: watch::Sender<bool>,
) -> Result<(Keeper, Vec<Kept>), StoreError> {
    // No error may show the URL: it holds the password.
    let client = Client::open(url).map_err(|error| failed(&error))?;
    let name: u128 = rand::rng().random();
    let mut keeper = Keeper {
        client,
        name: format!("foci-{name:032x}"),
        connection: None,
        away: false,
        owed: BTreeMap::new(),
        lost: false,
        lose,
    };
    let mut connection = keeper.connect().map_err(|error| failed(&error))?;
    keeper.claim(&mut connection)?;
    let jobs = read(&mut connection).map_err(|error| failed(&error))?;
    keeper.connection = Some(connection);
    Ok((keeper, jobs))
}

fn failed(error: &RedisError) -> StoreError {
    // The kind and the server's own word; addresses and credentials stay out.
    let detail = error.detail().unwrap_or_default();
    StoreError::Redis(format!("{}: {detail}", error.category()))
}

fn read(connection: &mut Connection) -> RedisResult<Vec<Kept>> {
    let all: BTreeMap<String, String> = cmd("HGETALL").arg(JOBS).query(connection)?;
    let mut jobs = Vec::new();
    for (key, value) in all {
        match Kept::read(&value) {
            Some(job) => jobs.push(job),
            None => warn!(key, "a job in Redis is not understood: left out"),
        }
    }
    Ok(jobs)
}

impl Keeper {
    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(ANSWER_WITHIN)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN))?;
        connection.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(connection)
    }

    /// Makes the jobs ours. Whoever had them and is gone loses them when his claim lapses; one who
    /// renews it is alive.
    fn claim(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let began = Instant::now();
        loop {
            if self.take(connection).map_err(|error| failed(&error))? {
                return Ok(());
            }
            let left: i64 = cmd("PTTL")
                .arg(OWNER)
                .query(connection)
                .map_err(|error| failed(&error))?;
            // Longer than one claim: it was renewed meanwhile, or never lapses.
            if left == -1 || began.elapsed() > CLAIM {
                return Err(StoreError::Owned);
            }
            if began.elapsed() < RENEW {
                info!("waiting for the claim of whoever had the jobs in Redis before");
            }
            let left = u64::try_from(left).unwrap_or_default();
            park_timeout(Duration::from_millis(left + 10).min(CLAIM));
        }
    }

    /// True if the jobs are ours now.
    fn take(&self, connection: &mut Connection) -> RedisResult<bool> {
        let taken: Option<String> = cmd("SET")
            .arg(OWNER)
            .arg(&self.name)
            .arg("NX")
            .arg("PX")
            .arg(CLAIM.as_millis() as u64)
            .query(connection)?;
        if taken.is_some() {
            return Ok(true);
        }
        let held: i64 = cmd("EVAL")
            .arg(HOLD)
            .arg(1)
            .arg(OWNER)
            .arg(&self.name)
            .arg(CLAIM.as_millis() as u64)
            .query(connection)?;
        Ok(held == 1)
    }

    /// Does what is asked until nobody is left who could ask.
    pub(super) fn run(mut self, queue: &Receiver<Change>) {
        let mut renew = Instant::now() + RENEW;
        loop {
            let wait = renew.saturating_duration_since(Instant::now());
            let first = match queue.recv_timeout(wait) {
                Ok(change) => Some(change),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let batch: Vec<Change> = first
                .into_iter()
                .chain(queue.try_iter().take(BATCH - 1))
                .collect();
            if Instant::now() >= renew {
                self.renew();
                renew = Instant::now() + RENEW;
            }
            self.write(batch);
        }
        self.let_go();
    }

    /// Renews the claim, on a new connection if the last one broke.
    fn renew(&mut self) {
        if self.lost {
            return;
        }
        if let Err(error) = self.renewed() {
            self.broken(&error);
        } else if !self.lost && std::mem::take(&mut self.away) {
            info!("Redis is back");
        }
    }

    fn renewed(&mut self) -> RedisResult<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        if self.take(&mut connection)? {
            self.connection = Some(connection);
        } else {
            self.lost = true;
            self.owed.clear();
            self.lose.send_replace(true);
        }
        Ok(())
    }

    fn write(&mut self, batch: Vec<Change>) {
        let mut waiting = Vec::new();
        for change in batch {
            let (key, value) = match change {
                Change::Put(key, value, done) => {
                    waiting.extend(done.map(|done| (key.clone(), done)));
                    (key, Some(value))
                }
                Change::Remove(key) => (key, None),
            };
            self.owe(key, value);
        }
        let written = self.flush();
        for (key, done) in waiting {
            if !written {
                // Whoever is told so does not count on it.
                self.owed.remove(&key);
            }
            let answer = if written {
                Ok(())
            } else {
                Err(StoreError::Busy)
            };
            // Whoever asked may have gone.
            let _ = done.send(answer);
        }
    }

    fn owe(&mut self, key: String, value: Option<String>) {
        if self.lost {
            return;
        }
        if self.owed.len() < OWED_MOST || self.owed.contains_key(&key) {
            self.owed.insert(key, value);
        } else {
            // As in a file: an older state is read after a restart.
            warn!("Redis is away for too long: a change is left out");
        }
    }

    /// Writes what is owed; true if nothing is any more.
    fn flush(&mut self) -> bool {
        let mut held = Instant::now();
        while !self.owed.is_empty() {
            // What waited for long takes long to write.
            if held.elapsed() >= RENEW {
                self.renew();
                held = Instant::now();
            }
            let Some(connection) = self.connection.as_mut().filter(|_| !self.lost) else {
                return false;
            };
            let mut commands = pipe();
            let some: Vec<_> = self.owed.iter().take(BATCH).collect();
            for (key, value) in &some {
                match value {
                    Some(value) => commands.cmd("HSET").arg(JOBS).arg(key).arg(value).ignore(),
                    None => commands.cmd("HDEL").arg(JOBS).arg(key).ignore(),
                };
            }
            let keys: Vec<String> = some.into_iter().map(|(key, _)| key.clone()).collect();
            let done: RedisResult<()> = commands.query(connection);
            if let Err(error) = done {
                self.broken(&error);
                return false;
            }
            for key in keys {
                self.owed.remove(&key);
            }
        }
        self.connection.is_some() && !self.lost
    }

    fn broken(&mut self, error: &RedisError) {
        self.connection = None;
        if !std::mem::replace(&mut self.away, true) {
            error!(cause = %failed(error), "Redis does not answer: changes wait for it, new leaves are not taken over");
        }
    }

    /// The next one need not wait.
    fn let_go(mut self) {
        self.flush();
        let Some(mut connection) = self.connection.take().filter(|_| !self.lost) else {
            return;
        };
        let ended: RedisResult<()> = cmd("EVAL")
            .arg(LET_GO)
            .arg(1)
            .arg(OWNER)
            .arg(&self.name)
            .query(&mut connection);
        if let Err(error) = ended {
            warn!(cause = %failed(&error), "the claim in Redis lapses by itself");
        }
    }
}
