//! Configuration as data: the key table, the checks, the sections handed out at start.

pub mod codecs;
pub mod ports;
pub mod raw;
pub mod check;
