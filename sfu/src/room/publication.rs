//! Room: publication.
