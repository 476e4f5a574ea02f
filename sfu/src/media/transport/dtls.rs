//! Transport: dtls.
