//! Ingest: upstream.
