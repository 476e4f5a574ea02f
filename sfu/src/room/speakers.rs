//! Room: speakers.
