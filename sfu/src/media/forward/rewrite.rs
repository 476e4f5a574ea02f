//! Forward: rewrite.
