//! Room: participant.
