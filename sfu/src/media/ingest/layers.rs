//! Ingest: layers.
