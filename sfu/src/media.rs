//! The data plane of one worker, pure: datagrams, commands and time in; datagrams and events out.

pub mod message;
pub mod packet;

pub mod demux;
pub mod estimate;
pub mod forward;
pub mod ingest;
pub mod pacer;
pub mod peer;
pub mod plane;
pub mod transport;
