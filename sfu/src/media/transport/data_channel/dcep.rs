//! Messages of the data channel establishment protocol. (RFC 8832 §5)
//!
//! Reads and writes bytes, decides nothing. Used by `data_channel`.

use super::super::sctp::{Delivery, Persistence};
use crate::media::message::Channel;
use bytes::Bytes;

/// DATA_CHANNEL_ACK.
pub const ACK: &[u8] = &[0x02];
const OPEN: u8 = 0x03;
const UNORDERED: u8 = 0x80;
/// Longest label and longest protocol taken; those of LiveKit have twelve bytes at most.
const NAME_MAX: usize = 256;
/// Bytes before the label.
const HEADER: usize = 12;

/// A message from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// It opens a channel.
    Open {
        /// What its label means.
        channel: Channel,
        /// How messages are to be sent, in both directions.
        delivery: Delivery,
    },
    /// It knows of ours.
    Ack,
}

impl Control {
    /// Reads a message; `None` for any other bytes.
    pub fn parse(message: &[u8]) -> Option<Self> {
        // Pion pads it to four bytes.
        if message.starts_with(ACK) {
            return Some(Self::Ack);
        }
        let (header, names) = message.split_first_chunk::<HEADER>()?;
        let [
            OPEN,
            kind,
            _,
            _,
            value @ ..,
            label_a,
            label_b,
            protocol_a,
            protocol_b,
        ] = *header
        else {
            return None;
        };
        let label_len = usize::from(u16::from_be_bytes([label_a, label_b]));
        let protocol_len = usize::from(u16::from_be_bytes([protocol_a, protocol_b]));
        if label_len > NAME_MAX || protocol_len > NAME_MAX {
            return None;
        }
        let label = names.get(..label_len)?;
        names.get(label_len..label_len + protocol_len)?;
        let value = u32::from_be_bytes(value);
        let persistence = match kind & !UNORDERED {
            0 => Persistence::Reliable,
            1 => Persistence::Retransmits(value),
            2 => Persistence::Lifetime(value),
            _ => return None,
        };
        Some(Self::Open {
            channel: channel(label),
            delivery: Delivery {
                ordered: kind & UNORDERED == 0,
                persistence,
            },
        })
    }
}

/// What a label means. (LK: signalling §6.9)
fn channel(label: &[u8]) -> Channel {
    match label {
        b"_reliable" => Channel::Reliable,
        b"_lossy" => Channel::Lossy,
        b"_data_track" => Channel::DataTrack,
        _ => Channel::Other,
    }
}

const fn label(channel: Channel) -> &'static str {
    match channel {
        Channel::Reliable => "_reliable",
        Channel::Lossy => "_lossy",
        Channel::DataTrack => "_data_track",
        Channel::Other => "",
    }
}

/// The message that opens a channel of ours.
pub fn open(channel: Channel, delivery: Delivery) -> Bytes {
    let (kind, value) = match delivery.persistence {
        Persistence::Reliable => (0, 0),
        Persistence::Retransmits(times) => (1, times),
        Persistence::Lifetime(ms) => (2, ms),
    };
    let kind = if delivery.ordered {
        kind
    } else {
        kind | UNORDERED
    };
    let label = label(channel);
    let mut message = vec![OPEN, kind, 0, 0];
    message.extend_from_slice(&value.to_be_bytes());
    message.extend_from_slice(&(label.len() as u16).to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(label.as_bytes());
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_chromium_sends_for_its_lossy_channel_is_read() {
        let mut message = vec![0x03, 0x81, 0x01, 0x00, 0, 0, 0, 0, 0, 6, 0, 0];
        message.extend_from_slice(b"_lossy");
        let open = Control::Open {
            channel: Channel::Lossy,
            delivery: Delivery {
                ordered: false,
                persistence: Persistence::Retransmits(0),
            },
        };
        assert_eq!(Control::parse(&message), Some(open));
    }

    #[test]
    fn an_acknowledgement_may_be_padded_as_pion_does() {
        assert_eq!(Control::parse(&[2]), Some(Control::Ack));
        assert_eq!(Control::parse(&[2, 0, 0, 0]), Some(Control::Ack));
    }

    #[test]
    fn what_is_written_reads_back() {
        for channel in [Channel::Reliable, Channel::Lossy, Channel::DataTrack] {
            for persistence in [
                Persistence::Reliable,
                Persistence::Retransmits(3),
                Persistence::Lifetime(250),
            ] {
                let delivery = Delivery {
                    ordered: channel == Channel::Reliable,
                    persistence,
                };
                let read = Control::parse(&open(channel, delivery));
                assert_eq!(read, Some(Control::Open { channel, delivery }));
            }
        }
    }

    #[test]
    fn a_label_longer_than_the_limit_or_the_message_is_refused() {
        let with = |claimed: u16, sent: usize| {
            let mut message = vec![0x03, 0, 0, 0, 0, 0, 0, 0];
            message.extend_from_slice(&claimed.to_be_bytes());
            message.extend_from_slice(&[0, 0]);
            message.resize(message.len() + sent, b'x');
            Control::parse(&message)
        };
        assert!(with(256, 256).is_some());
        assert_eq!(with(257, 257), None);
        assert_eq!(with(8, 7), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Control::parse(&bytes);
        }
    }
}
