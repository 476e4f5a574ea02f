//! Ingest: clock.
