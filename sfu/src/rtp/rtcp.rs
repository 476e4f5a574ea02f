//! RTCP: parsing and writing of what an SFU says and hears (RFC 3550 §6, RFC 4585, RFC 5104).
