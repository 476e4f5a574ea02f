//! Worker: placement.
