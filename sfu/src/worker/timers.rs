//! Worker: timers.
