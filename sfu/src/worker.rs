//! worker.
pub mod mailbox;
pub mod placement;
pub mod timers;
pub mod udp;
