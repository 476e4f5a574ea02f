//! Forward: select.
