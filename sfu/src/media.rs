//! The data plane of one worker, pure: datagrams, commands and time in; datagrams and events out.

pub mod message;
pub mod sighting;
pub mod packet;
pub mod counters;

pub mod demux;
pub mod ingest;
pub mod forward;
pub mod estimate;
pub mod pacer;
pub mod transport;
pub mod peer;
pub mod plane;
pub mod record;
