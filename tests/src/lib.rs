//! What whole-product tests stand on: the real binary, a signalling client, a media endpoint.
//!
//! Independent of the server on purpose: tokens are signed here, media is the `webrtc` crate's,
//! and only the generated message types are shared.

pub mod artifacts;
pub mod frames;
pub mod token;

pub mod replay;
pub mod request;
pub mod ports;
pub mod server;
pub mod alone;
pub mod certified;
pub mod room_service;
pub mod homeserver;
pub mod synapse;
pub mod space;
pub mod laboratory;
pub mod pair;
pub mod link;
pub mod road;
pub mod check;
pub mod shake;
pub mod world;
pub mod relay;
pub mod stun;
pub mod island;
pub mod framed;

pub mod endpoint;
pub mod publication;

pub mod client;
pub mod script;
pub mod pebble;
pub mod proxy;
