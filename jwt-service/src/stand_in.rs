//! Stand-ins for tests: a homeserver, a certificate authority, a DNS server, all real sockets.

pub(crate) mod authority;
pub(crate) mod dns;
pub(crate) mod homeserver;
pub(crate) mod watch;
