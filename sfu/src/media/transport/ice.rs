//! Transport: ice.
