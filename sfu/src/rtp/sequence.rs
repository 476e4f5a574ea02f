//! Sequence arithmetic: ranges of numbers left out.
