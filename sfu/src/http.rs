//! http.
pub mod admin;
pub mod router;
pub mod websocket;
