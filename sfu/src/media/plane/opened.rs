//! A datagram opened in place: whose it is, and what lies in it, before anything is made of it.
//!
//! Between opening and taking stands whoever keeps a record of what came in. Called by the plane
//! for every datagram.

use super::Plane;
use crate::config::codecs::Codec;
use crate::media::demux::{Kind, Path, Sender, classify};
use crate::media::transport::Handshake;
use crate::media::transport::srtp::{self, Refused};
use crate::rtp::header::Header;
use crate::units::ExtSeq;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a datagram is, once opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// STUN, as it came.
    Check,
    /// DTLS, as it came.
    Handshake,
    /// Media.
    Media(Media),
    /// Feedback and reports.
    Control {
        /// Index of the peer.
        index: u32,
        /// Who sent it.
        from: Sender,
        /// Bytes in the clear.
        len: usize,
    },
    /// Nothing yet: it comes again by [`Plane::poll_waiting`].
    Waiting,
    /// Nothing to take.
    Refused(Reason),
}

impl Opened {
    /// Whose keys opened it.
    #[must_use]
    pub const fn from(&self) -> Option<Sender> {
        match self {
            Self::Media(Media { from, .. }) | Self::Control { from, .. } => Some(*from),
            Self::Check | Self::Handshake | Self::Waiting | Self::Refused(_) => None,
        }
    }
}

/// Opens a datagram with the keys of a connection.
pub(super) type Open = fn(&mut Plane, (u32, Sender), &mut [u8]) -> Result<Opened, Reason>;

/// A packet of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media {
    /// Index of the peer.
    pub(super) index: u32,
    /// Who sent it.
    pub from: Sender,
    /// Its header.
    pub header: Header,
    /// Its SRTP index.
    pub seq: ExtSeq,
    /// Bytes in the clear, header included.
    pub len: usize,
}

/// Why a datagram is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing we speak.
    Foreign,
    /// From an address that never passed a check, and of nobody who may have moved.
    Unknown,
    /// No RTP.
    Malformed,
    /// Before the handshake was done.
    NotReady,
    /// A wrong tag.
    Forged,
    /// Seen before.
    Repeated,
    /// Of a stream too many.
    Limit,
}

impl Plane {
    /// Opens one datagram in place, and changes nothing but what keeps packets from being opened twice,
    /// where those are known who have moved, and what waits because its sender may have.
    pub fn open(&mut self, path: &Path, datagram: &mut [u8], now: Instant) -> Opened {
        self.strays.begin();
        // An answer to port 0 cannot be sent, and trying makes the socket give up sending many at once.
        if path.remote.port() == 0 {
            return Opened::Refused(Reason::Foreign);
        }
        let open: Open = match classify(datagram) {
            Kind::Stun => return Opened::Check,
            Kind::Dtls => return Opened::Handshake,
            Kind::Rtp => Self::open_rtp,
            Kind::Rtcp => Self::open_rtcp,
            Kind::Other => return Opened::Refused(Reason::Foreign),
        };
        let opened = match self.sender_of(path) {
            Some(from) if self.may_be_a_stray(from, now) => {
                self.open_either(from, (path, now), datagram, open)
            }
            Some(from) => open(self, from, datagram),
            None => self.open_stray(path, datagram, now, open),
        };
        opened.unwrap_or_else(Opened::Refused)
    }

    /// Takes what [`Self::open`] has opened; `datagram` is as it left it.
    pub fn take(&mut self, opened: &Opened, path: Path, datagram: &[u8], now: Instant) {
        // What comes again is counted then.
        self.counters.traffic.datagrams_in += u64::from(*opened != Opened::Waiting);
        match opened {
            Opened::Check => self.handle_stun(path, datagram, now),
            Opened::Handshake => self.handle_dtls(path, datagram, now),
            Opened::Media(media) => {
                let packet = datagram.get(..media.len).unwrap_or_default();
                self.handle_rtp(media, path, packet, now);
            }
            Opened::Control { index, from, len } => {
                let compound = datagram.get(..*len).unwrap_or_default();
                self.handle_rtcp((*index, *from), path, compound, now);
            }
            Opened::Waiting => {}
            Opened::Refused(reason) => self.count_refused(*reason),
        }
    }

    /// Opens what comes by an address whose owner has been silent: his, or of whom a NAT has given it
    /// to.
    fn open_either(
        &mut self,
        from: (u32, Sender),
        (path, now): (&Path, Instant),
        datagram: &mut [u8],
        open: Open,
    ) -> Result<Opened, Reason> {
        let kept = self.strays.keep(datagram);
        let opened = open(self, from, datagram);
        let forged = opened == Err(Reason::Forged);
        if forged {
            datagram.copy_from_slice(&kept);
        }
        self.strays.give_back(kept);
        if !forged {
            return opened;
        }
        let stray = self.open_stray(path, datagram, now, open);
        stray.map_err(|_| Reason::Forged)
    }

    fn open_rtp(
        &mut self,
        (index, from): (u32, Sender),
        datagram: &mut [u8],
    ) -> Result<Opened, Reason> {
        let header = Header::parse(datagram).ok_or(Reason::Malformed)?;
        let opener = self.opener(index, from)?;
        let opened = opener.open_rtp(header.header_len, header.ssrc, header.sequence, datagram)?;
        Ok(Opened::Media(Media {
            index,
            from,
            header,
            seq: opened.seq,
            len: opened.len,
        }))
    }

    fn open_rtcp(
        &mut self,
        (index, from): (u32, Sender),
        datagram: &mut [u8],
    ) -> Result<Opened, Reason> {
        let len = self.opener(index, from)?.open_rtcp(datagram)?;
        Ok(Opened::Control { index, from, len })
    }

    /// The peer whose address this is, and which of its connections, learned from an authentic
    /// check.
    pub(super) fn sender_of(&self, path: &Path) -> Option<(u32, Sender)> {
        let sender = self.demux.by_path(path)?;
        Some((self.peers.index(sender.peer)?, sender))
    }

    /// The codec of a packet, as its payload type was negotiated, and whether it repeats another.
    #[must_use]
    pub fn format(&self, media: &Media) -> Option<(Codec, bool)> {
        let uplink = &self.peers.at(media.index)?.uplink;
        uplink.format(media.header.payload_type)
    }

    fn opener(&mut self, index: u32, from: Sender) -> Result<&mut srtp::Opener, Reason> {
        self.peers
            .connection_mut(index, from.side)
            .and_then(|connection| connection.transport.opener())
            .ok_or(Reason::NotReady)
    }

    /// Who sends by an address, and how far its handshake is.
    #[must_use]
    pub fn handshake(&mut self, path: &Path) -> Option<(Sender, Handshake)> {
        let (index, from) = self.sender_of(path)?;
        let connection = self.peers.connection_mut(index, from.side)?;
        Some((from, connection.transport.handshake()))
    }

    const fn count_refused(&mut self, reason: Reason) {
        let dropped = &mut self.counters.dropped;
        match reason {
            Reason::Foreign => dropped.not_ours += 1,
            Reason::Unknown => dropped.unknown_address += 1,
            Reason::Malformed => dropped.rtp += 1,
            Reason::NotReady => dropped.not_ready += 1,
            Reason::Forged => dropped.srtp_auth += 1,
            Reason::Repeated => dropped.srtp_replay += 1,
            Reason::Limit => dropped.limit += 1,
        }
    }
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Short | Refused::Auth => Self::Forged,
            Refused::Replay => Self::Repeated,
            Refused::TooManyStreams => Self::Limit,
        }
    }
}
