//! Views over RTP, RTCP and payload descriptors. They never own a packet and never allocate.

pub mod header;

pub mod extension;
#[cfg(test)]
mod oracle;
pub mod red;
pub mod rtcp;
pub mod twcc;

pub mod sequence;
pub mod vp8;
