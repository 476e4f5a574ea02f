//! The fields of a protobuf message, one after the other, without a schema.

use super::NoPacket;

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its number.
    pub(super) number: u32,
    /// Tag and value as they stand.
    pub(super) whole: &'a [u8],
    /// What a length-delimited field holds.
    pub(super) bytes: Option<&'a [u8]>,
}

/// Walks over the fields of a message; ends after the first error.
pub(super) fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<Field<'_>, NoPacket>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = take(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field.ok_or(NoPacket))
    })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let start = *rest;
    let tag = take_varint(rest)?;
    let number = u32::try_from(tag >> 3).ok().filter(|&number| number > 0)?;
    let mut bytes = None;
    match tag & 7 {
        0 => {
            take_varint(rest)?;
        }
        1 => *rest = rest.get(8..)?,
        2 => {
            let len = usize::try_from(take_varint(rest)?).ok()?;
            bytes = Some(rest.get(..len)?);
            *rest = rest.get(len..)?;
        }
        5 => *rest = rest.get(4..)?,
        // Groups have been out of use for longer than LiveKit exists.
        _ => return None,
    }
    Some(Field {
        number,
        whole: start.get(..start.len() - rest.len())?,
        bytes,
    })
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number.
pub(super) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    push_varint(out, u64::from(number) << 3);
    push_varint(out, value);
}

/// Appends bytes or text. Nothing for none: it is what a reader takes for granted.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    if bytes.is_empty() && number != super::packet::USER {
        return;
    }
    push_varint(out, u64::from(number) << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
