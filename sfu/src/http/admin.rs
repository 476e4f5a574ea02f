//! Http: admin.
