//! Ingest: track.
