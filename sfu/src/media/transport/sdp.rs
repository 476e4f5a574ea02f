//! Transport: sdp.
