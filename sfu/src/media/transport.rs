//! One ICE, DTLS and SRTP association with its negotiation.
pub mod candidates;
pub mod dtls;
pub mod ice;
pub mod sdp;

pub mod negotiation;
pub mod srtp;
