//! What the server tells for logs and metrics: plain data, no secret.

use crate::address::{AllocationId, Client};
use crate::stats::Traffic;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Something happened to an allocation or a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An allocation was made.
    Allocated {
        /// It.
        allocation: AllocationId,
        /// Whose.
        client: Client,
        /// Whose quota.
        user: String,
        /// The address told.
        relayed: SocketAddr,
    },
    /// An allocation is gone.
    Ended {
        /// It.
        allocation: AllocationId,
        /// Whose.
        client: Client,
        /// Whose quota.
        user: String,
        /// The addresses it had told, of one family or of two.
        relayed: Vec<SocketAddr>,
        /// Why.
        reason: End,
        /// How long it lived.
        lived: Duration,
        /// What it relayed.
        traffic: Traffic,
    },
    /// A request was refused after it was authenticated, or could not be.
    Refused {
        /// Whose.
        client: Client,
        /// The code of the answer.
        code: u16,
        /// Why.
        reason: Reason,
    },
}

/// How an allocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client asked for it.
    Released,
    /// It was not refreshed.
    Expired,
    /// Its connection closed.
    Closed,
    /// It was silent, and another was wanted.
    Displaced,
    /// Its user had gone for good.
    Left,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nobody knows this name, or the password is wrong.
    WrongPassword,
    /// The name is no longer good for new allocations.
    CredentialExpired,
    /// Not the name the allocation was made with.
    WrongCredentials,
    /// No allocation, or already one.
    Mismatch,
    /// Something is missing or wrong in the request.
    BadRequest,
    /// An attribute nobody knows.
    UnknownAttribute,
    /// The peer may not be reached.
    PeerDenied,
    /// Another allocation on this port talks with this peer.
    PeerTaken,
    /// Relays of this family are not offered.
    FamilyUnsupported,
    /// The peer is of another family than the relay.
    FamilyMismatch,
    /// Only UDP is relayed.
    TransportUnsupported,
    /// The user has as many allocations as he may.
    UserQuota,
    /// His address has.
    AddressQuota,
    /// The server has.
    TotalQuota,
    /// All ports of the range are this client's already.
    NoPort,
    /// The reservation is unknown or has lapsed.
    NoReservation,
    /// The allocation has as many permissions or channels as it may.
    TooManyPeers,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongPassword => "wrong name or password",
            Self::CredentialExpired => "credential expired",
            Self::WrongCredentials => "not the name of the allocation",
            Self::Mismatch => "allocation mismatch",
            Self::BadRequest => "bad request",
            Self::UnknownAttribute => "unknown attribute",
            Self::PeerDenied => "peer denied",
            Self::PeerTaken => "peer taken on this port",
            Self::FamilyUnsupported => "address family not supported",
            Self::FamilyMismatch => "peer address family mismatch",
            Self::TransportUnsupported => "unsupported transport protocol",
            Self::UserQuota => "allocation quota reached",
            Self::AddressQuota => "allocation quota of the address reached",
            Self::TotalQuota => "no more allocations",
            Self::NoPort => "no relay port left",
            Self::NoReservation => "no such reservation",
            Self::TooManyPeers => "too many peers",
        })
    }
}
