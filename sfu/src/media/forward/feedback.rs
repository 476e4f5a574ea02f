//! Forward: feedback.
