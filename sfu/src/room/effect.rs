//! What a room makes happen: plain data, applied by the shell in the order given.

use super::preference::Preference;
use crate::ids::{ParticipantSid, SessionId};
use crate::media::message;
use proto::livekit;
use proto::token::Claims;
use std::time::Instant;

/// One thing the room wants done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Says something to a participant.
    Signal {
        /// The connection.
        session: SessionId,
        /// The message.
        message: Box<livekit::signal_response::Message>,
    },
    /// Gives a participant a renewed token with these claims (the shell signs it).
    RefreshToken {
        /// The connection.
        session: SessionId,
        /// What the token says.
        claims: Box<Claims>,
    },
    /// Flushes and closes a signalling connection.
    CloseSession {
        /// The connection.
        session: SessionId,
    },
    /// A join was refused before a join response was sent: the connection is answered with this.
    RefuseJoin {
        /// The connection.
        session: SessionId,
        /// Why.
        reason: JoinRefusal,
    },
    /// Tells media.
    Media(message::Command),
    /// Remembers, for the next stay of whoever has this identity, by what his media is to come.
    Prefer {
        /// Who.
        identity: String,
        /// By what.
        preference: Preference,
    },
    /// Calls the room with [`super::command::Command::Wake`] at this time, once; replaces the
    /// last such wish.
    WakeAt(Instant),
    /// Something an operator's counters want to know.
    Count(Count),
    /// The room is over; nothing follows. The shell forgets it.
    Closed,
}

/// Why a join was refused inside the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinRefusal {
    /// `max_participants` reached.
    RoomFull,
    /// Name, metadata or attributes of the token are too large.
    LimitExceeded,
    /// The room is closing.
    Closing,
}

/// Facts for metrics; the shell turns them into LiveKit's series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Count {
    /// A participant was registered.
    ParticipantJoined,
    /// A participant became ACTIVE, this long after its join.
    ParticipantActive {
        /// Join to ACTIVE, in ms.
        after_ms: u64,
    },
    /// A participant went.
    ParticipantLeft {
        /// Who, for the shell's tables.
        sid: ParticipantSid,
        /// Why.
        reason: livekit::DisconnectReason,
        /// Join to leave, in ms.
        after_ms: u64,
    },
    /// AddTrack was accepted.
    PublishAttempt(crate::ids::MediaKind),
    /// First media of a track.
    PublishSuccess(crate::ids::MediaKind),
    /// A track is gone.
    Unpublished(crate::ids::MediaKind),
    /// A subscription was asked for.
    SubscribeAttempt(crate::ids::MediaKind),
    /// A subscription was bound.
    SubscribeSuccess(crate::ids::MediaKind),
    /// A subscription failed.
    SubscribeFailure(crate::ids::MediaKind),
    /// A bound subscription ended.
    Unsubscribed(crate::ids::MediaKind),
    /// A limit of one participant was reached and something was refused or not stored.
    LimitReached(Limit),
    /// A participant's media failed, or did not come, and he is led to this.
    Led(Preference),
    /// A data packet came.
    Data(DataFate),
    /// A participant's quality was rated: 0 POOR, 1 GOOD, 2 EXCELLENT, 3 LOST.
    Quality {
        /// LiveKit's enum value.
        rating: i32,
    },
}

/// What becomes of a data packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFate {
    /// It goes to all it is for, which may be nobody.
    Forwarded,
    /// Its sender may not send it.
    NotAllowed,
    /// No packet.
    Unreadable,
    /// It came before.
    Repeated,
    /// With what we add it is larger than a channel takes.
    TooLarge,
}

/// Limits whose biting an operator wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Tracks announced, published or queued, or the size of an announcement.
    Tracks,
    /// Tracks wished for.
    Subscriptions,
}
