//! Data packets: what a sender wrote, restamped with what the server knows. (LK: signalling §8)
//!
//! Packets are patched, not written anew: what this version of the protocol does not know passes as
//! it came. Any bytes are either a packet or an error. Decides nothing. Called by the room.

mod fields;

use fields::{Field, fields, put_bytes, put_varint};
use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::{DataPacket, MetricSample, MetricsBatch, UserPacket};
use prost::Message;

#[cfg(test)]
mod tests;

/// The bytes are no data packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no data packet")]
pub struct NoPacket;

/// Fields of a DataPacket.
mod packet {
    pub(super) const KIND: u32 = 1;
    pub(super) const USER: u32 = 2;
    pub(super) const PARTICIPANT_IDENTITY: u32 = 4;
    pub(super) const DESTINATION_IDENTITIES: u32 = 5;
    pub(super) const PARTICIPANT_SID: u32 = 17;
}

/// Fields of a UserPacket.
mod user {
    pub(super) const PARTICIPANT_SID: u32 = 1;
    pub(super) const PARTICIPANT_IDENTITY: u32 = 5;
    pub(super) const DESTINATION_IDENTITIES: u32 = 6;
}

/// What the server says of a packet's origin.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The channel it came on.
    pub kind: Kind,
    /// The sender's sid.
    pub sid: &'a str,
    /// The sender's identity, empty if it is hidden. `None` leaves the sender's own word.
    pub identity: Option<&'a str>,
    /// The sender's sid as its user packets tell it, empty if it is hidden.
    pub user_sid: &'a str,
}

/// Reads a packet.
///
/// # Errors
/// [`NoPacket`].
pub fn read(bytes: &[u8]) -> Result<DataPacket, NoPacket> {
    DataPacket::decode(bytes).map_err(|_| NoPacket)
}

/// Writes a packet.
#[must_use]
pub fn write(packet: &DataPacket) -> Vec<u8> {
    packet.encode_to_vec()
}

/// A packet that carries what came on a channel of the application's own. (LK: signalling §6.9)
#[must_use]
pub fn wrap(frame: &[u8], identity: &str) -> Vec<u8> {
    write(&DataPacket {
        participant_identity: identity.to_owned(),
        value: Some(Value::User(UserPacket {
            payload: frame.to_vec(),
            ..UserPacket::default()
        })),
        ..DataPacket::default()
    })
}

/// The packet `bytes` with another stamp, all else as it is. `destinations` are those of the packet
/// as a whole; a user packet repeats them.
///
/// # Errors
/// [`NoPacket`].
pub fn stamp(
    bytes: &[u8],
    stamp: &Stamp<'_>,
    destinations: &[String],
) -> Result<Vec<u8>, NoPacket> {
    let mut out = Vec::with_capacity(bytes.len() + 128);
    let mut stamped = false;
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            // Each would be given all the destinations: a small packet of many would grow to
            // hundreds of megabytes. Nobody writes a second one.
            packet::USER if std::mem::replace(&mut stamped, true) => return Err(NoPacket),
            packet::KIND | packet::PARTICIPANT_SID | packet::DESTINATION_IDENTITIES => {}
            packet::PARTICIPANT_IDENTITY if stamp.identity.is_some() => {}
            packet::USER => {
                let user = stamp_user(&field, stamp, destinations)?;
                put_bytes(&mut out, packet::USER, &user);
            }
            _ => out.extend_from_slice(field.whole),
        }
    }
    if stamp.kind != Kind::Reliable {
        put_varint(&mut out, packet::KIND, stamp.kind as u64);
    }
    if let Some(identity) = stamp.identity {
        put_bytes(&mut out, packet::PARTICIPANT_IDENTITY, identity.as_bytes());
    }
    for identity in destinations {
        put_bytes(
            &mut out,
            packet::DESTINATION_IDENTITIES,
            identity.as_bytes(),
        );
    }
    put_bytes(&mut out, packet::PARTICIPANT_SID, stamp.sid.as_bytes());
    Ok(out)
}

fn stamp_user(
    field: &Field<'_>,
    stamp: &Stamp<'_>,
    destinations: &[String],
) -> Result<Vec<u8>, NoPacket> {
    let inner = field.bytes.ok_or(NoPacket)?;
    let mut out = Vec::with_capacity(inner.len() + 64);
    for field in fields(inner) {
        let field = field?;
        match field.number {
            user::PARTICIPANT_SID | user::PARTICIPANT_IDENTITY | user::DESTINATION_IDENTITIES => {}
            _ => out.extend_from_slice(field.whole),
        }
    }
    put_bytes(&mut out, user::PARTICIPANT_SID, stamp.user_sid.as_bytes());
    let identity = stamp.identity.unwrap_or_default();
    put_bytes(&mut out, user::PARTICIPANT_IDENTITY, identity.as_bytes());
    for identity in destinations {
        put_bytes(&mut out, user::DESTINATION_IDENTITIES, identity.as_bytes());
    }
    Ok(out)
}

/// Tells the times of metrics by the server's clock, `unix_ms` at their arrival; a client's own
/// clock begins anywhere. (LK: signalling §8.2)
pub fn normalize(batch: &mut MetricsBatch, unix_ms: u64) {
    let offset = i64::try_from(unix_ms)
        .unwrap_or(i64::MAX)
        .saturating_sub(batch.timestamp_ms);
    let at = |ms: i64| {
        let ms = ms.saturating_add(offset);
        let mut time = MetricSample::default()
            .normalized_timestamp
            .unwrap_or_default();
        time.seconds = ms.div_euclid(1000);
        time.nanos = (ms.rem_euclid(1000) * 1_000_000) as i32;
        Some(time)
    };
    batch.normalized_timestamp = at(batch.timestamp_ms);
    let samples = batch.time_series.iter_mut();
    for sample in samples.flat_map(|series| &mut series.samples) {
        sample.normalized_timestamp = at(sample.timestamp_ms);
    }
    for event in &mut batch.events {
        event.normalized_start_timestamp = at(event.start_timestamp_ms);
        event.normalized_end_timestamp = event.end_timestamp_ms.and_then(at);
    }
}
