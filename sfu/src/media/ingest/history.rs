//! Ingest: history.
