//! Ports and port ranges, checked against each other.
