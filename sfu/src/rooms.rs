//! The rooms of this process: one task owns each, a directory task knows them by name.
//!
//! Owns finding, making and forgetting rooms, and the way of a session into one. Decides nothing
//! about a room; that is `room::Room`, which the owning task feeds. Called by `http/websocket` and
//! `server`.

mod denied;
mod preferences;
mod entry;
mod report;
mod people;

mod surroundings;

mod keeper;

mod directory;

pub use denied::Denied;
pub use entry::{EnterError, Entry, Said};
pub use people::{Presence, Told};
pub use preferences::Preferences;
pub use report::{PersonReport, RoomReport};
pub use surroundings::{Surroundings, unix_ms};

use crate::advertise::Gone;
use crate::ids::{PeerId, SessionId};
use crate::metrics::Metrics;
use crate::room::command::{Admin, Command};
use crate::room::preference::Reachable;
use crate::worker::Workers;
use directory::{Ask, Directory};
use keeper::{Letter, Verdict};
use proto::livekit::{RoomConfiguration, signal_request};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Questions that may wait for the directory. Each is answered at once, so a full queue means that
/// the process is starved; the asker waits.
const DIRECTORY_DEPTH: usize = 1024;

/// Messages for one session that may wait for its socket's task, which only has to encode them. A
/// join is told of its permission for each of up to 4096 tracks in one go. A full queue means that
/// the task is stuck, and the session is given up (the client resumes).
const SESSION_DEPTH: usize = 8_192;

/// How often a session that met a closing room tries again on a fresh one.
const ENTER_ATTEMPTS: usize = 3;

/// A room that says nothing of itself for so long is too busy to be asked.
const REPORT_WITHIN: Duration = Duration::from_secs(1);

/// A handle to the rooms, cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    directory: mpsc::Sender<Ask>,
    sessions: Arc<AtomicU64>,
    workers: Workers,
    denied: Denied,
    preferences: Preferences,
    metrics: Metrics,
}

impl Rooms {
    /// Starts the directory on the current runtime; it lives as long as a handle does.
    #[must_use]
    pub fn start(surroundings: Surroundings) -> Self {
        let (directory, asked) = mpsc::channel(DIRECTORY_DEPTH);
        let workers = surroundings.workers.clone();
        let denied = surroundings.denied.clone();
        let preferences = surroundings.preferences.clone();
        let metrics = surroundings.metrics.clone();
        let task = Directory::new(surroundings, directory.downgrade());
        tokio::spawn(task.run(asked));
        Self {
            directory,
            sessions: Arc::new(AtomicU64::new(1)),
            workers,
            denied,
            preferences,
            metrics,
        }
    }

    /// A name for a new signalling connection.
    #[must_use]
    pub fn open_session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// Draws a place for a new participant's peer.
    #[must_use]
    pub fn place(&self) -> PeerId {
        self.workers.place()
    }

    /// Is there a room of this name?
    pub async fn exists(&self, name: &str) -> bool {
        let name = name.to_owned();
        self.ask(|reply| Ask::Exists { name, reply })
            .await
            .unwrap_or(false)
    }

    /// Makes the room `name` as `config` asks, unless there is one. It waits for somebody to come
    /// in as long as its empty timeout says.
    ///
    /// # Errors
    /// There is no place for it.
    pub async fn create(&self, name: &str, config: RoomConfiguration) -> Result<(), EnterError> {
        let name = name.to_owned();
        let config = Some(Box::new(config));
        let made = self.ask(|reply| Ask::Open {
            name,
            config,
            reply,
        });
        made.await.ok_or(EnterError::Draining)??;
        Ok(())
    }

    /// Lets nobody of this identity into the room until then.
    pub fn deny(&self, name: &str, identity: &str, until: Instant) {
        self.denied.deny(name, identity, until, &self.metrics);
    }

    /// Takes that back.
    pub fn allow(&self, name: &str, identity: &str) {
        self.denied.allow(name, identity);
    }

    /// Is somebody of this identity to be kept out of the room?
    #[must_use]
    pub fn denies(&self, name: &str, identity: &str) -> bool {
        self.denied.holds(name, identity)
    }

    /// Takes somebody out of the room, and all sessions beside his. Whoever is to stay out is denied
    /// before. It returns once the room will hear of it before it hears of anything later.
    pub async fn expel(&self, name: &str, identity: &str) {
        let name = name.to_owned();
        let found = self.ask(|reply| Ask::Find { name, reply }).await;
        let Some(Some(found)) = found else { return };
        let identity = identity.to_owned();
        let expel = Command::Admin(Admin::Expel { identity });
        // A room that is over has nobody in it.
        let _ = found.letters.send(Letter::Tell(Box::new(expel))).await;
    }

