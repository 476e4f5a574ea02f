//! Views over RTP, RTCP and payload descriptors. They never own a packet and never allocate.

pub mod header;

pub mod extension;
pub mod rtcp;
pub mod sequence;
pub mod twcc;
pub mod vp8;
