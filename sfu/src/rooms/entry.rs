//! What passes between a session and a room's task besides commands.

use crate::ids::SessionId;
use crate::room::command::{Command, Join, Resume};
use crate::room::effect::JoinRefusal;
use proto::livekit::{RoomConfiguration, signal_response};

/// How a session enters a room.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Afresh.
    Join(Box<Join>),
    /// Where an earlier one was lost.
    Resume(Box<Resume>),
}

impl Entry {
    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Join(join) => join.session,
            Self::Resume(resume) => resume.session,
        }
    }

    /// Who enters.
    #[must_use]
    pub fn identity(&self) -> &str {
        match self {
            Self::Join(join) => &join.claims.identity,
            Self::Resume(resume) => &resume.identity,
        }
    }

    /// What the token asks of the room, should this join create it.
    #[must_use]
    pub fn room_config(&self) -> Option<RoomConfiguration> {
        match self {
            Self::Join(join) => join.claims.room_config.clone(),
            Self::Resume(_) => None,
        }
    }
}

impl From<Entry> for Command {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Join(join) => Self::Join(join),
            Entry::Resume(resume) => Self::Resume(resume),
        }
    }
}

/// What a room says to a session.
#[derive(Debug)]
pub enum Said {
    /// A message for the client.
    Message(Box<signal_response::Message>),
    /// There will be no join.
    Refused(JoinRefusal),
}

/// Why a session cannot enter a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// As many rooms, or sessions in one, as the process takes.
    #[error("node has exceeded its configured limit")]
    Full,
    /// The process is going down.
    #[error("server is shutting down")]
    Draining,
    /// He was taken out, and is to stay out.
    #[error("permissions denied")]
    Denied,
    /// Every attempt met a room that was closing.
    #[error("connection closed by media")]
    Closed,
}
