//! The TURN server on real sockets: with clients of others, and with one of our own for what those
//! do not do.

mod turn {
    pub(crate) mod client;
    pub(crate) mod road;
    pub(crate) mod server;

    mod abuse;
    mod relaying;
    mod rotation;
    mod strangers;
    mod webrtc;
}
