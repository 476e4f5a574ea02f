//! Views over RTP, RTCP and payload descriptors. They never own a packet and never allocate.

pub mod header;

pub mod extension;
#[cfg(test)]
mod oracle;
pub mod red;
pub mod rtcp;
pub mod twcc;

pub mod h264;
pub mod sequence;
pub mod trailer;
pub mod vp8;
