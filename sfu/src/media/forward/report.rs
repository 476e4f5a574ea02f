//! Forward: report.
