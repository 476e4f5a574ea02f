//! Room: roster.
