//! MatrixRTC authorization: a Matrix OpenID token in, a LiveKit token out.
//!
//! A library with [`routes::router`] and the small trait it needs of the SFU; it never imports the
//! SFU. The order of the `mod` lines is the layer order, as in the other crates. The first block is
//! pure: it decides, and reads neither clock nor socket.
//! (The protocol is MSC4195 as the lk-jwt-service of July 2026 speaks it.)

// Pure ring.
pub mod limits;
pub mod bearer;
pub mod config;
pub mod members;
pub mod leave;
pub mod matrix;
pub mod reach;
pub mod grant;
pub mod answer;
pub mod request;
pub mod webhook;

// Shell ring.
pub mod sfu;
pub mod watch;

mod dns;
mod tls;
pub mod store;
pub mod settled;
mod fetch;
mod discovery;

pub mod openid;
pub mod standing;
pub mod twirp;
mod client_api;
pub mod delegation;
mod homeserver;
mod membership;
pub mod monitor;
pub mod routes;
pub mod app_service;

#[cfg(test)]
mod stand_in;
