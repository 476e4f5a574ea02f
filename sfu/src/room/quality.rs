//! Room: quality.
