//! Http: router.
