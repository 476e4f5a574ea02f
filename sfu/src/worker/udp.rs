//! Worker: udp.
