//! Real clients behind home routers, and servers too: each case is a call that must go by the pair of
//! candidates that the network leaves. Run with `cargo nat`; without root it is skipped.
//!
//! `TRIES=10 cargo nat first_media` prints how long clients wait for media over each path.

mod nat {
    pub(crate) mod expected;

    mod browsers;
    mod clients;
    mod first_media;
    mod home;
    mod lossy;
    mod moves;
}
