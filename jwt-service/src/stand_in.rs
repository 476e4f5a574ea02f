//! Stand-ins for tests: a homeserver, a certificate authority, a DNS server, all real sockets;
//! and an SFU in name only.

pub(crate) mod authority;
pub(crate) mod dns;
pub(crate) mod homeserver;
pub(crate) mod rooms;
pub(crate) mod service;
pub(crate) mod watch;
