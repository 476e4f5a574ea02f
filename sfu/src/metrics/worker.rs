//! What a media thread counts. One thread writes, a scrape reads; no lock, no allocation.

use crate::media::transport::framing::End;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number only one thread writes. Readers may see it a moment late.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call it: a plain addition is cheaper than an atomic one.
    pub fn add(&self, n: u64) {
        self.set(self.value().wrapping_add(n));
    }

    /// Replaces the number by a total counted elsewhere.
    pub fn set(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Media packets of one direction.
#[derive(Debug, Default)]
pub struct Traffic {
    /// RTP packets but for retransmissions.
    pub packets: Counter,
    /// Their bytes.
    pub bytes: Counter,
    /// Retransmissions.
    pub repeated_packets: Counter,
    /// Their bytes.
    pub repeated_bytes: Counter,
}

/// Data messages of one direction.
#[derive(Debug, Default)]
pub struct Messages {
    /// Messages; on their way out once for each receiver.
    pub messages: Counter,
    /// Their bytes.
    pub bytes: Counter,
}

/// RTCP feedback of one direction.
#[derive(Debug, Default)]
pub struct Feedback {
    /// Packets asked for again (RFC 4585 §6.2.1).
    pub nacks: Counter,
    /// Picture loss indications.
    pub plis: Counter,
    /// Full intra requests.
    pub firs: Counter,
}

/// How much there is on the thread now.
#[derive(Debug, Default)]
pub struct Population {
    /// Peers.
    pub peers: Counter,
    /// Received streams.
    pub upstreams: Counter,
    /// Copies of them to subscribers.
    pub downstreams: Counter,
}

/// Media connections (ICE-TCP).
#[derive(Debug, Default)]
pub struct Connections {
    /// Open now.
    pub open: Counter,
    /// Taken over so far.
    pub opened: Counter,
    /// Ended so far, by [`End`].
    pub ended: [Counter; End::ALL.len()],
    /// System calls that sent.
    pub sends: Counter,
    /// Datagrams these sent.
    pub datagrams: Counter,
}

/// Why a datagram was not used or not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Neither STUN, DTLS nor RTP.
    NotOurs,
    /// STUN that is malformed, for nobody here, or does not authenticate.
    BadStun,
    /// Not STUN, from an address no peer has.
    UnknownAddress,
    /// Media before its keys are known.
    NotReady,
    /// SRTP or SRTCP that does not authenticate.
    SrtpAuth,
    /// SRTP or SRTCP seen before.
    SrtpReplay,
    /// Malformed RTP.
    BadRtp,
    /// Malformed RTCP.
    BadRtcp,
    /// An SSRC that no track has.
    UnknownSsrc,
    /// Media of a payload type that was not negotiated.
    PayloadType,
    /// Media that had come before, by its stream or by that of its retransmissions.
    Repeated,
    /// Media that came too late to be put in its place.
    Late,
    /// Media of a track that is muted.
    Muted,
    /// A DTLS record that broke the handshake.
    DtlsError,
    /// More work than the thread could do.
    Overload,
    /// The socket's send buffer was full.
    SendWouldBlock,
    /// Larger than the path takes.
    SendTooLarge,
    /// Refused by the firewall.
    SendRefused,
    /// Sending failed otherwise.
    SendOther,
    /// Media that waited too long for a TCP connection.
    SendLate,
    /// The TCP connection is gone.
    SendClosed,
    /// TURN in this process had no place for it.
    SendRelay,
    /// Its connection has lost its path and has no other yet.
    SendNoPath,
    /// A data message whose receiver had no channel or no place for it.
    DataLate,
    /// A data message or channel beyond what a client may send or open.
    DataRefused,
}

impl DropReason {
    /// Every reason; a reason's place is its index in [`Counters::dropped`].
    pub const ALL: [Self; 25] = [
        Self::NotOurs,
        Self::BadStun,
        Self::UnknownAddress,
        Self::NotReady,
        Self::SrtpAuth,
        Self::SrtpReplay,
        Self::BadRtp,
        Self::BadRtcp,
        Self::UnknownSsrc,
        Self::PayloadType,
        Self::Repeated,
        Self::Late,
        Self::Muted,
        Self::DtlsError,
        Self::Overload,
        Self::SendWouldBlock,
        Self::SendTooLarge,
        Self::SendRefused,
        Self::SendOther,
        Self::SendLate,
        Self::SendClosed,
        Self::SendRelay,
        Self::SendNoPath,
        Self::DataLate,
        Self::DataRefused,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotOurs => "not_ours",
            Self::BadStun => "bad_stun",
            Self::UnknownAddress => "unknown_address",
            Self::NotReady => "not_ready",
            Self::SrtpAuth => "srtp_auth",
            Self::SrtpReplay => "srtp_replay",
            Self::BadRtp => "bad_rtp",
            Self::BadRtcp => "bad_rtcp",
            Self::UnknownSsrc => "unknown_ssrc",
            Self::PayloadType => "payload_type",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::Muted => "muted",
            Self::DtlsError => "dtls_error",
            Self::Overload => "overload",
            Self::SendWouldBlock => "send_would_block",
            Self::SendTooLarge => "send_too_large",
            Self::SendRefused => "send_refused",
            Self::SendOther => "send_other",
            Self::SendLate => "send_late",
            Self::SendClosed => "send_closed",
            Self::SendRelay => "send_relay",
            Self::SendNoPath => "send_no_path",
            Self::DataLate => "data_late",
            Self::DataRefused => "data_refused",
        }
    }
}

/// Everything one media thread counts, apart from other threads' cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// From publishers.
    pub received: Traffic,
    /// To subscribers.
    pub sent: Traffic,
    /// From clients.
    pub feedback_in: Feedback,
    /// To clients.
    pub feedback_out: Feedback,
    /// Data messages from clients.
    pub data_in: Messages,
    /// Data messages to clients.
    pub data_out: Messages,
    /// By reason, see [`Counters::drops`].
    pub dropped: [Counter; DropReason::ALL.len()],
    /// Now on the thread.
    pub population: Population,
    /// System calls that sent.
    pub udp_sends: Counter,
    /// Datagrams these sent: more than calls where the kernel segments (GSO).
    pub gso_segments: Counter,
    /// Media over TCP.
    pub tcp: Connections,
    /// Clients found again by their keys, at an address that had passed no check.
    pub strays_found: Counter,
    /// Questions to clients at which address they see us.
    pub questions: Questions,
    /// Time not spent waiting.
    pub busy_ns: Counter,
}

/// Questions to clients at which address they see us.
#[derive(Debug, Default)]
pub struct Questions {
    /// Sent.
    pub asked: Counter,
    /// Answered with an address.
    pub answered: Counter,
    /// Answered with an error.
    pub refused: Counter,
    /// Answers nobody took: too many waited.
    pub lost: Counter,
}

impl Questions {
    /// Each with the value of its label `result`.
    #[must_use]
    pub fn by_result(&self) -> [(&'static str, u64); 4] {
        [
            ("asked", self.asked.value()),
            ("answered", self.answered.value()),
            ("refused", self.refused.value()),
            ("lost", self.lost.value()),
        ]
    }
}

impl Counters {
    /// The counter of one reason.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> &Counter {
        &self.dropped[reason as usize]
    }
}

/// A media thread's counters; cheap to clone, written by that thread alone.
#[derive(Debug, Clone, Default)]
pub struct WorkerMetrics(Arc<Counters>);

impl std::ops::Deref for WorkerMetrics {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.0
    }
}
