//! The task that knows the rooms by name.
//!
//! Owns the table from name to mailbox; makes rooms, forgets those that are over. Never speaks to a
//! session. Started by `rooms`.

use super::entry::EnterError;
use super::keeper::{Keeper, Letter, MAILBOX_DEPTH};
use super::surroundings::{Surroundings, unix_ms};
use crate::room::command::{Admin, Command};
use crate::room::{Room, Setup};
use proto::livekit::RoomConfiguration;
use rand::Rng;
use std::collections::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::info;

/// Rooms that may exist at a time. Each costs a task and its queues; a machine that serves this
/// many is busy with their media long before.
const MAX_ROOMS: usize = 10_000;

/// What the directory may be asked.
pub(super) enum Ask {
    /// A room's mailbox; the room is made if need be.
    Open {
        name: String,
        /// What the token asks of a room it creates.
        config: Option<Box<RoomConfiguration>>,
        reply: oneshot::Sender<Result<Found, EnterError>>,
    },
    /// Is there such a room?
    Exists {
        name: String,
        reply: oneshot::Sender<bool>,
    },
    /// Where is it, if it is there?
    Find {
        name: String,
        reply: oneshot::Sender<Option<Found>>,
    },
    /// Where are all of them?
    FindAll { reply: oneshot::Sender<Vec<Found>> },
    /// This room lets nobody in any more: the next to come gets a fresh one.
    Retire { name: String, id: u64 },
    /// This room is over.
    Ended { name: String, id: u64 },
    /// Tell all rooms.
    TellAll { admin: Admin },
    /// Close all rooms; answered when they are over.
    ShutDown { reply: oneshot::Sender<()> },
}

/// Where a room is to be found.
#[derive(Clone)]
pub(super) struct Found {
    /// Tells rooms of one name apart.
    pub(super) id: u64,
    /// Its mailbox.
    pub(super) letters: mpsc::Sender<Letter>,
}

/// Tells the directory that a room is over when it is dropped, also if the room's task panicked.
struct Obituary {
    directory: mpsc::WeakSender<Ask>,
    name: String,
    id: u64,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        let (Some(directory), Ok(runtime)) = (
            self.directory.upgrade(),
            tokio::runtime::Handle::try_current(),
        ) else {
            return;
        };
        let ended = Ask::Ended {
            name: std::mem::take(&mut self.name),
            id: self.id,
        };
        runtime.spawn(async move {
            let _ = directory.send(ended).await;
        });
    }
}

/// The rooms by name.
pub(super) struct Directory {
    surroundings: Surroundings,
    itself: mpsc::WeakSender<Ask>,
    rooms: HashMap<String, Found>,
    next_id: u64,
    /// Rooms whose task runs, those that let nobody in included.
    living: usize,
    /// Set when the process goes down: who waits for its end.
    awaiting_end: Option<Vec<oneshot::Sender<()>>>,
}

impl Directory {
    pub(super) fn new(surroundings: Surroundings, itself: mpsc::WeakSender<Ask>) -> Self {
        Self {
            surroundings,
            itself,
            rooms: HashMap::new(),
            next_id: 0,
            living: 0,
            awaiting_end: None,
        }
    }

    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        while let Some(ask) = asked.recv().await {
            self.answer(ask);
            self.tell_the_end();
        }
    }

    /// Who does not wait for an answer any more does not need it: failed replies are dropped.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Open {
                name,
                config,
                reply,
            } => {
                let _ = reply.send(self.open(name, config));
            }
            Ask::Exists { name, reply } => {
                let _ = reply.send(self.rooms.contains_key(&name));
            }
            Ask::Find { name, reply } => {
                let _ = reply.send(self.rooms.get(&name).cloned());
            }
            Ask::FindAll { reply } => {
                let _ = reply.send(self.rooms.values().cloned().collect());
            }
            Ask::Retire { name, id } => self.forget(&name, id),
            Ask::Ended { name, id } => {
                self.forget(&name, id);
                self.living = self.living.saturating_sub(1);
            }
            Ask::TellAll { admin } => {
                if let Admin::Readdress { reachable, .. } = &admin {
                    self.surroundings.settings.fallback.follow(*reachable);
                }
                self.tell_all(&admin);
            }
            Ask::ShutDown { reply } => self.shut_down(reply),
        }
    }

    fn open(
        &mut self,
        name: String,
        config: Option<Box<RoomConfiguration>>,
    ) -> Result<Found, EnterError> {
        if self.awaiting_end.is_some() {
            return Err(EnterError::Draining);
        }
        if let Some(found) = self.rooms.get(&name) {
            return Ok(found.clone());
        }
        if self.living >= MAX_ROOMS {
            self.surroundings.metrics.limit_reached("rooms");
            return Err(EnterError::Full);
        }
        Ok(self.make(name, config))
    }

    fn make(&mut self, name: String, config: Option<Box<RoomConfiguration>>) -> Found {
        let now = Instant::now().into_std();
        let setup = Setup {
            name: name.clone(),
            settings: self.surroundings.settings.clone(),
            epoch: (now, unix_ms()),
            server_info: self.surroundings.server_info.clone(),
            config: config.map(|config| *config),
        };
        self.next_id += 1;
        let (letters, mailbox) = mpsc::channel(MAILBOX_DEPTH);
        let found = Found {
            id: self.next_id,
            letters,
        };
        let obituary = Obituary {
            directory: self.itself.clone(),
            name: name.clone(),
            id: found.id,
        };
        info!(room = %name, "room created");
        let room = Room::new(setup, rand::rng().random(), now);
        let (keeper, events) = Keeper::new(name.clone(), room, self.surroundings.clone());
        tokio::spawn(async move {
            // Held until the task ends, however it ends.
            let _obituary = obituary;
            keeper.run(mailbox, events).await;
        });
        self.living += 1;
        self.rooms.insert(name, found.clone());
        found
    }

    fn forget(&mut self, name: &str, id: u64) {
        if self.rooms.get(name).is_some_and(|found| found.id == id) {
            self.rooms.remove(name);
        }
    }

    fn shut_down(&mut self, reply: oneshot::Sender<()>) {
        self.awaiting_end.get_or_insert_default().push(reply);
        self.tell_all(&Admin::Shutdown);
    }

    fn tell_all(&self, admin: &Admin) {
        for found in self.rooms.values() {
            let letter = Letter::Tell(Box::new(Command::Admin(admin.clone())));
            // A busy room must not hold up the others.
            if let Err(mpsc::error::TrySendError::Full(letter)) = found.letters.try_send(letter) {
                let letters = found.letters.clone();
                tokio::spawn(async move {
                    let _ = letters.send(letter).await;
                });
            }
        }
    }

    fn tell_the_end(&mut self) {
        if self.living == 0
            && let Some(waiting) = &mut self.awaiting_end
        {
            for reply in waiting.drain(..) {
                let _ = reply.send(());
            }
        }
    }
}
