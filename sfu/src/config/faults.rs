//! The places at which the server can be made to fail on purpose, for tests of what becomes of calls.
//!
//! Owns their names and how often each fails. Decides nothing: `faults` in the shell does.

/// A place that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The kernel has no room for datagrams to send.
    UdpSendFull,
    /// Sending datagrams fails otherwise.
    UdpSendError,
    /// Fewer datagrams are read than there are.
    UdpShortRead,
    /// A media thread stands still.
    WorkerStall,
    /// A media thread's clock leaps.
    ClockJump,
    /// A media thread takes no command.
    MailboxFull,
    /// A room takes no event from a media thread.
    RoomEventsFull,
    /// A session takes no message from its room.
    SessionMessagesFull,
    /// A client does not read what it is sent.
    SignalOutboxFull,
    /// A signalling connection breaks.
    WebsocketBreak,
    /// A connection cannot be accepted.
    AcceptError,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::UdpSendFull,
        Self::UdpSendError,
        Self::UdpShortRead,
        Self::WorkerStall,
        Self::ClockJump,
        Self::MailboxFull,
        Self::RoomEventsFull,
        Self::SessionMessagesFull,
        Self::SignalOutboxFull,
        Self::WebsocketBreak,
        Self::AcceptError,
    ];

    /// Its name in configuration and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UdpSendFull => "udp_send_full",
            Self::UdpSendError => "udp_send_error",
            Self::UdpShortRead => "udp_short_read",
            Self::WorkerStall => "worker_stall",
            Self::ClockJump => "clock_jump",
            Self::MailboxFull => "mailbox_full",
            Self::RoomEventsFull => "room_events_full",
            Self::SessionMessagesFull => "session_messages_full",
            Self::SignalOutboxFull => "signal_outbox_full",
            Self::WebsocketBreak => "websocket_break",
            Self::AcceptError => "accept_error",
        }
    }

    /// The point of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.name() == name)
    }

    /// It fails once in so many times on average: often enough to be met within a minute of a small
    /// call, seldom enough that the call gets on in between.
    #[must_use]
    pub const fn one_in(self) -> u64 {
        match self {
            Self::UdpSendFull => 100,
            Self::UdpSendError => 200,
            Self::UdpShortRead => 10,
            Self::WorkerStall => 2000,
            Self::ClockJump => 4000,
            Self::MailboxFull => 100,
            Self::RoomEventsFull => 150,
            Self::SessionMessagesFull => 150,
            Self::SignalOutboxFull => 150,
            Self::WebsocketBreak => 60,
            Self::AcceptError => 5,
        }
    }
}

/// What is to fail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// All chance comes from it; 0 and nothing fails.
    pub seed: u64,
    /// These points fail.
    pub points: Vec<Point>,
}
