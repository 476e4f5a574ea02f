//! Room: permission.
