//! Ingest: loss.
