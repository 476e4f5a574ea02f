//! The answer to a binding request: who we are as its sender sees us.
//!
//! Read for checks of our own and for what STUN servers say. A signature is looked at by whoever has a key.

use super::{
    BINDING_ERROR, BINDING_SUCCESS, DIGEST, Key, Malformed, Transaction, attribute, header,
    verified,
};
use crate::media::demux::{STUN_COOKIE, StunAttributes};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A well-formed answer; nobody has been authenticated.
#[derive(Clone)]
pub struct Response<'a> {
    /// The question's.
    pub transaction: Transaction,
    /// ERROR-CODE, 300 to 699; `None` in an answer of success.
    pub error: Option<u16>,
    /// XOR-MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    message: &'a [u8],
    integrity: Option<(usize, [u8; DIGEST])>,
}

impl<'a> Response<'a> {
    /// Reads a datagram. Of several attributes of a type the first counts, and none behind
    /// MESSAGE-INTEGRITY. (RFC 8489 §6.3.3, §14)
    ///
    /// # Errors
    /// [`Malformed`] for what must be dropped.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, transaction) = header(datagram)?;
        let mut response = Self {
            transaction,
            error: None,
            mapped: None,
            message: datagram,
            integrity: None,
        };
        let mut attributes = StunAttributes::of(datagram);
        for (kind, offset, value) in attributes.by_ref() {
            if response.integrity.is_none() {
                response.take(kind, offset, value)?;
            }
        }
        if attributes.offset() != datagram.len() {
            return Err(Malformed::Attribute);
        }
        match (kind, response.error) {
            (BINDING_SUCCESS, _) => response.error = None,
            (BINDING_ERROR, Some(_)) => {}
            (BINDING_ERROR, None) => return Err(Malformed::Attribute),
            _ => return Err(Malformed::Kind),
        }
        Ok(response)
    }

    /// Is this a response at all? Whoever it is for is known by where it comes from.
    #[must_use]
    pub fn is_one(datagram: &[u8]) -> bool {
        let kind = header(datagram).map(|(kind, _)| kind);
        matches!(kind, Ok(BINDING_SUCCESS | BINDING_ERROR))
    }

    fn take(&mut self, kind: u16, offset: usize, value: &[u8]) -> Result<(), Malformed> {
        match kind {
            attribute::MESSAGE_INTEGRITY => {
                let digest = value.try_into().map_err(|_| Malformed::Attribute)?;
                self.integrity = Some((offset, digest));
            }
            attribute::ERROR_CODE => {
                let [_, _, class, number, ..] = *value else {
                    return Err(Malformed::Attribute);
                };
                let code = u16::from(class & 7) * 100 + u16::from(number);
                self.error.get_or_insert(code);
            }
            attribute::XOR_MAPPED_ADDRESS => {
                let mapped = unmasked(value, &self.transaction).ok_or(Malformed::Attribute)?;
                self.mapped.get_or_insert(mapped);
            }
            _ => {}
        }
        Ok(())
    }

    /// Does the answer carry MESSAGE-INTEGRITY at all?
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.integrity.is_some()
    }

    /// Was the answer signed with this key?
    #[must_use]
    pub fn verify(&self, key: &Key) -> bool {
        verified(self.message, self.integrity, key)
    }
}

/// The address in an XOR-MAPPED-ADDRESS. (RFC 8489 §14.2)
fn unmasked(value: &[u8], transaction: &Transaction) -> Option<SocketAddr> {
    let (&[_, family, high, low], address) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([high ^ STUN_COOKIE[0], low ^ STUN_COOKIE[1]]);
    let mask = || STUN_COOKIE.iter().chain(transaction);
    let ip = match (family, address.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(unmask::<4>(address, mask())?)),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(unmask::<16>(address, mask())?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn unmask<'a, const N: usize>(
    address: &[u8],
    mask: impl Iterator<Item = &'a u8>,
) -> Option<[u8; N]> {
    let mut bytes: [u8; N] = address.try_into().ok()?;
    bytes
        .iter_mut()
        .zip(mask)
        .for_each(|(byte, mask)| *byte ^= mask);
    Some(bytes)
}
