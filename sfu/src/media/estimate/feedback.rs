//! Estimate: feedback.
