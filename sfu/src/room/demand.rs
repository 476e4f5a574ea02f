//! Room: demand.
