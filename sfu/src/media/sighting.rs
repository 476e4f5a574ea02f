//! What is seen of our address at the other end of a path over UDP.

use std::net::IpAddr;

/// One thing seen. Unlike an event it is no room's, and one that is lost comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// A client was asked, and sees us at an address.
    Seen {
        /// Where the client is.
        by: IpAddr,
        /// Where we are, as it says.
        at: IpAddr,
    },
    /// A client has not been heard of for longer than any client is silent: its address may have changed,
    /// or ours.
    Silent {
        /// Where the client was.
        by: IpAddr,
    },
}
