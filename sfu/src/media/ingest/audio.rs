//! Ingest: audio.
