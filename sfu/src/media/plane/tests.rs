//! The plane as a whole: clients in memory, real handshakes and keys, virtual time.

mod client;
mod codecs;
mod dual;
mod ending;
mod forwarding;
mod hostile;
mod joining;
mod losses;
mod paths;
mod repair;
mod sightings;
mod strays;
mod world;
mod witness;
