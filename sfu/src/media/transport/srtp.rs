//! Transport: srtp.
