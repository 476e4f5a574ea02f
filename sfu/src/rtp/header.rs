//! The RTP fixed header and its extensions' place (RFC 3550 §5.1, RFC 8285).
