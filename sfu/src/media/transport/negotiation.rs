//! Transport: negotiation.
