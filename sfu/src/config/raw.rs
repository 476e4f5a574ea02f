//! The key table: every configuration key with type, default, documentation.
