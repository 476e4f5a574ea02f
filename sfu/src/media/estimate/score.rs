//! Estimate: score.