    /// The server is reached by `gone` no more. Whoever may have come by one of them, and is not
    /// connected to one of `still`, is told to resume. All rooms, and those to come, know from then on
    /// what is reachable.
    pub fn readdress(&self, gone: Vec<Gone>, still: Vec<IpAddr>, reachable: Reachable) {
        // One of this network leads nobody here whom a failure would have led elsewhere.
        if gone.iter().any(|one| !one.internal) {
            self.preferences.forget_late();
        }
        let admin = Admin::Readdress {
            gone,
            still,
            reachable,
        };
        // A directory that is gone has no rooms.
        if let Err(TrySendError::Full(ask)) = self.directory.try_send(Ask::TellAll { admin }) {
            let directory = self.directory.clone();
            tokio::spawn(async move {
                let _ = directory.send(ask).await;
            });
        }
    }

    /// Leads a session into the room `name`, which is made if it does not exist.
    ///
    /// # Errors
    /// There is no place for it.
    pub async fn enter(&self, name: &str, entry: Entry) -> Result<Attached, EnterError> {
        for _ in 0..ENTER_ATTEMPTS {
            let asked = name.to_owned();
            let found = self
                .ask(|reply| Ask::Open {
                    name: asked,
                    config: entry.room_config().map(Box::new),
                    reply,
                })
                .await
                .ok_or(EnterError::Draining)??;
            let (outbox, said) = mpsc::channel(SESSION_DEPTH);
            // From here on, whoever stops waiting is taken out of the room again.
            let attached = Attached {
                session: entry.session(),
                letters: found.letters,
                said,
                over: false,
            };
            let (verdict, judged) = oneshot::channel();
            let letter = Letter::Enter {
                entry: entry.clone(),
                outbox,
                verdict,
            };
            let sent = attached.letters.send(letter).await.is_ok();
            match judged.await {
                Ok(Verdict::Entered) if sent => return Ok(attached),
                Ok(Verdict::Full) => return Err(EnterError::Full),
                Ok(Verdict::Denied) => return Err(EnterError::Denied),
                _ => {}
            }
            let (name, id) = (name.to_owned(), found.id);
            // A directory that is gone is noticed by the next question.
            let _ = self.directory.send(Ask::Retire { name, id }).await;
        }
        Err(EnterError::Closed)
    }

    /// Who is in which room, and how. A room that is over, or too busy to say it in time, is left out.
    pub async fn report(&self) -> Vec<RoomReport> {
        let found = self.ask(|reply| Ask::FindAll { reply }).await;
        let mut reports = Vec::new();
        for room in found.unwrap_or_default() {
            let (reply, told) = oneshot::channel();
            let ask = async {
                room.letters.send(Letter::Report(reply)).await.ok()?;
                told.await.ok()
            };
            reports.extend(timeout(REPORT_WITHIN, ask).await.ok().flatten());
        }
        reports.sort_by(|a: &RoomReport, b| a.name.cmp(&b.name));
        reports
    }

    /// Tells every room that the server goes down and returns when all are over. No room is made
    /// any more. The caller sets the deadline.
    pub async fn shut_down(&self) {
        let _ = self.ask(|reply| Ask::ShutDown { reply }).await;
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.directory.send(question(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// A session's end of the line to its room. Dropping it tells the room that the session is lost.
pub struct Attached {
    session: SessionId,
    letters: mpsc::Sender<Letter>,
    said: mpsc::Receiver<Said>,
    /// The room let go of the session first.
    over: bool,
}

impl Attached {
    /// What the room says next; `None` once it has let go of the session.
    pub async fn next(&mut self) -> Option<Said> {
        let said = self.said.recv().await;
        self.over |= said.is_none();
        said
    }

    /// Passes a request on, waiting while the room is busy: the client waits too. A room that is
    /// over hears nothing; [`Attached::next`] then says so.
    pub async fn request(&self, request: signal_request::Message) {
        let command = Command::Request {
            session: self.session,
            request,
        };
        let _ = self.letters.send(Letter::Tell(Box::new(command))).await;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let lost = Letter::Tell(Box::new(Command::SessionLost {
            session: self.session,
        }));
        let letters = self.letters.clone();
        // The room may be busy, and a drop cannot wait.
        if let Err(TrySendError::Full(lost)) = letters.try_send(lost)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = letters.send(lost).await;
            });
        }
    }
}

#[cfg(test)]
mod tests;
