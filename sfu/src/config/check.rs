//! The checks: all complaints at once, each with key, cause and fix.
