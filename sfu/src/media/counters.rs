//! What one worker counts. Plain numbers that only grow; the shell copies them out for metrics.

use serde::{Deserialize, Serialize};

/// Totals of one worker since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Media and feedback, by direction.
    pub traffic: Traffic,
    /// Feedback messages, by direction.
    pub feedback: Feedback,
    /// Data messages, by direction.
    pub data: Data,
    /// Datagrams and packets thrown away, by reason.
    pub dropped: Dropped,
    /// Questions to clients at which address they see us.
    pub questions: Questions,
}

/// Packets and bytes, headers included, IP and UDP not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Datagrams received, whatever they held.
    pub datagrams_in: u64,
    /// RTP packets received for the first time.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// RTP packets received as a retransmission.
    pub retransmitted_in: u64,
    /// RTP packets sent for the first time.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// RTP packets sent again.
    pub retransmitted_out: u64,
    /// Their bytes.
    pub retransmitted_bytes_out: u64,
    /// Clients found again by their keys, at an address that had passed no check.
    pub strays_found: u64,
}

/// Feedback messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// NACKed packets subscribers asked for.
    pub nacks_in: u64,
    /// NACKed packets asked of publishers.
    pub nacks_out: u64,
    /// Key-frame requests (PLI) from subscribers.
    pub plis_in: u64,
    /// Key-frame requests to publishers.
    pub plis_out: u64,
    /// FIR from subscribers.
    pub firs_in: u64,
    /// Transport-wide feedback packets to publishers.
    pub twcc_out: u64,
}

/// Data messages of all channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Messages read from clients.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Messages queued for clients, each receiver counted.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

/// Questions to clients at which address they see us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// Sent.
    pub asked: u64,
    /// Answered with an address.
    pub answered: u64,
    /// Answered with an error: not asked again.
    pub refused: u64,
    /// Answers, and silences, nobody took: too many waited.
    pub lost: u64,
}

/// Media that reached its stream and was of no use there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Useless {
    /// Of a payload type that was not negotiated.
    pub payload_type: u64,
    /// Its codec's header cannot be.
    pub malformed: u64,
    /// Come before, by the stream itself or by that of its retransmissions.
    pub repeated: u64,
    /// Too late to be put in its place, or of a number that was taken for an empty one.
    pub late: u64,
    /// While the track was muted.
    pub muted: u64,
    /// No room for it.
    pub limit: u64,
}

/// Reasons for throwing something away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Neither STUN, DTLS nor RTP.
    pub not_ours: u64,
    /// STUN for no ufrag of ours, malformed, or with a wrong password.
    pub stun: u64,
    /// From an address that never passed a check, and opened by nobody's keys.
    pub unknown_address: u64,
    /// Media before the DTLS handshake was done.
    pub not_ready: u64,
    /// DTLS records the handshake refused.
    pub dtls: u64,
    /// SRTP or SRTCP with a wrong tag.
    pub srtp_auth: u64,
    /// SRTP or SRTCP seen before.
    pub srtp_replay: u64,
    /// Authenticated, yet no RTP.
    pub rtp: u64,
    /// Authenticated, yet no RTCP.
    pub rtcp: u64,
    /// RTP of a stream nobody announced.
    pub unknown_stream: u64,
    /// Media that reached its stream and was of no use there.
    pub media: Useless,
    /// Media and feedback for a connection that has lost its path and has no other yet.
    pub no_path: u64,
    /// Data messages a receiver had no channel or no place for.
    pub data_late: u64,
    /// Data messages and channels beyond what a client may open or send.
    pub data_refused: u64,
    /// Over a named limit.
    pub limit: u64,
}

impl std::ops::AddAssign for Useless {
    fn add_assign(&mut self, other: Self) {
        self.payload_type += other.payload_type;
        self.malformed += other.malformed;
        self.repeated += other.repeated;
        self.late += other.late;
        self.muted += other.muted;
        self.limit += other.limit;
    }
}
