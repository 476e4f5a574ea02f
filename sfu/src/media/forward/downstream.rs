//! Forward: downstream.
