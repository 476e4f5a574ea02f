//! Transport: candidates.
