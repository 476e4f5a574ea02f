//! Configuration as data: the key table, the checks, the sections handed out at start.
//!
//! Owns what a configuration means. It never opens a file nor reads the environment: `settings`
//! brings the texts, and the server hands the checked sections on by value.

pub mod codecs;
pub mod ports;
pub mod cidr;
pub mod keys;
pub mod faults;
pub mod complaint;
pub mod raw;
pub mod docs;
pub mod check;
pub mod forward;
pub mod reload;
pub mod companion;
